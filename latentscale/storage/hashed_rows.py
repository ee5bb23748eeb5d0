"""Rows of many shards by the hash of one of their columns, bucket by bucket: what is equal comes together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.storage.common_types import named_zones
from latentscale.storage.hashing import hash_strings
from latentscale.storage.id_runs import RunReader, RunWriter, choose_runs, list_runs, order_by_hash, runs_to_merge
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshot import Ids, ShardTable, document_name
from latentscale.storage.spool import BLOCK_ROWS, Records, Spool, bits_for, records_of

# Some tens of megabytes while they are joined; also the rows of one object of hashes, at most about.
BUCKET_ROWS = 1 << 18


def hash_buckets(
    store: Store,
    shards: ShardTable,
    column: str,
    *,
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
    with Spool(bits, block_rows=block_rows) as spool:
        for records in hashed_rows(store, shards, missing, column):
            spool.add(records)
        for bucket in range(1 << bits):
            records = np.concatenate([*(reader.bucket(bucket) for reader in readers), *spool.bucket(bucket)])
            if writer is not None:
                writer.add(records)
            yield records
    if writer is not None:
        writer.close()


def hashed_rows(store: Store, shards: ShardTable, numbers: Ids, column: str) -> Iterator[Records]:
    """Read and hash ``column`` of the shards ``numbers``, several at a time.

    Rows where it is null or blank are left out: CSV has no other way to write that a row has no id.
    """

    def hashed(number: int) -> Records:
        values = strings_of(read_parquet(store, document_name(str(shards.keys[number])), [column])[column])
        trimmed = pc.call_function("utf8_trim_whitespace", [values])
        blank = pc.call_function("equal", [trimmed, pa.scalar("", trimmed.type)])
        there = np.flatnonzero(~np.asarray(blank.fill_null(True)))
        first, second = hash_strings(values)
        return records_of(first[there], second[there], number, there)

    yield from in_order(store, hashed, numbers.tolist())


def group_by_hash(records: Records, *ties: NDArray[np.generic]) -> tuple[Records, Ids, Ids]:
    """``records`` by their hash and by ``ties``, for each its group of the same hash, and where groups start."""
    records = records[order_by_hash(records, *ties)]
    begins = np.ones(len(records), dtype=bool)
    for half in ("first", "second"):
        column = np.ascontiguousarray(records[half])
        other = column[1:] != column[:-1]
        begins[1:] = other if half == "first" else begins[1:] | other
    return records, np.cumsum(begins) - 1, np.flatnonzero(begins)


def strings_of(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array of strings; numbers and dates as polars writes them, bytes as hexadecimal digits."""
    column = column.cast(named_zones(column.type))
    if pa.types.is_binary(column.type):
        return pl.Series(pl.from_arrow(column)).bin.encode("hex").to_arrow().cast(pa.large_string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column.combine_chunks()
    return pl.Series(pl.from_arrow(column)).cast(pl.String).to_arrow().cast(pa.large_string())
