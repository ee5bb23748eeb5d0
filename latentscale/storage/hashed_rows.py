"""Rows of many shards by the hash of one of their columns, bucket by bucket: what is equal comes together."""

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

# Some tens of megabytes while they are joined; also the rows of one object of hashes, at most about.
BUCKET_ROWS = 1 << 18


class Hasher(Protocol):
    """Hashes columns of shards, wherever that is computed."""

    def hashes(self, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
        """Yield the hashes of ``column`` of the shards ``numbers``, as ``hashed_rows`` does."""
        ...

    def forget(self, shards: ShardTable, numbers: Ids, column: str) -> None:
        """Delete what was only kept for a process that is killed before it has used the hashes."""
        ...


class HashHere:
    """Hashes in this process, and keeps nothing.

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
        """Nothing is there."""


def hash_buckets(
    store: Store,
    shards: ShardTable,
    column: str,
    *,
    hasher: Hasher | None = None,
    bucket_rows: int = BUCKET_ROWS,
    block_rows: int = BLOCK_ROWS,
) -> Iterator[Records]:
    """Yield the rows of ``shards`` in buckets, so that rows with the same value of ``column`` are in the same one.

    A shard is read and hashed once: the workspace keeps runs of hashes, of which new ones are written for shards that
    no run has, and small ones are merged, when all buckets were taken.

    Parameters
    ----------
    store : Store
        The workspace.
    shards : ShardTable
        By offset.
    column : str
    hasher : Hasher, optional
        For the shards that no run has; by default this process.
    bucket_rows : int
        How many rows a bucket has, about.
    block_rows : int
        How many rows are written to the scratch file at a time.

    Yields
    ------
    Records
        In any order; ``shard`` is a number in ``shards``.
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
    """Hash ``column`` of the shards ``numbers`` in this process, several at a time; blank rows are left out."""

    def hashed(number: int) -> Records:
        values = read_parquet(store, document_name(str(shards.keys[number])), [column])[column]
        return _records(hash_values(values), number)

    yield from in_order(store, hashed, numbers.tolist())


def kept_rows(store: Store, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
    """The same of shards whose hashes workers left in the workspace: 16 bytes a row are read, and no text."""

    def kept(number: int) -> Records:
        key = str(shards.keys[number])
        try:
            hashes = read_hashes(store, column, key)
        except (MissingObjectError, DamagedObjectError):
            hashes = None
        if hashes is None or len(hashes.first) != int(shards.rows[number]):
            # Another run has taken them up and deleted them, or they are damaged: they follow from the shard.
            hashes = hash_values(read_parquet(store, document_name(key), [column])[column])
        return _records(hashes, number)

    yield from in_order(store, kept, numbers.tolist())


def _records(hashes: Hashes, number: int) -> Records:
    there = np.flatnonzero(hashes.there)
    return records_of(hashes.first[there], hashes.second[there], number, there)


def group_by_hash(records: Records, *ties: NDArray[np.generic]) -> tuple[Records, Ids, Ids]:
    """``records`` by their hash and by ``ties``, for each its group of the same hash, and where groups start."""
    records = records[order_by_hash(records, *ties)]
    begins = np.ones(len(records), dtype=bool)
    for half in ("first", "second"):
        column = np.ascontiguousarray(records[half])
        other = column[1:] != column[:-1]
        begins[1:] = other if half == "first" else begins[1:] | other
    return records, np.cumsum(begins) - 1, np.flatnonzero(begins)
