"""The receipts of embedded shards: what is kept with the vectors, and what the work was like in one run."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from latentscale.storage.objects import Store
from latentscale.storage.parquet import other_version, read_footer
from latentscale.storage.snapshot import Shard, ShardTable
from latentscale.storage.vectors import vector_name

READING_THREADS = 16
_READ_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWork:
    """How a worker embedded one shard.

    Attributes
    ----------
    worker : str
        Name of its machine and number of its process.
    device : str
        ``cpu`` or ``cuda:0``, or as the embedder says.
    load_seconds : float
        Of its model, once.
    computing, waiting : float
        Seconds in the embedder, without those in which it computed the shard before; and seconds between them, in
        which nothing was computed, since the shard was not read yet or those before it not written.
    halved : int
        Batches that did not fit into the memory of the device and were computed in halves.
    """

    worker: str
    device: str
    load_seconds: float
    computing: float
    waiting: float
    halved: int = 0


class WorkClock:
    """Measures how a worker divides its time between computing and waiting.

    Parameters
    ----------
    device : str
    """

    def __init__(self, device: str) -> None:
        self._worker = f"{platform.node()}:{os.getpid()}"
        self._device = device
        self._load = 0.0
        self._lock = threading.Lock()
        self._since = self._started = time.perf_counter()

    def loaded(self, device: str | None = None) -> None:
        """The model is there, and the first shard is waited for; ``device`` where it computes on another one."""
        self._device = device or self._device
        self._since = time.perf_counter()
        self._load = self._since - self._started

    def begin(self) -> float:
        """A shard begins to be computed, maybe before the last one has ended; returns the time for ``end``."""
        return time.perf_counter()

    def end(self, began: float, halved: int) -> ShardWork:
        """A shard was computed; in any thread."""
        with self._lock:
            before, self._since = self._since, time.perf_counter()
            since = self._since
        return ShardWork(
            worker=self._worker,
            device=self._device,
            load_seconds=round(self._load, 4),
            computing=round(max(0.0, since - max(began, before)), 4),
            waiting=round(max(0.0, began - before), 4),
            halved=halved,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedReceipt:
    """The receipt of embedding one shard.

    Attributes
    ----------
    key : str
        Of the shard of documents.
    rows, embedded, unique : int
        Documents, those with a vector, different texts.
    reused : int
        Documents whose vector was there already: of an earlier shard, or of a text that several shards have.
    tokens, unknown, truncated : int
        Tokens read, those of them that the model does not know, and texts that were cut; each text counts once.
    dim : int
        0 where no document has a vector.
    languages : dict of str to int
        A sample of the texts, counted by the language that they look like.
    seconds : float
        0 where the shard existed already.
    work : ShardWork or None
        None where the shard existed already.
    failure : str
        Why a shard was given up, and has no vectors; empty where it has.
    """

    key: str
    rows: int
    embedded: int
    unique: int
    tokens: int
    unknown: int
    truncated: int
    dim: int
    reused: int = 0
    languages: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = field(default=0.0, metadata={"kept": False})
    work: ShardWork | None = field(default=None, metadata={"kept": False})
    failure: str = field(default="", metadata={"kept": False})

    def kept(self) -> dict[str, Any]:
        """What follows from the shard and the model alone, and is written with the vectors."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.metadata.get("kept", True)}


def read_receipt(store: Store, embedding_id: str, shard: Shard) -> EmbedReceipt:
    """Read the receipt of a shard of vectors."""
    return receipt_of(store, vector_name(embedding_id, shard.key), shard.key)


def receipt_of(store: Store, name: str, key: str) -> EmbedReceipt:
    """Read the receipt in the footer of an object of vectors."""
    facts = dict(read_footer(store, name).facts)
    try:
        del facts["embedding"]
        return EmbedReceipt(key=key, **facts)
    except (KeyError, TypeError) as error:
        raise other_version(store, name, error) from error


def read_embed_receipts(store: Store, embedding_id: str, shards: ShardTable) -> Iterator[EmbedReceipt]:
    """Read the receipts of shards of vectors, several at a time."""
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for begin in range(0, len(shards), _READ_AT_ONCE):
            some = [shards[at] for at in range(begin, min(begin + _READ_AT_ONCE, len(shards)))]
            yield from pool.map(partial(read_receipt, store, embedding_id), some)
