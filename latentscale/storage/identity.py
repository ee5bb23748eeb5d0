"""Which documents of a new list of shards are those of an earlier one: by their id, or else by their text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet

if TYPE_CHECKING:
    from latentscale.storage.snapshots import Shard, ShardTable, Snapshot

Ids = NDArray[np.int64]
_NO_IDS: Ids = np.empty(0, dtype=np.int64)

REJECT_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("source_row", pa.int64()),
        ("column", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("place", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """What decides who a row is.

    Attributes
    ----------
    superseded : int64 ndarray, ascending
        Places of documents whose id came again later.
    places, row_ids : int64 ndarray, by place
        Rows that are documents of an earlier shard, and the row ids that they have from there.
    """

    superseded: Ids
    places: Ids
    row_ids: Ids


def identify(
    store: Store,
    shards: Sequence[Shard],
    *,
    id_column: str | None,
    text_column: str,
    parent: Snapshot | None,
    present: ShardTable,
) -> Identities:
    """Find the superseded and the carried rows of a list of shards.

    Parameters
    ----------
    shards : sequence of Shard
        In the order of the input.
    parent : Snapshot or None
        Whose documents keep their row ids.
    present : ShardTable
        The same shards by place.

    Notes
    -----
    With an id column, a document is the same if its id is; the last of an id wins. Without one, it is the same if its
    text is, and only documents of shards that are gone can be found again in new ones, the first copy of a text for
    the first. Two 64-bit hashes stand for an id or a text, so that memory stays small.
    """
    if id_column is not None:
        return _by_id(store, shards, id_column, parent)
    if parent is None:
        return Identities(superseded=_NO_IDS, places=_NO_IDS, row_ids=_NO_IDS)
    now = set(present.keys.to_pylist())
    before = set(parent.shards.keys.to_pylist())
    held = inside(parent.carried_places, present)
    places, row_ids = parent.carried_places[held], parent.carried_row_ids[held]
    gone = [shard for shard in parent.shards if shard.key not in now]
    new = [shard for shard in shards if shard.key not in before]
    if gone and new:
        old = _hashes(store, gone, text_column)
        old = old.filter(~pl.Series(np.isin(old["place"].to_numpy(), parent.superseded)))
        copy = pl.int_range(pl.len()).over("first", "second").alias("copy")
        found = (
            _hashes(store, new, text_column)
            .with_columns(copy)
            .join(
                old.rename({"place": "earlier"}).with_columns(copy),
                on=["first", "second", "copy"],
                how="inner",
                maintain_order="left",
            )
        )
        places = np.concatenate([places, found["place"].to_numpy()])
        row_ids = np.concatenate([row_ids, parent.row_ids(found["earlier"].to_numpy())])
    order = np.argsort(places, kind="stable")
    return Identities(superseded=_NO_IDS, places=places[order], row_ids=row_ids[order])


def _by_id(store: Store, shards: Sequence[Shard], id_column: str, parent: Snapshot | None) -> Identities:
    everything = _hashes(store, shards, id_column)
    winners = everything.unique(["first", "second"], keep="last", maintain_order=True)
    lost = everything.join(winners, on="place", how="anti", maintain_order="left")["place"].to_numpy()
    places = row_ids = _NO_IDS
    if parent is not None:
        now = {shard.key for shard in shards}
        gone = _hashes(store, [shard for shard in parent.shards if shard.key not in now], id_column)
        there = everything.filter(pl.Series(inside(everything["place"].to_numpy(), parent.shards)))
        old = pl.concat([gone, there]).rename({"place": "earlier"})
        old = old.filter(~pl.Series(np.isin(old["earlier"].to_numpy(), parent.superseded)))
        found = winners.join(old, on=["first", "second"], how="inner", maintain_order="left")
        places = found["place"].to_numpy()
        row_ids = parent.row_ids(found["earlier"].to_numpy())
        moved = np.flatnonzero(places != row_ids)
        moved = moved[np.argsort(places[moved], kind="stable")]
        places, row_ids = places[moved], row_ids[moved]
    return Identities(superseded=np.sort(lost), places=places, row_ids=row_ids)


def inside(places: Ids, table: ShardTable) -> NDArray[np.bool_]:
    """Say of each place whether a shard of ``table`` has it (bool, shape (n,))."""
    if not len(table):
        return np.zeros(len(places), dtype=bool)
    owner = np.searchsorted(table.bases, places, side="right") - 1
    last = np.maximum(owner, 0)
    return (owner >= 0) & (places < (table.bases + table.rows)[last])


def _hashes(store: Store, shards: Iterable[Shard], column: str) -> pl.DataFrame:
    """``first``, ``second``, ``place`` of each row of ``shards`` whose ``column`` is not null, in their order."""
    frames = [pl.DataFrame(schema={"first": pl.UInt64, "second": pl.UInt64, "place": pl.Int64})]
    for shard in shards:
        values = pl.Series(pl.from_arrow(read_parquet(store, shard.name, [column])[column])).cast(pl.String)
        frames.append(
            pl.DataFrame(
                {
                    "first": values.hash(seed=1),
                    "second": values.hash(seed=2),
                    "place": np.arange(shard.base, shard.base + shard.rows, dtype=np.int64),
                }
            ).filter(values.is_not_null())
        )
    return pl.concat(frames)


def supersede_rejects(store: Store, shards: ShardTable, superseded: Ids, id_column: str) -> pa.Table:
    """The rejects that the superseded rows are: where they stood, and why they are no documents."""
    pieces: list[pa.Table] = []
    for shard in shards:
        start, stop = np.searchsorted(superseded, [shard.base, shard.base + shard.rows])
        if start == stop:
            continue
        rows = superseded[start:stop]
        places = read_parquet(store, shard.name, ["source", "source_row"]).take(pa.array(rows - shard.base))
        pieces.append(
            pa.table(
                {
                    "source": places["source"].cast(pa.string()),
                    "source_row": places["source_row"],
                    "column": pa.array([id_column] * len(rows), pa.string()),
                    "reason": pa.array(["superseded"] * len(rows), pa.string()),
                    "detail": pa.array(["a later document has the same id"] * len(rows), pa.string()),
                    "place": pa.array(rows, pa.int64()),
                }
            ).cast(REJECT_SCHEMA)
        )
    return pa.concat_tables(pieces) if pieces else REJECT_SCHEMA.empty_table()
