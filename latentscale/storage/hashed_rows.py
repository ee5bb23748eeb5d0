"""Rows of many shards, partitioned into buckets by the hash of a column, so that equal values meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import DamagedObjectError, MissingObjectError
from latentscale.storage.id_runs import RunReader, RunWriter, choose_runs, list_runs, order_by_hash, runs_to_merge
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.parquet import read_parquet
from latentscale.storage.shard_hashes import Hashes, hash_values, read_hashes
from latentscale.storage.snapshot import Ids, ShardTable, document_name
from latentscale.storage.spool import BLOCK_ROWS, Records, Spool, bits_for, records_of

# Rows of a bucket: tens of megabytes while joined; also about the largest number of rows per object of hashes.
BUCKET_ROWS = 1 << 18


class Hasher(Protocol):
    """Hashes columns of shards, locally or on workers."""

    def hashes(self, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
        """Yield the hashes of ``column`` of the shards ``numbers``; see :func:`hashed_rows`."""
        ...

    def forget(self, shards: ShardTable, numbers: Ids, column: str) -> None:
        """Delete hashes that were stored in case the process was killed before using them."""
        ...


class HashHere:
    """Hashes in this process, without storing anything.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def hashes(self, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
        """Yield the hashes of ``column`` of the shards ``numbers``."""
        return hashed_rows(self._store, shards, numbers, column)

    def forget(self, shards: ShardTable, numbers: Ids, column: str) -> None:
        """Do nothing."""


def hash_buckets(
    store: Store,
    shards: ShardTable,
    column: str,
    *,
    hasher: Hasher | None = None,
    bucket_rows: int = BUCKET_ROWS,
    block_rows: int = BLOCK_ROWS,
) -> Iterator[Records]:
    """Yield the rows of ``shards`` in buckets; rows with the same value of ``column`` are in the same bucket.

    A shard is read and hashed once: hashes are stored in runs. After the last bucket, a new run is written for shards
    that are in none, and small runs are merged.

    Parameters
    ----------
    store : Store
        The workspace.
    shards : ShardTable
        By offset.
    column : str
    hasher : Hasher, optional
        For shards that are in no run; by default this process.
    bucket_rows : int
        Approximate rows of a bucket.
    block_rows : int
        Rows written to the scratch file at a time.

    Yields
    ------
    Records
        In any order; ``shard`` is a position in ``shards``.
    """
    chosen, missing = choose_runs([run for run in list_runs(store) if run.column == column], shards.keys)
    merged = runs_to_merge(chosen, int(shards.rows[missing].sum()))
    bits = max([bits_for(int(shards.rows.sum()), bucket_rows), *(item.run.bits for item in chosen)])
    readers = [RunReader(store, item, bits) for item in chosen]
    writer = None
    if len(missing) or merged:
        kept = np.concatenate([missing, *(item.shards[item.shards >= 0] for item in merged)])
        writer = RunWriter(store, column, shards.keys, shards.rows, kept, bits=bits, bucket_rows=bucket_rows)
    hasher = hasher or HashHere(store)
    with Spool(bits, block_rows=block_rows) as spool:
        for records in hasher.hashes(shards, missing, column):
            spool.add(records)
        for bucket in range(1 << bits):
            records = np.concatenate([*(reader.bucket(bucket) for reader in readers), *spool.bucket(bucket)])
            if writer is not None:
                writer.add(records)
            yield records
    if writer is not None:
        writer.close()
    hasher.forget(shards, missing, column)


def hashed_rows(store: Store, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
    """Hash ``column`` of the shards ``numbers`` in this process, concurrently; blank rows are skipped."""

    def hashed(number: int) -> Records:
        values = read_parquet(store, document_name(str(shards.keys[number])), [column])[column]
        return _records(hash_values(values), number)

    yield from in_order(store, hashed, numbers.tolist())


def kept_rows(store: Store, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
    """Read hashes that workers stored in the workspace: 16 bytes per row."""

    def kept(number: int) -> Records:
        key = str(shards.keys[number])
        try:
            hashes = read_hashes(store, column, key)
        except (MissingObjectError, DamagedObjectError):
            hashes = None
        if hashes is None or len(hashes.first) != int(shards.rows[number]):
            # Merged and deleted by another run, or damaged: hash the shard again.
            hashes = hash_values(read_parquet(store, document_name(key), [column])[column])
        return _records(hashes, number)

    yield from in_order(store, kept, numbers.tolist())


def _records(hashes: Hashes, number: int) -> Records:
    there = np.flatnonzero(hashes.there)
    return records_of(hashes.first[there], hashes.second[there], number, there)


def group_by_hash(records: Records, *ties: NDArray[np.generic]) -> tuple[Records, Ids, Ids]:
    """Sort ``records`` by hash, then by ``ties``; also returns the group of each, and the starts of groups."""
    records = records[order_by_hash(records, *ties)]
    begins = np.ones(len(records), dtype=bool)
    for half in ("first", "second"):
        column = np.ascontiguousarray(records[half])
        other = column[1:] != column[:-1]
        begins[1:] = other if half == "first" else begins[1:] | other
    return records, np.cumsum(begins) - 1, np.flatnonzero(begins)
