"""Snapshots: explicit lists of document shards, each with the row_id of its first row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.digest import digest
from latentscale.errors import WorkspaceError
from latentscale.storage.objects import Store
from latentscale.storage.parquet import Footer, other_version, read_footer, read_parquet, write_parquet

FOLDER = "snapshots"
LISTING_THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard of documents, in its place in a snapshot.

    Attributes
    ----------
    key : str
        Identity of the work that made it.
    name : str
        Object name, ``documents/<kk>/<key>.parquet``.
    rows : int
    base : int
        ``row_id`` of its first row.
    bytes : int
    """

    key: str
    name: str
    rows: int
    base: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """The documents that a map is made of.

    Attributes
    ----------
    id : str
        ``snapshot-<8 hex>`` of the digest of the list.
    shards : tuple of Shard
        By ``base``.
    superseded : int64 ndarray, sorted
        ``row_id`` of documents whose id came again later; they are rejects, not documents.
    empty : tuple of str
        Keys of shards without a document; their rows are rejects or were left out.
    """

    id: str
    shards: tuple[Shard, ...]
    superseded: NDArray[np.int64]
    empty: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in the shards, superseded ones included."""
        return sum(shard.rows for shard in self.shards)

    @property
    def documents(self) -> int:
        """Documents: rows that are not superseded."""
        return self.rows - len(self.superseded)

    @property
    def bytes(self) -> int:
        """Bytes of the shard objects."""
        return sum(shard.bytes for shard in self.shards)

    def kept(self, shard: Shard) -> NDArray[np.bool_]:
        """Say for each row of ``shard`` whether it is a document (bool, shape (shard.rows,))."""
        keep = np.ones(shard.rows, dtype=bool)
        start, stop = np.searchsorted(self.superseded, [shard.base, shard.base + shard.rows])
        keep[self.superseded[start:stop] - shard.base] = False
        return keep

    def locate(self, row_ids: NDArray[np.int64]) -> Iterator[tuple[Shard, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield, for each shard that holds some of ``row_ids``, (shard, rows in it, places in ``row_ids``)."""
        bases = np.array([shard.base for shard in self.shards], dtype=np.int64)
        owner = np.searchsorted(bases, row_ids, side="right") - 1
        for index in np.unique(owner):
            if index < 0:
                raise WorkspaceError(f"the snapshot {self.id} has no row_id {int(row_ids.min())}")
            shard, places = self.shards[int(index)], np.flatnonzero(owner == index)
            rows = row_ids[places] - shard.base
            if rows.max() >= shard.rows:
                raise WorkspaceError(f"the snapshot {self.id} has no row_id {int(row_ids[places].max())}")
            yield shard, rows, places


def read_footers(store: Store, names: Sequence[str]) -> list[Footer]:
    """Read many footers, several at a time."""
    if len(names) < LISTING_THREADS:
        return [read_footer(store, name) for name in names]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        return list(pool.map(partial(read_footer, store), names))


def make_snapshot(store: Store, shards: Sequence[tuple[str, str, int, int]], *, id_column: str | None) -> Snapshot:
    """Make, or find, the snapshot of these shards.

    A shard that an earlier snapshot holds keeps its base; new ones follow after the highest ``row_id`` ever given.

    Parameters
    ----------
    store : Store
        The workspace.
    shards : sequence of (key, object name, rows, bytes)
        In the order of the input. Shards without documents are listed for their rejects.
    id_column : str or None
        The last document of an id, in the order of the input, wins.
    """
    known: dict[str, int] = {}
    end = 0
    for earlier in list_snapshots(store):
        for shard in earlier.shards:
            known[shard.key] = shard.base
            end = max(end, shard.base + shard.rows)
    placed: list[Shard] = []
    empty: list[str] = []
    for key, name, rows, size in shards:
        if rows == 0:
            empty.append(key)
            continue
        base = known.get(key)
        if base is None:
            base, end = end, end + rows
        placed.append(Shard(key=key, name=name, rows=rows, base=base, bytes=size))
    input_order = list(placed)
    placed.sort(key=lambda shard: shard.base)
    order = [shard.key for shard in input_order]
    identity = digest([[[s.key, s.rows, s.base] for s in placed], id_column, order, sorted(empty)], size=4)
    snapshot_id = f"snapshot-{identity}"
    if store.exists(_name(snapshot_id)):
        return read_snapshot(store, snapshot_id)
    superseded = _supersede(store, input_order, id_column)
    # Written before the list, which is the receipt.
    if superseded.num_rows:
        write_parquet(store, superseded_name(snapshot_id), superseded, facts={"snapshot": snapshot_id})
    table = pa.table(
        {
            "key": pa.array([s.key for s in placed], pa.string()),
            "path": pa.array([s.name for s in placed], pa.string()),
            "rows": pa.array([s.rows for s in placed], pa.int64()),
            "base": pa.array([s.base for s in placed], pa.int64()),
            "bytes": pa.array([s.bytes for s in placed], pa.int64()),
        }
    )
    facts = {"superseded": superseded.num_rows, "empty": sorted(empty)}
    write_parquet(store, _name(snapshot_id), table, facts=facts)
    return Snapshot(
        id=snapshot_id,
        shards=tuple(placed),
        superseded=np.sort(superseded["row_id"].to_numpy().astype(np.int64)),
        empty=tuple(sorted(empty)),
    )


def read_snapshot(store: Store, snapshot_id: str) -> Snapshot:
    """Read a snapshot.

    Raises
    ------
    WorkspaceError
        If there is none of that id.
    """
    name = _name(snapshot_id)
    table = read_parquet(store, name)
    shards = tuple(
        Shard(key=row["key"], name=row["path"], rows=row["rows"], base=row["base"], bytes=row["bytes"])
        for row in table.to_pylist()
    )
    facts = read_footer(store, name).facts
    try:
        empty, replaced = tuple(facts["empty"]), int(facts["superseded"])
    except (KeyError, TypeError) as error:
        raise other_version(store, name, error) from error
    superseded = np.empty(0, dtype=np.int64)
    if replaced:
        superseded = np.sort(read_parquet(store, superseded_name(snapshot_id), ["row_id"])["row_id"].to_numpy())
    return Snapshot(id=snapshot_id, shards=shards, superseded=superseded, empty=empty)


def list_snapshots(store: Store) -> list[Snapshot]:
    """Read all snapshots of a workspace."""
    names = [n for n in store.list(FOLDER) if n.endswith(".parquet")]
    return [read_snapshot(store, n.removeprefix(f"{FOLDER}/").removesuffix(".parquet")) for n in names]


def superseded_name(snapshot_id: str) -> str:
    """Object that holds the rejects of a snapshot: documents whose id came again later."""
    return f"rejects/superseded-{snapshot_id}.parquet"


def _name(snapshot_id: str) -> str:
    return f"{FOLDER}/{snapshot_id}.parquet"


def _supersede(store: Store, shards: Iterable[Shard], id_column: str | None) -> pa.Table:
    """Find the rows whose id comes again later; two 64-bit hashes stand for an id, so that memory stays small."""
    frames: list[pl.DataFrame] = []
    shards = list(shards)
    if id_column is not None:
        for shard in shards:
            ids = pl.Series(pl.from_arrow(read_parquet(store, shard.name, [id_column])[id_column])).cast(pl.String)
            frames.append(
                pl.DataFrame(
                    {
                        "first": ids.hash(seed=1),
                        "second": ids.hash(seed=2),
                        "row_id": np.arange(shard.base, shard.base + shard.rows, dtype=np.int64),
                    }
                ).filter(ids.is_not_null())
            )
    lost = np.empty(0, dtype=np.int64)
    if frames:
        everything = pl.concat(frames)
        last = everything.unique(["first", "second"], keep="last", maintain_order=True)
        lost = everything.join(last, on="row_id", how="anti", maintain_order="left")["row_id"].to_numpy()
    lost_in = np.sort(lost)
    pieces: list[pa.Table] = []
    for shard in sorted(shards, key=lambda s: s.base):
        start, stop = np.searchsorted(lost_in, [shard.base, shard.base + shard.rows])
        if start == stop:
            continue
        rows = lost_in[start:stop]
        places = read_parquet(store, shard.name, ["source", "source_row"]).take(pa.array(rows - shard.base))
        pieces.append(
            pa.table(
                {
                    "source": places["source"].cast(pa.string()),
                    "source_row": places["source_row"],
                    "column": pa.array([id_column] * len(rows), pa.string()),
                    "reason": pa.array(["superseded"] * len(rows), pa.string()),
                    "detail": pa.array(["a later document has the same id"] * len(rows), pa.string()),
                    "row_id": pa.array(rows, pa.int64()),
                }
            )
        )
    schema = pa.schema(
        [
            ("source", pa.string()),
            ("source_row", pa.int64()),
            ("column", pa.string()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            ("row_id", pa.int64()),
        ]
    )
    return pa.concat_tables([piece.cast(schema) for piece in pieces]) if pieces else schema.empty_table()
