"""Snapshots: explicit lists of document shards, each with the place of its first row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import overload

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.errors import WorkspaceError
from latentscale.storage.identity import Identities, identify, inside, supersede_rejects
from latentscale.storage.objects import Store
from latentscale.storage.parquet import Footer, other_version, read_footer, read_parquet, write_parquet

FOLDER = "snapshots"
LISTING_THREADS = 16

Ids = NDArray[np.int64]
_NO_IDS: Ids = np.empty(0, dtype=np.int64)
_STATES = ("documents", "empty", "retired")


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
        Place of its first row.
    bytes : int
    """

    key: str
    name: str
    rows: int
    base: int
    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class ShardTable(Sequence[Shard]):
    """The shards of a snapshot by ``base``, as columns: a million of them take tens of megabytes.

    Attributes
    ----------
    keys : pyarrow.StringArray, shape (n,)
    rows, bases, bytes : int64 ndarray, shape (n,)
    """

    keys: pa.StringArray
    rows: Ids
    bases: Ids
    bytes: Ids

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Shard: ...
    @overload
    def __getitem__(self, index: slice) -> ShardTable: ...
    def __getitem__(self, index: int | slice) -> Shard | ShardTable:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        key = str(self.keys[index])
        return Shard(
            key=key,
            name=document_name(key),
            rows=int(self.rows[index]),
            base=int(self.bases[index]),
            bytes=int(self.bytes[index]),
        )

    def take(self, places: Ids) -> ShardTable:
        """The shards at ``places`` of this table, in that order."""
        return ShardTable(
            keys=self.keys.take(pa.array(places, pa.int64())),
            rows=self.rows[places],
            bases=self.bases[places],
            bytes=self.bytes[places],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """The documents that a map is made of.

    A row has a *place*, the ``base`` of its shard and its number there. Its ``row_id`` is its place too, unless the
    document was in an earlier shard already: a renamed or rewritten file keeps the row ids of what it still holds.

    Attributes
    ----------
    id : str
        ``snapshot-<8 hex>`` of the digest of the list.
    shards : ShardTable
        By ``base``.
    superseded : int64 ndarray, sorted
        Places of documents whose id came again later; they are rejects, not documents.
    empty : tuple of str
        Keys of shards without a document; their rows are rejects or were left out.
    carried_places, carried_row_ids : int64 ndarray
        The rows whose ``row_id`` is not their place, by place.
    """

    id: str
    shards: ShardTable
    superseded: Ids
    empty: tuple[str, ...] = ()
    carried_places: Ids = field(default_factory=lambda: _NO_IDS)
    carried_row_ids: Ids = field(default_factory=lambda: _NO_IDS)

    @property
    def rows(self) -> int:
        """Rows in the shards, superseded ones included."""
        return int(self.shards.rows.sum())

    @property
    def documents(self) -> int:
        """Documents: rows that are not superseded."""
        return self.rows - len(self.superseded)

    @property
    def bytes(self) -> int:
        """Bytes of the shard objects."""
        return int(self.shards.bytes.sum())

    def shards_without(self, other: Snapshot | None) -> ShardTable:
        """The shards that ``other`` does not have."""
        if other is None:
            return self.shards
        options = pc.SetLookupOptions(other.shards.keys)
        known = pc.call_function("is_in", [self.shards.keys], options)
        return self.shards.take(np.flatnonzero(~np.asarray(known)))

    def kept(self, shard: Shard) -> NDArray[np.bool_]:
        """Say for each row of ``shard`` whether it is a document (bool, shape (shard.rows,))."""
        keep = np.ones(shard.rows, dtype=bool)
        start, stop = np.searchsorted(self.superseded, [shard.base, shard.base + shard.rows])
        keep[self.superseded[start:stop] - shard.base] = False
        return keep

    def row_ids(self, places: Ids) -> Ids:
        """The ``row_id`` of the rows at ``places`` (int64, shape (n,))."""
        return _looked_up(places, self.carried_places, self.carried_row_ids)

    def places(self, row_ids: Ids) -> Ids:
        """Where the documents ``row_ids`` stand (int64, shape (n,)); whether the snapshot has them is not checked."""
        order = np.argsort(self.carried_row_ids)
        return _looked_up(row_ids, self.carried_row_ids[order], self.carried_places[order])

    def locate(self, row_ids: Ids) -> Iterator[tuple[Shard, Ids, Ids]]:
        """Yield, for each shard that holds some of ``row_ids``, (shard, rows in it, positions in ``row_ids``).

        Raises
        ------
        WorkspaceError
            If the snapshot has no such document.
        """
        places = self.places(row_ids)
        owner = np.searchsorted(self.shards.bases, places, side="right") - 1
        for index in np.unique(owner):
            positions = np.flatnonzero(owner == index)
            if index < 0:
                raise WorkspaceError(f"the snapshot {self.id} has no row_id {int(row_ids[positions].min())}")
            shard = self.shards[int(index)]
            rows = places[positions] - shard.base
            if rows.max() >= shard.rows:
                raise WorkspaceError(f"the snapshot {self.id} has no row_id {int(row_ids[positions].max())}")
            yield shard, rows, positions


def _looked_up(values: Ids, known: Ids, results: Ids) -> Ids:
    """Replace those of ``values`` that are among the ascending ``known`` by their ``results``."""
    if not len(known):
        return values
    found = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[found] == values, results[found], values)


def document_name(key: str) -> str:
    """Object of a shard of documents."""
    return f"documents/{key[:2]}/{key}.parquet"


def superseded_name(snapshot_id: str) -> str:
    """Object that holds the rejects of a snapshot: documents whose id came again later."""
    return f"rejects/superseded-{snapshot_id}.parquet"


def carried_name(snapshot_id: str) -> str:
    """Object that holds the row ids that a snapshot's documents have from earlier shards."""
    return f"{FOLDER}/carried-{snapshot_id}.parquet"


def groups_name(snapshot_id: str) -> str:
    """Object that says which small files were read together."""
    return f"{FOLDER}/groups-{snapshot_id}.parquet"


def _name(snapshot_id: str) -> str:
    return f"{FOLDER}/{snapshot_id}.parquet"


def read_footers(store: Store, names: Sequence[str]) -> list[Footer]:
    """Read many footers, several at a time."""
    if len(names) < 2 or (store.is_local and len(names) < LISTING_THREADS):
        return [read_footer(store, name) for name in names]
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        return list(pool.map(partial(read_footer, store), names))


# --------------------------------------------------------------------------------------------------------------- make


def make_snapshot(
    store: Store,
    shards: pl.DataFrame,
    *,
    id_column: str | None,
    text_column: str,
    parent: Snapshot | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Snapshot:
    """Make, or find, the snapshot of these shards.

    A shard that was ever known in the line of ``parent`` keeps its base; new ones follow after the highest place ever
    given. Where a shard of ``parent`` is gone, new shards take over the row ids of the documents that they still hold:
    those of the same id, or of the same text where there is no id column.

    Parameters
    ----------
    store : Store
        The workspace.
    shards : polars.DataFrame
        ``key``, ``rows``, ``bytes`` in the order of the input. Shards without documents are listed for their rejects.
    id_column : str or None
        The last document of an id, in the order of the input, wins.
    text_column : str
        Tells documents apart where there is no id column.
    parent : Snapshot, optional
        Of the map that is grown.
    groups : mapping of str to sequence of str, optional
        Which files were read together, kept for the next plan (``read_groups``).
    """
    wanted = shards.with_row_index("order")
    known, end = _known(store, parent)
    placed = wanted.filter(pl.col("rows") > 0).join(
        known.select("key", "base"), on="key", how="left", maintain_order="left"
    )
    fresh = placed["base"].is_null().to_numpy()
    bases = placed["base"].fill_null(0).to_numpy().copy()
    grown = np.where(fresh, placed["rows"].to_numpy(), 0)
    bases[fresh] = (end + np.cumsum(grown) - grown)[fresh]
    end = max(end + int(grown.sum()), int((bases + placed["rows"].to_numpy()).max(initial=0)))
    placed = placed.with_columns(pl.Series("base", bases)).sort("base")
    empty = tuple(sorted(wanted.filter(pl.col("rows") == 0)["key"].to_list()))
    table = _shard_table(placed)
    if parent is not None and _same(table, empty, placed, parent, store, ordered=id_column is not None):
        return parent
    identities = identify(
        store,
        [table[int(i)] for i in np.argsort(placed["order"].to_numpy())] if _matters(id_column, table, parent) else [],
        id_column=id_column,
        text_column=text_column,
        parent=parent,
        present=table,
    )
    snapshot_id = f"snapshot-{_digest(placed, empty, id_column, identities)}"
    if store.exists(_name(snapshot_id)):
        return read_snapshot(store, snapshot_id)
    if groups:
        _write_groups(store, snapshot_id, groups)
    _write(store, snapshot_id, placed, empty, known, end, identities, id_column, parent)
    return Snapshot(
        id=snapshot_id,
        shards=table,
        superseded=identities.superseded,
        empty=empty,
        carried_places=identities.places,
        carried_row_ids=identities.row_ids,
    )


def _write_groups(store: Store, snapshot_id: str, groups: Mapping[str, Sequence[str]]) -> None:
    table = pa.table(
        {
            "unit": pa.array([unit for unit, files in groups.items() for _ in files], pa.string()).dictionary_encode(),
            "fingerprint": pa.array([file for files in groups.values() for file in files], pa.string()),
        }
    )
    write_parquet(store, groups_name(snapshot_id), table, facts={"snapshot": snapshot_id})


def read_groups(store: Store, snapshot: Snapshot | None) -> dict[str, list[str]]:
    """Which small files were read together: their fingerprints, in order, by the unit's key."""
    if snapshot is None or not store.exists(groups_name(snapshot.id)):
        return {}
    table = read_parquet(store, groups_name(snapshot.id))
    found: dict[str, list[str]] = {}
    for unit, file in zip(table["unit"].to_pylist(), table["fingerprint"].to_pylist(), strict=True):
        found.setdefault(unit, []).append(file)
    return found


def _matters(id_column: str | None, table: ShardTable, parent: Snapshot | None) -> bool:
    return id_column is not None or parent is not None


def _same(
    table: ShardTable,
    empty: tuple[str, ...],
    placed: pl.DataFrame,
    parent: Snapshot,
    store: Store,
    *,
    ordered: bool,
) -> bool:
    """Whether the shards are those of ``parent``; where ids decide who wins, in the same order too."""
    if empty != parent.empty or not table.keys.equals(parent.shards.keys):
        return False
    if not ordered:
        return True
    held = read_parquet(store, _name(parent.id), ["order", "state"])
    order = held["order"].to_numpy()[held["state"].to_numpy() == 0]
    return bool(np.array_equal(np.argsort(order), np.argsort(placed["order"].to_numpy())))


def _write(
    store: Store,
    snapshot_id: str,
    placed: pl.DataFrame,
    empty: tuple[str, ...],
    known: pl.DataFrame,
    end: int,
    identities: Identities,
    id_column: str | None,
    parent: Snapshot | None,
) -> None:
    # Written before the list, which is the receipt.
    if len(identities.superseded):
        rejects = supersede_rejects(store, _shard_table(placed), identities.superseded, str(id_column))
        write_parquet(store, superseded_name(snapshot_id), rejects, facts={"snapshot": snapshot_id})
    if len(identities.places):
        carried = pa.table({"place": pa.array(identities.places), "row_id": pa.array(identities.row_ids)})
        write_parquet(store, carried_name(snapshot_id), carried, facts={"snapshot": snapshot_id})
    listed = placed.select("key", "rows", "base", "bytes", "order").with_columns(state=pl.lit(0, pl.Int8))
    nothing = pl.DataFrame({"key": list(empty)}, schema={"key": pl.String}).with_columns(
        rows=pl.lit(0, pl.Int64),
        base=pl.lit(0, pl.Int64),
        bytes=pl.lit(0, pl.Int64),
        order=pl.lit(0, pl.UInt32),
        state=pl.lit(1, pl.Int8),
    )
    # A shard that left the corpus keeps its places: should it come back, its documents have their row ids again.
    gone = (
        known.join(placed, on="key", how="anti", maintain_order="left")
        .sort("base")
        .select("key", "rows", "base", "bytes", order=pl.lit(0, pl.UInt32), state=pl.lit(2, pl.Int8))
    )
    rows = pl.concat([listed.with_columns(pl.col("order").cast(pl.UInt32)), nothing, gone]).with_columns(
        path=pl.format("documents/{}/{}.parquet", pl.col("key").str.head(2), pl.col("key"))
    )
    facts = {
        "superseded": len(identities.superseded),
        "carried": len(identities.places),
        "parent": parent.id if parent else None,
        "end": end,
        "states": list(_STATES),
    }
    table = rows.select("key", "path", "rows", "base", "bytes", "order", "state").to_arrow()
    write_parquet(store, _name(snapshot_id), table, facts=facts)


def _digest(placed: pl.DataFrame, empty: tuple[str, ...], id_column: str | None, identities: Identities) -> str:
    state = hashlib.blake2b(digest_size=4)
    state.update(repr((len(placed), id_column)).encode())
    state.update("\n".join([*placed["key"].to_list(), "", *empty]).encode())
    for column in ("rows", "base"):
        state.update(placed[column].to_numpy().astype("<i8").tobytes())
    if id_column is not None:
        # Who comes last decides which document of an id stays.
        state.update(np.argsort(placed["order"].to_numpy(), kind="stable").astype("<i8").tobytes())
    state.update(identities.places.astype("<i8").tobytes() + identities.row_ids.astype("<i8").tobytes())
    return state.hexdigest()


def _known(store: Store, parent: Snapshot | None) -> tuple[pl.DataFrame, int]:
    """The shards that have places already, with ``key``, ``rows``, ``base``, ``bytes``; and the first free place.

    Those of ``parent``, which lists what its own line ever had; then those of snapshots that are not of its line, such
    as one whose run was killed before its map was there. Two runs at once may have given the same places to different
    shards: those of ``parent`` stay, and the other's shards get new ones.
    """
    names = {snapshot_id: _name(snapshot_id) for snapshot_id in list_snapshot_ids(store)}
    facts = {
        snapshot_id: footer.facts
        for snapshot_id, footer in zip(names, read_footers(store, list(names.values())), strict=True)
    }
    end = 0
    for snapshot_id, held in facts.items():
        try:
            end = max(end, int(held["end"]))
        except (KeyError, TypeError) as error:
            raise other_version(store, names[snapshot_id], error) from error
    line: list[str] = []
    step = parent.id if parent else None
    while step is not None and step in facts and step not in line:
        line.append(step)
        step = facts[step]["parent"]
    known = pl.DataFrame(schema={"key": pl.String, "rows": pl.Int64, "base": pl.Int64, "bytes": pl.Int64})
    for snapshot_id in [*line[:1], *sorted(set(facts) - set(line))]:
        table = read_parquet(store, names[snapshot_id], ["key", "rows", "base", "bytes", "state"])
        more = pl.DataFrame(pl.from_arrow(table)).filter(pl.col("state") != 1).drop("state")
        if len(known):
            more = more.join(known, on="key", how="anti", maintain_order="left")
            begins = np.sort(known["base"].to_numpy())
            ends = np.sort((known["base"] + known["rows"]).to_numpy())
            first = np.searchsorted(ends, more["base"].to_numpy(), side="right")
            last = np.searchsorted(begins, (more["base"] + more["rows"]).to_numpy(), side="left")
            more = more.filter(pl.Series(first >= last))
        known = pl.concat([known, more])
    return known, end


def _shard_table(placed: pl.DataFrame) -> ShardTable:
    return ShardTable(
        keys=placed["key"].to_arrow().cast(pa.string()),
        rows=placed["rows"].to_numpy().astype(np.int64),
        bases=placed["base"].to_numpy().astype(np.int64),
        bytes=placed["bytes"].to_numpy().astype(np.int64),
    )


def without_shards(store: Store, snapshot: Snapshot, keys: Sequence[str]) -> Snapshot:
    """Make the snapshot of the same documents without those of the shards ``keys``, whose places stay taken."""
    left = np.flatnonzero(~np.isin(np.asarray(snapshot.shards.keys.to_pylist(), dtype=str), list(keys)))
    table = snapshot.shards.take(left)
    placed = pl.DataFrame(
        {
            "key": pl.Series(table.keys.to_pylist(), dtype=pl.String),
            "rows": table.rows,
            "base": table.bases,
            "bytes": table.bytes,
            "order": np.arange(len(left), dtype=np.uint32),
        }
    )
    held = inside(snapshot.carried_places, table)
    identities = Identities(
        superseded=snapshot.superseded[inside(snapshot.superseded, table)],
        places=snapshot.carried_places[held],
        row_ids=snapshot.carried_row_ids[held],
    )
    snapshot_id = f"snapshot-{_digest(placed, snapshot.empty, 'quarantine', identities)}"
    if not store.exists(_name(snapshot_id)):
        known, end = _known(store, snapshot)
        _write(store, snapshot_id, placed, snapshot.empty, known, end, identities, None, snapshot)
    return read_snapshot(store, snapshot_id)


# --------------------------------------------------------------------------------------------------------------- read


def read_snapshot(store: Store, snapshot_id: str) -> Snapshot:
    """Read a snapshot.

    Raises
    ------
    WorkspaceError
        If there is none of that id.
    """
    name = _name(snapshot_id)
    table = pl.DataFrame(pl.from_arrow(read_parquet(store, name, ["key", "rows", "base", "bytes", "state"])))
    facts = read_footer(store, name).facts
    try:
        replaced, carried = int(facts["superseded"]), int(facts["carried"])
    except (KeyError, TypeError) as error:
        raise other_version(store, name, error) from error
    superseded = _NO_IDS
    if replaced:
        superseded = np.sort(read_parquet(store, superseded_name(snapshot_id), ["place"])["place"].to_numpy())
    places = row_ids = _NO_IDS
    if carried:
        held = read_parquet(store, carried_name(snapshot_id))
        places, row_ids = held["place"].to_numpy(), held["row_id"].to_numpy()
    return Snapshot(
        id=snapshot_id,
        shards=_shard_table(table.filter(pl.col("state") == 0)),
        superseded=superseded,
        empty=tuple(table.filter(pl.col("state") == 1)["key"].to_list()),
        carried_places=places,
        carried_row_ids=row_ids,
    )


def list_snapshot_ids(store: Store) -> list[str]:
    """The ids of all snapshots of a workspace."""
    names = [n.removeprefix(f"{FOLDER}/").removesuffix(".parquet") for n in store.list(FOLDER)]
    return [name for name in names if name.startswith("snapshot-")]


def list_snapshots(store: Store) -> list[Snapshot]:
    """Read all snapshots of a workspace."""
    return [read_snapshot(store, snapshot_id) for snapshot_id in list_snapshot_ids(store)]
