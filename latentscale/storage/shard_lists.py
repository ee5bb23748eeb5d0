"""The object that lists the shards of a snapshot, read in batches to keep only one copy of the keys in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from latentscale.storage.columns import BATCH
from latentscale.storage.objects import Store
from latentscale.storage.parquet import batches_of, open_parquet, read_facts, read_parquet, write_parquet
from latentscale.storage.snapshot import NO_SHARDS, Ids, ShardTable

FOLDER = "snapshots"

_STATES = ("documents", "empty", "retired")
# States: shards with documents; without documents; removed from the corpus (their offsets stay reserved).
LISTED, EMPTY, RETIRED = range(3)
_COLUMNS = ("key", "rows", "base", "bytes", "state")


def list_name(snapshot_id: str) -> str:
    """Return the name of the object that lists the shards of a snapshot."""
    return f"{FOLDER}/{snapshot_id}.parquet"


def write_list(
    store: Store,
    snapshot_id: str,
    table: ShardTable,
    order: Ids,
    empty: tuple[str, ...],
    retired: ShardTable,
    *,
    facts: Mapping[str, Any],
) -> None:
    """Write the list of the shards of a snapshot.

    Parameters
    ----------
    table, retired : ShardTable
        Sorted by offset.
    order : int64 ndarray, shape (len(table),)
        Position in input order of each shard of ``table``.
    empty : tuple of str
        Keys of shards without documents.
    """
    nothing = np.zeros(len(empty), dtype=np.int64)
    without = ShardTable(keys=pa.array(empty, pa.string()), rows=nothing, bases=nothing, bytes=nothing)
    whole = table.concat(without).concat(retired)
    counts = [len(table), len(empty), len(retired)]
    frame = pl.DataFrame(
        {
            "key": pl.Series(pl.from_arrow(whole.keys), dtype=pl.String),
            "rows": whole.rows,
            "base": whole.bases,
            "bytes": whole.bytes,
            "order": np.concatenate([order, np.zeros(counts[1] + counts[2], np.int64)]).astype(np.uint32),
            "state": np.repeat(np.array([LISTED, EMPTY, RETIRED], np.int8), counts),
        }
    ).with_columns(path=pl.format("documents/{}/{}.parquet", pl.col("key").str.head(2), pl.col("key")))
    written = frame.select("key", "path", "rows", "base", "bytes", "order", "state").to_arrow()
    write_parquet(store, list_name(snapshot_id), written, facts={**facts, "states": list(_STATES)})


def read_list(store: Store, snapshot_id: str, *states: int) -> list[ShardTable]:
    """Read the shards of a snapshot's list: one table for each of ``states``."""
    return read_whole_list(store, snapshot_id, *states)[1]


def read_whole_list(store: Store, snapshot_id: str, *states: int) -> tuple[dict[str, Any], list[ShardTable]]:
    """Read the metadata of a snapshot's list, and its shards: one table for each of ``states``."""
    name = list_name(snapshot_id)
    pieces: list[list[ShardTable]] = [[NO_SHARDS] for _ in states]
    with open_parquet(store, name) as file:
        facts = read_facts(store, name, file)
        for tables in _batches(file, states):
            for held, table in zip(pieces, tables, strict=True):
                if len(table):
                    held.append(table)
    return facts, [
        ShardTable(
            keys=pa.concat_arrays([piece.keys for piece in held]),
            rows=np.concatenate([piece.rows for piece in held]),
            bases=np.concatenate([piece.bases for piece in held]),
            bytes=np.concatenate([piece.bytes for piece in held]),
        )
        for held in pieces
    ]


def read_list_batches(store: Store, snapshot_id: str, *states: int) -> Iterator[list[ShardTable]]:
    """Read the list of a snapshot in batches: for each, one table for each of ``states``."""
    with open_parquet(store, list_name(snapshot_id)) as file:
        yield from _batches(file, states)


def _batches(file: pq.ParquetFile, states: Sequence[int]) -> Iterator[list[ShardTable]]:
    for batch in batches_of(file, _COLUMNS, batch_rows=BATCH):
        rows, bases, sizes = (batch[name].to_numpy() for name in ("rows", "base", "bytes"))
        whole = ShardTable(keys=batch["key"].cast(pa.string()), rows=rows, bases=bases, bytes=sizes)
        state = batch["state"].to_numpy()
        yield [whole if np.all(state == wanted) else whole.take(np.flatnonzero(state == wanted)) for wanted in states]


def read_order(store: Store, snapshot_id: str) -> Ids:
    """Read the position in input order of each shard with documents (uint32, shape (n,))."""
    held = read_parquet(store, list_name(snapshot_id), ["order", "state"])
    return held["order"].to_numpy()[held["state"].to_numpy() == LISTED]
