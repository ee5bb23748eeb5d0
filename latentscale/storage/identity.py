"""Match documents of a new list of shards with those of an earlier one, by id or by text."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.storage.hashed_rows import BUCKET_ROWS, Hasher, HashHere, group_by_hash, hash_buckets
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshot import NO_IDS, Ids, ShardTable, Snapshot, in_shards
from latentscale.storage.spool import BLOCK_ROWS, Records, Spool, bits_for

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
    """Identity of rows: superseded rows, and row ids carried over from earlier shards.

    Attributes
    ----------
    superseded : int64 ndarray, ascending
        Offsets of documents replaced by a later one with the same id, and of excluded ones.
    offsets, row_ids : int64 ndarray, by offset
        Offsets of rows that are documents of an earlier shard, and their row ids.
    excluded : int64 ndarray, ascending
        Those of ``superseded`` that are excluded by a selection.
    """

    superseded: Ids
    offsets: Ids
    row_ids: Ids
    excluded: Ids = field(default_factory=lambda: NO_IDS)


NO_IDENTITIES = Identities(superseded=NO_IDS, offsets=NO_IDS, row_ids=NO_IDS)


def identify(
    store: Store,
    shards: ShardTable,
    order: Ids,
    *,
    id_column: str | None,
    text_column: str,
    parent: Snapshot | None,
    hasher: Hasher | None = None,
    bucket_rows: int = BUCKET_ROWS,
    block_rows: int = BLOCK_ROWS,
) -> Identities:
    """Find superseded rows of a list of shards, and rows that keep the row ids of earlier documents.

    Parameters
    ----------
    store : Store
        The workspace; runs of hashed ids are read from it and written to it.
    shards : ShardTable
        By offset.
    order : int64 ndarray, shape (len(shards),)
        Positions of the shards in input order.
    id_column, text_column : str or None, str
    parent : Snapshot or None
        Snapshot whose documents keep their row ids.
    hasher : Hasher, optional
        Hashes ids or texts of shards; by default this process.
    bucket_rows : int
        Approximate number of rows joined at a time.
    block_rows : int
        Rows written to the scratch file at a time.

    Notes
    -----
    With an id column, documents are matched by id, and the last one with an id wins. Otherwise they are matched by
    text, but only documents of removed shards with those of new ones, duplicates in order. Ids and texts are compared
    by their 128-bit hashes, in a Grace hash join (Kitsuregawa et al. 1983): memory holds one bucket and the result.
    """
    if id_column is not None:
        found = _by_id(store, shards, order, id_column, parent, hasher, bucket_rows, block_rows)
    elif parent is None:
        return NO_IDENTITIES
    else:
        found = _by_text(store, shards, order, text_column, parent, hasher, bucket_rows, block_rows)
    return _without_clashes(found, shards)


def taken_from_others(offsets: Ids, row_ids: Ids, superseded: Ids, shards: ShardTable) -> NDArray[np.bool_]:
    """Find carried ``row_ids`` that are the offset of another document, and thus its own row id."""
    return in_shards(row_ids, shards) & ~np.isin(row_ids, offsets) & ~np.isin(row_ids, superseded)


def _without_clashes(found: Identities, shards: ShardTable) -> Identities:
    """Resolve conflicts of row ids: no document may use its own offset if another one has it as its row id.

    They arise when a removed shard returns after other documents took over the identities of its rows. Those documents
    keep their row ids, which may be on a map; the returned ones get unused offsets.
    """
    takes = taken_from_others(found.offsets, found.row_ids, found.superseded, shards)
    if not takes.any():
        return found
    # If a document has several row ids, the first is its own; the others belong to replaced documents.
    own = np.zeros(len(found.offsets), bool)
    own[np.unique(found.offsets, return_index=True)[1]] = True
    kept = own | ~takes
    found = Identities(superseded=found.superseded, offsets=found.offsets[kept], row_ids=found.row_ids[kept])
    returned, own = np.unique(found.row_ids[takes[kept]]), own[kept]
    if not len(returned):
        return found
    by_row_id = np.flatnonzero(own)[np.argsort(found.row_ids[own], kind="stable")]
    taken, takers, free = found.row_ids[by_row_id], found.offsets[by_row_id], None
    while free is None or _among(free, taken).any():
        # Follow chains: the offset of the document that took an identity is free, or was taken by a third one.
        wanted = returned if free is None else free
        place = np.minimum(np.searchsorted(taken, wanted), len(taken) - 1)
        free = np.where(taken[place] == wanted, takers[place], wanted)
    offsets, row_ids = np.concatenate([found.offsets, returned]), np.concatenate([found.row_ids, free])
    by_offset = np.argsort(offsets, kind="stable")
    return Identities(superseded=found.superseded, offsets=offsets[by_offset], row_ids=row_ids[by_offset])


def also_known(held: Identities, more: Identities, shards: ShardTable, parent: Snapshot) -> Identities:
    """Add identities of documents that are not in ``parent`` but in a later snapshot.

    Parameters
    ----------
    held, more : Identities
        Identities of a list of shards from ``parent``, and from the later snapshot.
    shards : ShardTable
        That list, by offset.

    Returns
    -------
    Identities
        Row ids are unique, and none is the offset of another document.
    """
    new = ~in_shards(more.offsets, parent.shards) & ~np.isin(more.offsets, held.offsets)
    new &= ~np.isin(more.row_ids, held.row_ids)
    offsets, row_ids = more.offsets[new], more.row_ids[new]
    _, first = np.unique(row_ids, return_index=True)
    offsets, row_ids = offsets[np.sort(first)], row_ids[np.sort(first)]
    while len(offsets):
        # Row ids must not be offsets of other documents.
        moved = np.concatenate([held.superseded, held.offsets, offsets])
        free = ~in_shards(row_ids, shards) | np.isin(row_ids, moved)
        if free.all():
            break
        offsets, row_ids = offsets[free], row_ids[free]
    all_offsets, all_row_ids = np.concatenate([held.offsets, offsets]), np.concatenate([held.row_ids, row_ids])
    by_offset = np.argsort(all_offsets, kind="stable")
    return Identities(superseded=held.superseded, offsets=all_offsets[by_offset], row_ids=all_row_ids[by_offset])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    """The shards of the new list, then those that are only in the parent.

    Attributes
    ----------
    shards : ShardTable
        The new list by offset, then the others.
    new : int
        Length of the new list.
    begins : int64 ndarray, shape (n,)
        Rank of the first row of each shard in its list: in input order for the new list, by offset for the others.
    of_parent : bool ndarray, shape (n,)
        Whether the shard is in the parent.
    """

    shards: ShardTable
    new: int
    begins: Ids
    of_parent: NDArray[np.bool_]

    def offsets(self, records: Records) -> Ids:
        return self.shards.bases[records["shard"]] + records["row"]

    def positions(self, records: Records) -> Ids:
        return self.begins[records["shard"]] + records["row"]


def _joined(present: ShardTable, order: Ids, parent: Snapshot | None) -> _Joined:
    gone = parent.shards.not_in(present) if parent is not None else present.take(NO_IDS)
    rows = present.rows[order]
    begins = np.empty(len(present), dtype=np.int64)
    begins[order] = np.cumsum(rows) - rows
    shards = present.concat(gone)
    return _Joined(
        shards=shards,
        new=len(present),
        of_parent=in_shards(shards.bases, parent.shards if parent is not None else gone),
        begins=np.concatenate([begins, np.cumsum(gone.rows) - gone.rows]),
    )


def _by_id(
    store: Store,
    present: ShardTable,
    order: Ids,
    column: str,
    parent: Snapshot | None,
    hasher: Hasher | None,
    bucket_rows: int,
    block_rows: int,
) -> Identities:
    joined = _joined(present, order, parent)
    shards = joined.shards
    lost: list[Ids] = []
    carried: list[tuple[Ids, Ids, Ids]] = []
    sizes = {"bucket_rows": bucket_rows, "block_rows": block_rows}
    for records in hash_buckets(store, shards, column, hasher=hasher, **sizes):
        records, groups, starts = group_by_hash(records)
        if not len(records):
            continue
        offsets, positions = joined.offsets(records), joined.positions(records)
        is_new = records["shard"] < joined.new
        # The last document of each id in input order; -1 if only in the parent.
        last = np.maximum.reduceat(np.where(is_new, positions, -1), starts)
        wins = is_new & (positions == last[groups])
        lost.append(offsets[is_new & ~wins])
        if parent is not None:
            winners = np.full(len(starts), -1, dtype=np.int64)
            winners[groups[wins]] = offsets[wins]
            carried.append(_carried(parent, joined, records, offsets, positions, winners[groups]))
    superseded = np.sort(np.concatenate([NO_IDS, *lost]))
    if not carried:
        return Identities(superseded=superseded, offsets=NO_IDS, row_ids=NO_IDS)
    offsets, row_ids, ranks = (np.concatenate(columns) for columns in zip(*carried, strict=True))
    by_offset = np.lexsort((ranks, offsets))
    return Identities(superseded=superseded, offsets=offsets[by_offset], row_ids=row_ids[by_offset])


def _carried(
    parent: Snapshot, joined: _Joined, records: Records, offsets: Ids, positions: Ids, winners: Ids
) -> tuple[Ids, Ids, Ids]:
    """Find rows whose document has another offset in the parent: offset, row id, and rank in the parent."""
    is_old = joined.of_parent[records["shard"]] & (winners >= 0) & ~_among(offsets, parent.replaced)
    old = np.flatnonzero(is_old)
    row_ids = parent.row_ids(offsets[old])
    moved = row_ids != winners[old]
    old = old[moved]
    # Documents of removed shards come before those of existing shards.
    gone_rows = int(joined.shards.rows[joined.new :].sum())
    ranks = positions[old] + np.where(records["shard"][old] < joined.new, gone_rows, 0)
    return winners[old], row_ids[moved], ranks


def _by_text(
    store: Store,
    present: ShardTable,
    order: Ids,
    column: str,
    parent: Snapshot,
    hasher: Hasher | None,
    bucket_rows: int,
    block_rows: int,
) -> Identities:
    held = in_shards(parent.carried_offsets, present)
    offsets, row_ids = [parent.carried_offsets[held]], [parent.carried_row_ids[held]]
    joined = _joined(present, order, parent)
    shards = joined.shards
    # All rows of kept shards are known.
    fresh = present.positions_not_in(parent.shards)
    if len(shards) > joined.new and len(fresh):
        numbers = np.concatenate([fresh, np.arange(joined.new, len(shards))])
        bits = bits_for(int(shards.rows[numbers].sum()), bucket_rows)
        hasher = hasher or HashHere(store)
        with Spool(bits, block_rows=block_rows) as spool:
            for records in hasher.hashes(shards, numbers, column):
                spool.add(records)
            for bucket in range(1 << bits):
                records = np.concatenate(spool.bucket(bucket))
                is_old = records["shard"] >= joined.new
                records = records[~(is_old & _among(joined.offsets(records), parent.replaced))]
                earlier, later = _matched(records, joined)
                offsets.append(joined.offsets(later))
                row_ids.append(parent.row_ids(joined.offsets(earlier)))
        hasher.forget(shards, numbers, column)
    all_offsets, all_row_ids = np.concatenate(offsets), np.concatenate(row_ids)
    by_offset = np.argsort(all_offsets, kind="stable")
    return Identities(superseded=NO_IDS, offsets=all_offsets[by_offset], row_ids=all_row_ids[by_offset])


def _matched(records: Records, joined: _Joined) -> tuple[Records, Records]:
    """Pair old and new records of the same text, duplicates in order."""
    positions = joined.positions(records)
    records, groups, starts = group_by_hash(records, records["shard"] < joined.new, positions)
    if not len(records):
        return records, records
    is_new = records["shard"] < joined.new
    # Within a group, old records come first.
    olds = np.add.reduceat(~is_new, starts, dtype=np.int64)
    copy = np.arange(len(records)) - starts[groups]
    copy[is_new] -= olds[groups[is_new]]
    later = np.flatnonzero(is_new & (copy < olds[groups]))
    return records[starts[groups[later]] + copy[later]], records[later]


def _among(values: Ids, ascending: Ids) -> NDArray[np.bool_]:
    """Whether each of ``values`` is in ``ascending``."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    found = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[found] == values


def supersede_rejects(
    store: Store, shards: ShardTable, superseded: Ids, id_column: str | None, *, known: pa.Table | None = None
) -> pa.Table:
    """Build the rejects of superseded rows: source and reason.

    Parameters
    ----------
    store : Store
    shards : ShardTable
        By offset.
    superseded : int64 ndarray, ascending
        Offsets in ``shards``.
    id_column : str or None
        None if all of them are in ``known``.
    known : pyarrow.Table, optional
        Rejects of an earlier snapshot, which are reused; shards are read for the others only.

    Returns
    -------
    pyarrow.Table
        ``REJECT_SCHEMA``, by offset.
    """
    pieces = [REJECT_SCHEMA.empty_table()]
    if known is not None:
        rejected = known["place"].to_numpy()
        usable = _among(rejected, superseded)
        if id_column is not None:
            usable &= np.asarray(pc.call_function("equal", [known["column"], pa.scalar(id_column)]))
        pieces.append(known.filter(pa.array(usable)))
        superseded = np.setdiff1d(superseded, rejected[usable], assume_unique=True)
    owners = np.searchsorted(shards.bases, superseded, side="right") - 1

    def of_shard(number: int) -> pa.Table:
        shard = shards[number]
        start, stop = np.searchsorted(owners, [number, number + 1])
        rows = superseded[start:stop]
        sources = read_parquet(store, shard.name, ["source", "source_row"]).take(pa.array(rows - shard.base))
        return pa.table(
            {
                "source": sources["source"].cast(pa.string()),
                "source_row": sources["source_row"],
                "column": pa.repeat(pa.scalar(id_column, pa.string()), len(rows)),
                "reason": pa.repeat("superseded", len(rows)),
                "detail": pa.repeat("a later document has the same id", len(rows)),
                "place": pa.array(rows, pa.int64()),
            }
        ).cast(REJECT_SCHEMA)

    pieces.extend(in_order(store, of_shard, np.unique(owners).tolist()))
    return pa.concat_tables(pieces).sort_by("place").combine_chunks()
