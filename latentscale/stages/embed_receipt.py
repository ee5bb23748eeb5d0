"""Receipts of embedded shards, and measurements of the work in one run."""

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
    """Measurements of a worker embedding one shard.

    Attributes
    ----------
    worker : str
        Host name and process id.
    device : str
        ``cpu`` or ``cuda:0``, or as reported by the embedder.
    load_seconds : float
        Time to load the model, reported once.
    computing, waiting : float
        Seconds in the embedder, without overlap with the previous shard; and idle seconds before it, waiting for the
        shard to be read or earlier ones to be written.
    halved : int
        Batches that did not fit in the device's memory and were split.
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
        """Record that the model is loaded; ``device`` if it computes on another one."""
        self._device = device or self._device
        self._since = time.perf_counter()
        self._load = self._since - self._started

    def begin(self) -> float:
        """Record the start of a shard, possibly before the previous one has ended; returns the time for ``end``."""
        return time.perf_counter()

    def end(self, began: float, halved: int) -> ShardWork:
        """Record the end of a shard; may be called in any thread."""
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
        Key of the shard of documents.
    rows, embedded, unique : int
        Numbers of documents, of those with a vector, and of distinct texts.
    reused : int
        Documents whose vector was reused, from an earlier shard or a shared text.
    tokens, unknown, truncated : int
        Tokens, those unknown to the model, and truncated texts; each distinct text counts once.
    dim : int
        0 if no document has a vector.
    languages : dict of str to int
        Counts of detected languages in a sample of the texts.
    seconds : float
        0 if the shard existed already.
    work : ShardWork or None
        None if the shard existed already.
    failure : str
        Why the shard was quarantined; empty if it has vectors.
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
        """The part that depends only on the shard and the model, written with the vectors."""
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
    """Read the receipts of shards of vectors concurrently."""
    with ThreadPoolExecutor(READING_THREADS) as pool:
        for begin in range(0, len(shards), _READ_AT_ONCE):
            some = [shards[at] for at in range(begin, min(begin + _READ_AT_ONCE, len(shards)))]
            yield from pool.map(partial(read_receipt, store, embedding_id), some)
