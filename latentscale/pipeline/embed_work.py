"""Statistics of embedding workers: rates, waiting and loading times; and a check of vector widths."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentscale.errors import CorpusError
from latentscale.stages.embed_receipt import EmbedReceipt
from latentscale.storage.receipts import Receipts

# Largest number of workers listed individually, slowest first: thousands would dominate the record.
LISTED = 64
# Seconds between updates of the rates in the record of a running run.
WRITTEN_EVERY = 60.0


@dataclass(slots=True, kw_only=True)
class _Worker:
    device: str
    load_seconds: float
    shards: int = 0
    documents: int = 0
    tokens: int = 0
    computing: float = 0.0
    waiting: float = 0.0
    halved: int = 0

    def as_json(self, name: str) -> dict[str, Any]:
        busy = self.computing + self.waiting
        return {
            "worker": name,
            "device": self.device,
            "shards": self.shards,
            "documents": self.documents,
            "tokens": self.tokens,
            "computing_seconds": round(self.computing, 3),
            "waiting_seconds": round(self.waiting, 3),
            "waiting_share": round(self.waiting / busy, 4) if busy else None,
            "load_seconds": round(self.load_seconds, 3),
            "documents_per_second": _rate(self.documents, busy),
            "tokens_per_second": _rate(self.tokens, busy),
            "halved": self.halved,
        }


class EmbedWork:
    """Aggregates receipts of a run by worker.

    Parameters
    ----------
    report : callable
        Receives the figures every minute, so that other processes can read them.
    """

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self._workers: dict[str, _Worker] = {}
        self._report = report
        self._started = self._reported = time.monotonic()

    def add(self, receipt: EmbedReceipt) -> None:
        """Count one shard."""
        work = receipt.work
        if work is None:
            return
        worker = self._workers.setdefault(work.worker, _Worker(device=work.device, load_seconds=work.load_seconds))
        worker.shards += 1
        worker.documents += receipt.rows - receipt.reused
        worker.tokens += receipt.tokens
        worker.computing += work.computing
        worker.waiting += work.waiting
        worker.halved += work.halved
        if time.monotonic() - self._reported >= WRITTEN_EVERY:
            self._reported = time.monotonic()
            self._report(self.as_json())

    def __bool__(self) -> bool:
        return bool(self._workers)

    def as_json(self) -> dict[str, Any]:
        """Return the figures so far, in total and by worker.

        Returns
        -------
        dict
            ``workers`` (how many), ``devices`` (workers by device), ``documents``, ``tokens``, ``seconds`` (wall time),
            ``documents_per_second``, ``tokens_per_second`` (of all, by wall time), ``computing_seconds``,
            ``waiting_seconds``, ``waiting_share``, ``load_seconds`` (the longest), ``halved``; ``by_worker``: a list of
            up to 64, the slowest first. Documents whose vectors were known before are not counted.
        """
        seconds = time.monotonic() - self._started
        workers = list(self._workers.values())
        computing, waiting = sum(one.computing for one in workers), sum(one.waiting for one in workers)
        documents, tokens = sum(one.documents for one in workers), sum(one.tokens for one in workers)
        listed = [one.as_json(name) for name, one in self._workers.items()]
        listed.sort(key=lambda one: (one["documents_per_second"] or 0.0, one["worker"]))
        devices = sorted({one.device for one in workers})
        return {
            "workers": len(workers),
            "devices": {device: sum(one.device == device for one in workers) for device in devices},
            "documents": documents,
            "tokens": tokens,
            "seconds": round(seconds, 3),
            "documents_per_second": _rate(documents, seconds),
            "tokens_per_second": _rate(tokens, seconds),
            "computing_seconds": round(computing, 3),
            "waiting_seconds": round(waiting, 3),
            "waiting_share": round(waiting / (computing + waiting), 4) if computing + waiting else None,
            "load_seconds": round(max((one.load_seconds for one in workers), default=0.0), 3),
            "halved": sum(one.halved for one in workers),
            "by_worker": listed[:LISTED],
        }


class Widths:
    """Checks that the vectors of all shards have the same width.

    Parameters
    ----------
    described : callable
        Returns a readable name of a shard, given its key.
    on_map : int, optional
        The width of the vectors of the map that grows by these shards.
    """

    def __init__(self, described: Callable[[str], str], *, on_map: int | None = None) -> None:
        self._described = described
        self._on_map = on_map
        self._first: tuple[str, int] | None = None

    def add_all(self, receipts: Receipts) -> None:
        """Check shards that were embedded earlier.

        Raises
        ------
        CorpusError
            Naming two shards of different widths.
        """
        widths = receipts.numbers("dim")
        some = np.flatnonzero(receipts.numbers("embedded") > 0)
        if not len(some):
            return
        _, places = np.unique(widths[some], return_index=True)
        for place in sorted(some[places].tolist()):
            self.add(str(receipts.keys[place].as_py()), int(widths[place]))

    def add(self, key: str, width: int) -> None:
        """Check another shard with vectors.

        Raises
        ------
        CorpusError
            Naming both shards, or the shard and the map, if the widths differ.
        """
        if self._on_map is not None and width != self._on_map:
            raise CorpusError(
                f"the vectors of {self._described(key)} have {width:,} numbers, those of the map {self._on_map:,}",
                where=f"shard {key}",
                hint="A map grows by vectors of the model that it was made with; vectors of another one make a new "
                "map, in another folder.",
            )
        if self._first is None:
            self._first = key, width
            return
        first, known = self._first
        if width != known:
            raise CorpusError(
                f"the vectors of the corpus have different widths: {known:,} in {self._described(first)}, "
                f"{width:,} in {self._described(key)}",
                where=f"shards {first} and {key}",
                hint="All vectors of an embedding come from one model: give the vectors of one, or where a service "
                "changed its model, name the new one in the settings.",
            )


def _rate(count: int, seconds: float) -> float | None:
    return round(count / seconds, 1) if seconds > 0 else None
