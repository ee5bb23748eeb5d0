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
from latentscale.storage.snapshot import NO_IDS, NO_SHARDS, Ids, ShardTable, Snapshot, in_shards

LISTING_THREADS = 16
# Reject reason of rows that a selection excludes.
EXCLUDED = "excluded"
# Most later snapshots whose identities are read after a rollback (``promote``): each costs a join of all ids.
MAX_LATER = 8


def superseded_name(snapshot_id: str) -> str:
    """Return the object name of a snapshot's rejects: documents replaced by a later one with the same id."""
    return f"rejects/superseded-{snapshot_id}.parquet"


def carried_name(snapshot_id: str) -> str:
    """Return the object name of the row ids that a snapshot's documents keep from earlier shards."""
    return f"{FOLDER}/carried-{snapshot_id}.parquet"


def groups_name(snapshot_id: str) -> str:
    """Return the object name of the groups of small files that were read as one unit."""
    return f"{FOLDER}/groups-{snapshot_id}.parquet"


def read_footers(store: Store, names: Sequence[str]) -> list[Footer]:
    """Read footers concurrently; results are in the order of ``names``."""
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
    """Return the snapshot of these shards, creating it if it does not exist.

    Shards that are in ``parent`` or its ancestors keep their base; new ones follow after the highest offset ever
    assigned. If a shard of ``parent`` was removed, documents of new shards take over the row ids of its documents with
    the same id, or with the same text if there is no id column. If ``parent`` belongs to an earlier map to which
    ``promote`` rolled back, documents added after it have the row ids that later snapshots assigned to them.

    Parameters
    ----------
    store : Store
        The workspace.
    shards : polars.DataFrame
        ``key``, ``rows``, ``bytes`` in input order. Shards without documents are included for their rejects.
    id_column : str or None
        The last document with an id, in input order, wins.
    text_column : str
        Identifies documents if there is no id column.
    parent : Snapshot, optional
        Snapshot of the map that is updated.
    groups : mapping of str to sequence of str, optional
        Files that were read as one unit, stored for the next plan (``read_groups``).
    hasher : Hasher, optional
        Hashes ids or texts of shards; by default this process.
    """
    known, end, later = _shards_with_offsets(store, parent)
    release_memory()
    table, order, end = _assign_offsets(shards, known, end)
    empty = tuple(sorted(shards.filter(pl.col("rows") == 0)["key"].to_list()))
    if parent is not None and _equals_parent(table, empty, order, parent, store, ordered=id_column is not None):
        return parent
    columns = {"id_column": id_column, "text_column": text_column}
    by = partial(identify, store, table, np.argsort(order), **columns, hasher=hasher)
    identities = by(parent=parent)
    for other in (read_snapshot(store, identity) for identity in later):
        assert parent is not None, "only a snapshot with a parent has others after that"
        if _are_disjoint(table, other.shards):
            identities = also_known(identities, by(parent=other), table, parent)
    snapshot = Snapshot(
        id=f"snapshot-{_digest(table, order, empty, id_column, identities)}",
        shards=table,
        superseded=identities.superseded,
        empty=empty,
        carried_offsets=identities.offsets,
        carried_row_ids=identities.row_ids,
    )
    release_memory()
    there = _existing(store, snapshot, order if id_column is not None else None)
    if there is not None:
        return there
    if groups:
        _write_groups(store, snapshot.id, groups)
    _write(store, snapshot, order, known, end, id_column, parent)
    return snapshot


def _assign_offsets(shards: pl.DataFrame, known: ShardTable, end: int) -> tuple[ShardTable, Ids, int]:
    """Assign offsets; returns shards with documents by offset, their positions in ``shards``, the first free offset."""
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


def _are_disjoint(table: ShardTable, other: ShardTable) -> bool:
    """Whether the offsets of two lists do not overlap; concurrent runs may have assigned the same ones."""
    both = table.concat(other.not_in(table))
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
    """Read which small files of a snapshot form a unit: by the unit's key, their fingerprints in order."""
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
    """Whether two documents of a snapshot share a row id, which versions before 27 November 2026 could produce."""
    carried = (snapshot.carried_offsets, snapshot.carried_row_ids)
    return bool(taken_from_others(*carried, snapshot.superseded, snapshot.shards).any())


def _equals_parent(
    table: ShardTable, empty: tuple[str, ...], order: Ids, parent: Snapshot, store: Store, *, ordered: bool
) -> bool:
    """Whether the shards equal those of ``parent``; with ``ordered`` in the same order, too.

    False if documents of ``parent`` share a row id, as earlier versions could write, so that a new snapshot is made.
    """
    if empty != parent.empty or not table.keys.equals(parent.shards.keys):
        return False
    if has_shared_row_ids(parent):
        return False
    return not ordered or _same_order(store, parent.id, order)


def _same_order(store: Store, snapshot_id: str, order: Ids) -> bool:
    return bool(np.array_equal(np.argsort(read_order(store, snapshot_id)), np.argsort(order)))


def _existing(store: Store, snapshot: Snapshot, order: Ids | None) -> Snapshot | None:
    """Return the stored snapshot if it exists, else None.

    Keys are compared in batches, to save another copy of them in memory.

    Parameters
    ----------
    order : int64 ndarray, optional
        Position in input order of each shard; compared if given.

    Raises
    ------
    WorkspaceError
        If the stored one differs: a digest collision, or an object that was modified by hand.
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
        and np.array_equal(snapshot.carried_offsets, identities.offsets)
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
        offsets=snapshot.carried_offsets,
        row_ids=snapshot.carried_row_ids,
        excluded=snapshot.excluded,
    )
    # Written before the list, whose existence marks the snapshot as complete.
    _write_identities(store, snapshot.id, table, identities, id_column, parent)
    # Removed shards keep their offsets, so that their documents get the same row ids if they return.
    gone = known.not_in(table)
    gone = gone.take(np.argsort(gone.bases, kind="stable"))
    facts = {
        "superseded": len(superseded),
        "carried": len(snapshot.carried_offsets),
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
            # These rows may become documents again, or may be superseded.
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
    # Incremental: one string of a million keys would need three times their memory.
    for begin in range(0, len(table), BATCH):
        state.update(("\n" * (begin > 0) + "\n".join(table.keys.slice(begin, BATCH).to_pylist())).encode())
    state.update("\n".join(["", "", *empty]).encode())
    for column in (table.rows, table.bases):
        state.update(column.astype("<i8").tobytes())
    if id_column is not None:
        # The order decides which document with an id wins.
        state.update(np.argsort(order, kind="stable").astype("<i8").tobytes())
    # If shards were lost, the list does not determine which documents are superseded.
    excluded = [identities.excluded] if len(identities.excluded) else []
    for ids in (identities.superseded, identities.offsets, identities.row_ids, *excluded):
        state.update(len(ids).to_bytes(8, "little") + ids.astype("<i8").tobytes())
    return state.hexdigest()


def _shards_with_offsets(store: Store, parent: Snapshot | None) -> tuple[ShardTable, int, list[str]]:
    """Return the shards with assigned offsets, the first free offset, and ids of the latest snapshots after ``parent``.

    First those of ``parent``, which lists all shards of its ancestors; then those of snapshots on other branches, such
    as one whose run was killed before publishing its map. If concurrent runs assigned the same offsets to different
    shards, those of ``parent`` keep them and the others get new ones.
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
        # The parent is in memory already, except for its removed shards.
        (retired,) = read_list(store, parent.id, RETIRED)
        known = parent.shards.concat(retired)
    for snapshot_id in sorted(set(facts) - set(line)):
        listed, retired = read_list(store, snapshot_id, LISTED, RETIRED)
        more = listed.concat(retired)
        if len(known):
            more = more.not_in(known)
            begins = np.sort(known.bases)
            ends = np.sort(known.bases + known.rows)
            first = np.searchsorted(ends, more.bases, side="right")
            last = np.searchsorted(begins, more.bases + more.rows, side="left")
            more = more.take(np.flatnonzero(first >= last))
        known = known.concat(more)
    return known, end, [] if parent is None else _latest_after(parent.id, facts)


def _latest_after(snapshot_id: str, facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the ids of the descendants of a snapshot that have no descendants themselves, newest first.

    Empty unless ``promote`` rolled back to the map of that snapshot.
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
    """Create a snapshot without the shards ``keys``, whose offsets stay reserved."""
    lost = pc.call_function("is_in", [snapshot.shards.keys], pc.SetLookupOptions(pa.array(keys, pa.string())))
    table = snapshot.shards.take(np.flatnonzero(~np.asarray(lost)))
    order = np.arange(len(table))
    held = in_shards(snapshot.carried_offsets, table)
    identities = Identities(
        superseded=snapshot.superseded[in_shards(snapshot.superseded, table)],
        offsets=snapshot.carried_offsets[held],
        row_ids=snapshot.carried_row_ids[held],
        excluded=snapshot.excluded[in_shards(snapshot.excluded, table)],
    )
    part = Snapshot(
        id=f"snapshot-{_digest(table, order, snapshot.empty, 'quarantine', identities)}",
        shards=table,
        superseded=identities.superseded,
        empty=snapshot.empty,
        carried_offsets=identities.offsets,
        carried_row_ids=identities.row_ids,
        excluded=identities.excluded,
    )
    there = _existing(store, part, None)
    if there is not None:
        return there
    known, end, _ = _shards_with_offsets(store, snapshot)
    _write(store, part, order, known, end, None, snapshot)
    return part


def without_rows(store: Store, snapshot: Snapshot, excluded: Ids, *, id_column: str | None) -> Snapshot:
    """Create a snapshot of the same shards in which exactly the rows ``excluded`` are excluded.

    Parameters
    ----------
    excluded : int64 ndarray
        Offsets; if empty, the snapshot contains all documents.
    id_column : str or None
        As in ``make_snapshot``.
    """
    excluded = np.setdiff1d(excluded, snapshot.replaced)
    if np.array_equal(excluded, snapshot.excluded):
        return snapshot
    identities = Identities(
        superseded=np.union1d(snapshot.replaced, excluded),
        offsets=snapshot.carried_offsets,
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
    there = _existing(store, part, order if id_column is not None else None)
    if there is not None:
        return there
    known, end, _ = _shards_with_offsets(store, snapshot)
    groups = read_groups(store, snapshot.id)
    if groups:
        _write_groups(store, part.id, groups)
    _write(store, part, order, known, end, id_column, snapshot)
    return part


def _with_excluded(rejects: pa.Table, excluded: Ids) -> pa.Table:
    """Set the reject reason of the rows ``excluded``, in place of a duplicate id."""
    if not len(excluded):
        return rejects
    mask = pa.array(np.isin(rejects["place"].to_numpy(), excluded))
    for name, text in (("column", None), ("reason", EXCLUDED), ("detail", "corpus.exclude or corpus.only")):
        value = pa.scalar(text, pa.string())
        changed = pc.call_function("if_else", [mask, value, rejects[name]])
        rejects = rejects.set_column(rejects.column_names.index(name), rejects.schema.field(name), changed)
    return rejects


def restore_identities(store: Store, snapshot_id: str, *, id_column: str | None, text_column: str) -> bool:
    """Rebuild the tables of superseded and carried rows of a snapshot whose list is intact.

    Returns
    -------
    bool
        False if the existing documents do not reproduce them, as checked by the digest in the snapshot's id.

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
        If it does not exist.
    """
    facts, (listed, without) = read_whole_list(store, snapshot_id, LISTED, EMPTY)
    identities = _read_identities(store, snapshot_id, facts)
    return Snapshot(
        id=snapshot_id,
        shards=listed,
        superseded=identities.superseded,
        empty=tuple(without.keys.to_pylist()),
        carried_offsets=identities.offsets,
        carried_row_ids=identities.row_ids,
        excluded=identities.excluded,
    )


def _read_identities(store: Store, snapshot_id: str, facts: Mapping[str, Any]) -> Identities:
    """Read the identities of a snapshot; ``facts`` is the metadata of its list."""
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
    """List the ids of all snapshots of a workspace."""
    names = [n.removeprefix(f"{FOLDER}/").removesuffix(".parquet") for n in store.list(FOLDER)]
    return [name for name in names if name.startswith("snapshot-")]
