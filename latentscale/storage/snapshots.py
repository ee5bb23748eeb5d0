"""Snapshots: explicit lists of document shards, each with the offset of its first row."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from latentscale.errors import MissingObjectError, WorkspaceError
from latentscale.machine import release_memory
from latentscale.storage.columns import BATCH, indices
from latentscale.storage.hashed_rows import Hasher
from latentscale.storage.identity import Identities, also_known, identify, supersede_rejects, taken_from_others
from latentscale.storage.key_index import KeyIndex
from latentscale.storage.objects import Store
from latentscale.storage.parquet import Footer, other_version, read_footer, read_parquet, write_parquet
from latentscale.storage.shard_lists import (
    EMPTY,
    FOLDER,
    LISTED,
    RETIRED,
    list_name,
    read_list,
    read_list_batches,
    read_order,
    read_whole_list,
    write_list,
)
from latentscale.storage.snapshot import NO_IDS, NO_SHARDS, Ids, ShardTable, Snapshot, inside

LISTING_THREADS = 16
# The reason of a reject that a selection leaves out.
EXCLUDED = "excluded"
# Snapshots after the one of a map that was gone back to, of which identities are read: a join of all ids for each.
MAX_LATER = 8


def superseded_name(snapshot_id: str) -> str:
    """Object that holds the rejects of a snapshot: documents replaced by a later one with the same id."""
    return f"rejects/superseded-{snapshot_id}.parquet"


def carried_name(snapshot_id: str) -> str:
    """Object that holds the row ids that a snapshot's documents have from earlier shards."""
    return f"{FOLDER}/carried-{snapshot_id}.parquet"


def groups_name(snapshot_id: str) -> str:
    """Object that says which small files were read together."""
    return f"{FOLDER}/groups-{snapshot_id}.parquet"


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
    hasher: Hasher | None = None,
) -> Snapshot:
    """Make, or find, the snapshot of these shards.

    A shard that was ever known in the line of ``parent`` keeps its base; new ones follow after the highest offset ever
    given. Where a shard of ``parent`` was removed, new shards take over the row ids of the documents that they hold:
    those of the same id, or of the same text where there is no id column. Where ``parent`` is of an earlier map, to
    which ``promote`` went back, documents that came after it have the row ids that the snapshots after it gave them.

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
    hasher : Hasher, optional
        For the ids or texts of shards; by default this process.
    """
    known, end, later = _known(store, parent)
    release_memory()
    table, order, end = _placed(shards, known, end)
    empty = tuple(sorted(shards.filter(pl.col("rows") == 0)["key"].to_list()))
    if parent is not None and _same(table, empty, order, parent, store, ordered=id_column is not None):
        return parent
    columns = {"id_column": id_column, "text_column": text_column}
    by = partial(identify, store, table, np.argsort(order), **columns, hasher=hasher)
    identities = by(parent=parent)
    for other in (read_snapshot(store, identity) for identity in later):
        assert parent is not None, "only a snapshot with a parent has others after that"
        if _have_room_together(table, other.shards):
            identities = also_known(identities, by(parent=other), table, parent)
    snapshot = Snapshot(
        id=f"snapshot-{_digest(table, order, empty, id_column, identities)}",
        shards=table,
        superseded=identities.superseded,
        empty=empty,
        carried_places=identities.offsets,
        carried_row_ids=identities.row_ids,
    )
    release_memory()
    there = _stored(store, snapshot, order if id_column is not None else None)
    if there is not None:
        return there
    if groups:
        _write_groups(store, snapshot.id, groups)
    _write(store, snapshot, order, known, end, id_column, parent)
    return snapshot


def _placed(shards: pl.DataFrame, known: ShardTable, end: int) -> tuple[ShardTable, Ids, int]:
    """The shards with documents by offset, their positions in ``shards``, and the first free offset."""
    rows, sizes = (shards[name].to_numpy().astype(np.int64) for name in ("rows", "bytes"))
    keys: pa.StringArray = shards["key"].to_arrow().cast(pa.string())
    order = np.flatnonzero(rows > 0)
    if len(order) < len(rows):
        keys, rows, sizes = keys.take(indices(order)), rows[order], sizes[order]
    found = KeyIndex(known.keys).find(keys)
    fresh = found < 0
    grown = np.where(fresh, rows, 0)
    bases = end + np.cumsum(grown) - grown
    bases[~fresh] = known.bases[found[~fresh]]
    end = max(end + int(grown.sum()), int((bases + rows).max(initial=0)))
    table = ShardTable(keys=keys, rows=rows, bases=bases, bytes=sizes)
    if np.any(bases[1:] < bases[:-1]):
        by_offset = np.argsort(bases, kind="stable")
        table, order = table.take(by_offset), order[by_offset]
    return table, order, end


def _have_room_together(table: ShardTable, other: ShardTable) -> bool:
    """Whether each shard of two lists has one place, and no two have the same: two runs at once may have given it."""
    both = table.followed_by(other.lacking(table))
    order = np.argsort(both.bases, kind="stable")
    apart = both.bases[order][1:] >= (both.bases + both.rows)[order][:-1]
    found = KeyIndex(other.keys).find(table.keys)
    here = found >= 0
    return bool(apart.all()) and bool(np.array_equal(table.bases[here], other.bases[found[here]]))


def _write_groups(store: Store, snapshot_id: str, groups: Mapping[str, Sequence[str]]) -> None:
    table = pa.table(
        {
            "unit": pa.array([unit for unit, files in groups.items() for _ in files], pa.string()).dictionary_encode(),
            "fingerprint": pa.array([file for files in groups.values() for file in files], pa.string()),
        }
    )
    write_parquet(store, groups_name(snapshot_id), table, facts={"snapshot": snapshot_id})


def read_groups(store: Store, snapshot_id: str | None) -> dict[str, list[str]]:
    """Which small files of a snapshot were read together: their fingerprints, in order, by the unit's key."""
    if snapshot_id is None:
        return {}
    try:
        table = read_parquet(store, groups_name(snapshot_id))
    except MissingObjectError:
        return {}
    found: dict[str, list[str]] = {}
    for unit, file in zip(table["unit"].to_pylist(), table["fingerprint"].to_pylist(), strict=True):
        found.setdefault(unit, []).append(file)
    return found


def has_shared_row_ids(snapshot: Snapshot) -> bool:
    """Whether two documents of a snapshot have one row id, as versions before 27 November 2026 could leave it."""
    carried = (snapshot.carried_places, snapshot.carried_row_ids)
    return bool(taken_from_others(*carried, snapshot.superseded, snapshot.shards).any())


def _same(
    table: ShardTable, empty: tuple[str, ...], order: Ids, parent: Snapshot, store: Store, *, ordered: bool
) -> bool:
    """Whether the shards are those of ``parent``; where ids decide who wins, in the same order too.

    A parent that an earlier version made with two documents of one row id is none to go on with.
    """
    if empty != parent.empty or not table.keys.equals(parent.shards.keys):
        return False
    if has_shared_row_ids(parent):
        return False
    return not ordered or _same_order(store, parent.id, order)


def _same_order(store: Store, snapshot_id: str, order: Ids) -> bool:
    return bool(np.array_equal(np.argsort(read_order(store, snapshot_id)), np.argsort(order)))


def _stored(store: Store, snapshot: Snapshot, order: Ids | None) -> Snapshot | None:
    """The existing snapshot of that id, or None.

    The keys are compared batch by batch: those of a million shards are in memory often enough.

    Parameters
    ----------
    order : int64 ndarray, optional
        Where in the input each shard is; looked at where it is given.

    Raises
    ------
    WorkspaceError
        If it is another one: two lists with one digest, or an object that was changed or put there by hand.
    """
    name = list_name(snapshot.id)
    if not store.exists(name):
        return None
    table = snapshot.shards
    same, count, rows = True, 0, 0
    empty: list[str] = []
    sizes: list[Ids] = []
    for held, without in read_list_batches(store, snapshot.id, LISTED, EMPTY):
        end = count + len(held)
        same = (
            same
            and table.keys.slice(count, len(held)).equals(held.keys)
            and np.array_equal(table.rows[count:end], held.rows)
            and np.array_equal(table.bases[count:end], held.bases)
        )
        empty += without.keys.to_pylist()
        sizes.append(held.bytes)
        count, rows = end, rows + int(held.rows.sum())
    identities = _read_identities(store, snapshot.id, read_footer(store, name).facts)
    if not (
        same
        and count == len(table)
        and snapshot.empty == tuple(empty)
        and np.array_equal(snapshot.superseded, identities.superseded)
        and np.array_equal(snapshot.excluded, identities.excluded)
        and np.array_equal(snapshot.carried_places, identities.offsets)
        and np.array_equal(snapshot.carried_row_ids, identities.row_ids)
        and (order is None or _same_order(store, snapshot.id, order))
    ):
        documents = rows - len(identities.superseded)
        raise WorkspaceError(
            f"{name} lists {count:,} shards and {documents:,} documents that are not "
            f"those of this corpus ({len(table):,} shards), though its name is made from the list",
            hint="latentscale verify WORKSPACE shows what is damaged; delete that object and run the same command "
            "again if no map names it, or start a new workspace with --out.",
        )
    return replace(snapshot, shards=replace(table, bytes=np.concatenate([NO_IDS, *sizes])))


def _write(
    store: Store,
    snapshot: Snapshot,
    order: Ids,
    known: ShardTable,
    end: int,
    id_column: str | None,
    parent: Snapshot | None,
) -> None:
    table, superseded = snapshot.shards, snapshot.superseded
    identities = Identities(
        superseded=superseded,
        offsets=snapshot.carried_places,
        row_ids=snapshot.carried_row_ids,
        excluded=snapshot.excluded,
    )
    # Written before the list, which is the receipt.
    _write_identities(store, snapshot.id, table, identities, id_column, parent)
    # A shard that left the corpus keeps its offsets: should it come back, its documents have their row ids again.
    gone = known.lacking(table)
    gone = gone.take(np.argsort(gone.bases, kind="stable"))
    facts = {
        "superseded": len(superseded),
        "carried": len(snapshot.carried_places),
        "parent": parent.id if parent else None,
        "end": end,
    }
    write_list(store, snapshot.id, table, order, snapshot.empty, gone, facts=facts)


def _write_identities(
    store: Store,
    snapshot_id: str,
    table: ShardTable,
    identities: Identities,
    id_column: str | None,
    parent: Snapshot | None,
) -> None:
    if len(identities.superseded):
        known_rejects = None
        if parent is not None and len(parent.superseded):
            known_rejects = read_parquet(store, superseded_name(parent.id))
            # These may be documents again, or replaced.
            known_rejects = known_rejects.filter(pc.field("reason") != EXCLUDED)
        rejects = supersede_rejects(store, table, identities.superseded, id_column, known=known_rejects)
        rejects = _with_excluded(rejects, identities.excluded)
        write_parquet(store, superseded_name(snapshot_id), rejects, facts={"snapshot": snapshot_id})
    if len(identities.offsets):
        carried = pa.table({"place": pa.array(identities.offsets), "row_id": pa.array(identities.row_ids)})
        write_parquet(store, carried_name(snapshot_id), carried, facts={"snapshot": snapshot_id})


def _digest(
    table: ShardTable,
    order: Ids,
    empty: tuple[str, ...],
    id_column: str | None,
    identities: Identities,
) -> str:
    state = hashlib.blake2b(digest_size=8)
    state.update(repr((len(table), id_column)).encode())
    # Piece by piece: the list of a million keys as one text is there three times.
    for begin in range(0, len(table), BATCH):
        state.update(("\n" * (begin > 0) + "\n".join(table.keys.slice(begin, BATCH).to_pylist())).encode())
    state.update("\n".join(["", "", *empty]).encode())
    for column in (table.rows, table.bases):
        state.update(column.astype("<i8").tobytes())
    if id_column is not None:
        # Who comes last decides which document of an id stays.
        state.update(np.argsort(order, kind="stable").astype("<i8").tobytes())
    # The superseded do not follow from the list where shards were lost: which of an id is left does not come back.
    excluded = [identities.excluded] if len(identities.excluded) else []
    for ids in (identities.superseded, identities.offsets, identities.row_ids, *excluded):
        state.update(len(ids).to_bytes(8, "little") + ids.astype("<i8").tobytes())
    return state.hexdigest()


def _known(store: Store, parent: Snapshot | None) -> tuple[ShardTable, int, list[str]]:
    """The shards that have offsets already, the first free offset, and the latest snapshots after ``parent``.

    Those of ``parent``, which lists what its own line ever had; then those of snapshots that are not of its line, such
    as one whose run was killed before its map was published. Two concurrent runs may have given the same offsets to
    different shards: those of ``parent`` stay, and the other's shards get new ones.
    """
    names = {snapshot_id: list_name(snapshot_id) for snapshot_id in list_snapshot_ids(store)}
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
    known = NO_SHARDS
    if parent is not None and line:
        # It is in memory already, but for what left it.
        (retired,) = read_list(store, parent.id, RETIRED)
        known = parent.shards.followed_by(retired)
    for snapshot_id in sorted(set(facts) - set(line)):
        listed, retired = read_list(store, snapshot_id, LISTED, RETIRED)
        more = listed.followed_by(retired)
        if len(known):
            more = more.lacking(known)
            begins = np.sort(known.bases)
            ends = np.sort(known.bases + known.rows)
            first = np.searchsorted(ends, more.bases, side="right")
            last = np.searchsorted(begins, more.bases + more.rows, side="left")
            more = more.take(np.flatnonzero(first >= last))
        known = known.followed_by(more)
    return known, end, [] if parent is None else _latest_after(parent.id, facts)


def _latest_after(snapshot_id: str, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Ids of the snapshots that were made from one, by whatever way, and from which none was made; the newest first.

    There are none unless the map of that one was left, and gone back to.
    """
    made_from: dict[str, list[str]] = {}
    for identity, held in facts.items():
        made_from.setdefault(str(held["parent"]), []).append(identity)
    found: list[str] = []
    waiting, seen = [snapshot_id], {snapshot_id}
    while waiting:
        step = waiting.pop()
        following = [identity for identity in made_from.get(step, []) if identity not in seen]
        if not following and step != snapshot_id:
            found.append(step)
        seen.update(following)
        waiting.extend(following)
    return sorted(found, key=lambda identity: (int(facts[identity]["end"]), identity), reverse=True)[:MAX_LATER]


def without_shards(store: Store, snapshot: Snapshot, keys: Sequence[str]) -> Snapshot:
    """Make the snapshot of the same documents without those of the shards ``keys``, whose offsets stay reserved."""
    lost = pc.call_function("is_in", [snapshot.shards.keys], pc.SetLookupOptions(pa.array(keys, pa.string())))
    table = snapshot.shards.take(np.flatnonzero(~np.asarray(lost)))
    order = np.arange(len(table))
    held = inside(snapshot.carried_places, table)
    identities = Identities(
        superseded=snapshot.superseded[inside(snapshot.superseded, table)],
        offsets=snapshot.carried_places[held],
        row_ids=snapshot.carried_row_ids[held],
        excluded=snapshot.excluded[inside(snapshot.excluded, table)],
    )
    part = Snapshot(
        id=f"snapshot-{_digest(table, order, snapshot.empty, 'quarantine', identities)}",
        shards=table,
        superseded=identities.superseded,
        empty=snapshot.empty,
        carried_places=identities.offsets,
        carried_row_ids=identities.row_ids,
        excluded=identities.excluded,
    )
    there = _stored(store, part, None)
    if there is not None:
        return there
    known, end, _ = _known(store, snapshot)
    _write(store, part, order, known, end, None, snapshot)
    return part


def without_rows(store: Store, snapshot: Snapshot, excluded: Ids, *, id_column: str | None) -> Snapshot:
    """Make the snapshot of the same shards in which the rows ``excluded`` are no documents, and all others are.

    Parameters
    ----------
    excluded : int64 ndarray
        Offsets; none gives the snapshot of all documents.
    id_column : str or None
        As in ``make_snapshot``.
    """
    excluded = np.setdiff1d(excluded, snapshot.replaced)
    if np.array_equal(excluded, snapshot.excluded):
        return snapshot
    identities = Identities(
        superseded=np.union1d(snapshot.replaced, excluded),
        offsets=snapshot.carried_places,
        row_ids=snapshot.carried_row_ids,
        excluded=excluded,
    )
    order = read_order(store, snapshot.id)
    part = replace(
        snapshot,
        id=f"snapshot-{_digest(snapshot.shards, order, snapshot.empty, id_column, identities)}",
        superseded=identities.superseded,
        excluded=excluded,
    )
    there = _stored(store, part, order if id_column is not None else None)
    if there is not None:
        return there
    known, end, _ = _known(store, snapshot)
    groups = read_groups(store, snapshot.id)
    if groups:
        _write_groups(store, part.id, groups)
    _write(store, part, order, known, end, id_column, snapshot)
    return part


def _with_excluded(rejects: pa.Table, excluded: Ids) -> pa.Table:
    """Say of the rows ``excluded`` that they are, and not that another has their id."""
    if not len(excluded):
        return rejects
    mask = pa.array(np.isin(rejects["place"].to_numpy(), excluded))
    for name, text in (("column", None), ("reason", EXCLUDED), ("detail", "corpus.exclude or corpus.only")):
        value = pa.scalar(text, pa.string())
        changed = pc.call_function("if_else", [mask, value, rejects[name]])
        rejects = rejects.set_column(rejects.column_names.index(name), rejects.schema.field(name), changed)
    return rejects


def restore_identities(store: Store, snapshot_id: str, *, id_column: str | None, text_column: str) -> bool:
    """Write the tables of a snapshot again of which the list is intact: its superseded and its carried rows.

    Returns
    -------
    bool
        False where they do not follow from the documents that there are: the snapshot's id is their digest too.

    Raises
    ------
    LatentScaleError
        If the list, or a shard of documents, cannot be read.
    """
    facts, (listed, without) = read_whole_list(store, snapshot_id, LISTED, EMPTY)
    order, empty = read_order(store, snapshot_id).astype(np.int64), tuple(without.keys.to_pylist())
    parent_id = facts.get("parent")
    parent = read_snapshot(store, str(parent_id)) if parent_id and store.exists(list_name(str(parent_id))) else None
    found = identify(store, listed, np.argsort(order), id_column=id_column, text_column=text_column, parent=parent)
    if snapshot_id != f"snapshot-{_digest(listed, order, empty, id_column, found)}":
        return False
    _write_identities(store, snapshot_id, listed, found, id_column, None)
    return True


# --------------------------------------------------------------------------------------------------------------- read


def read_snapshot(store: Store, snapshot_id: str) -> Snapshot:
    """Read a snapshot.

    Raises
    ------
    WorkspaceError
        If there is none of that id.
    """
    facts, (listed, without) = read_whole_list(store, snapshot_id, LISTED, EMPTY)
    identities = _read_identities(store, snapshot_id, facts)
    return Snapshot(
        id=snapshot_id,
        shards=listed,
        superseded=identities.superseded,
        empty=tuple(without.keys.to_pylist()),
        carried_places=identities.offsets,
        carried_row_ids=identities.row_ids,
        excluded=identities.excluded,
    )


def _read_identities(store: Store, snapshot_id: str, facts: Mapping[str, Any]) -> Identities:
    """The identities of a snapshot, of which ``facts`` is what the footer of its list says."""
    try:
        replaced, carried = int(facts["superseded"]), int(facts["carried"])
    except (KeyError, TypeError) as error:
        raise other_version(store, list_name(snapshot_id), error) from error
    superseded = offsets = row_ids = excluded = NO_IDS
    if replaced:
        rejects = read_parquet(store, superseded_name(snapshot_id), ["place", "reason"])
        superseded = np.sort(rejects["place"].to_numpy())
        excluded = np.sort(rejects.filter(pc.field("reason") == EXCLUDED)["place"].to_numpy())
    if carried:
        held = read_parquet(store, carried_name(snapshot_id))
        offsets, row_ids = held["place"].to_numpy(), held["row_id"].to_numpy()
    return Identities(superseded=superseded, offsets=offsets, row_ids=row_ids, excluded=excluded)


def list_snapshot_ids(store: Store) -> list[str]:
    """The ids of all snapshots of a workspace."""
    names = [n.removeprefix(f"{FOLDER}/").removesuffix(".parquet") for n in store.list(FOLDER)]
    return [name for name in names if name.startswith("snapshot-")]
