"""Hashes of one column of each shard, to find equal ids or texts without reading texts on the driver."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa

from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.shard_hashes import Hashes, hash_values, hashes_name, write_hashes
from latentscale.storage.snapshot import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class HashReceipt:
    """The receipt of the hashes of one shard.

    Attributes
    ----------
    key : str
        Key of the shard of documents.
    rows : int
    seconds : float
        0 if the hashes existed already.
    """

    key: str
    rows: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A column that was read; None if its hashes exist already."""

    started: float
    column: pa.ChunkedArray | None
    hashes: Hashes | None = None


class HashWorker:
    """Hashes shards in three steps: read the column, hash it, write the hashes as one object.

    Parameters
    ----------
    store : Store
        The workspace.
    column : str
        Stored name of the id or of the text.
    """

    def __init__(self, store: Store, column: str) -> None:
        self._store = store
        self._column = column

    def __call__(self, shard: Shard) -> HashReceipt:
        """Hash one shard, unless its hashes exist."""
        return self.write(shard, self.compute(self.read(shard)))

    def read(self, task: Shard) -> Read:
        """Read the column."""
        started = time.perf_counter()
        if self._store.exists(hashes_name(self._column, task.key)):
            return Read(started=started, column=None)
        return Read(started=started, column=read_parquet(self._store, task.name, [self._column])[self._column])

    def compute(self, loaded: Read) -> Read:
        """Hash it."""
        if loaded.column is None:
            return loaded
        return Read(started=loaded.started, column=None, hashes=hash_values(loaded.column))

    def write(self, task: Shard, computed: Read) -> HashReceipt:
        """Write the hashes, whose object is the receipt."""
        if computed.hashes is None:
            return HashReceipt(key=task.key, rows=task.rows)
        write_hashes(self._store, self._column, task.key, computed.hashes)
        return HashReceipt(key=task.key, rows=task.rows, seconds=round(time.perf_counter() - computed.started, 4))
