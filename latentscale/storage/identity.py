"""Which documents of a new list of shards are those of an earlier one: by their id, or else by their text."""

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
from latentscale.storage.snapshot import NO_IDS, Ids, ShardTable, Snapshot, inside
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
    """What decides the identity of a row.

    Attributes
    ----------
    superseded : int64 ndarray, ascending
        Offsets of documents replaced by a later one with the same id, and of the excluded.
    offsets, row_ids : int64 ndarray, by offset
        Rows that are documents of an earlier shard, and the row ids that they have from there.
    excluded : int64 ndarray, ascending
        Those of ``superseded`` that a selection leaves out.
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
    """Find the superseded and the carried rows of a list of shards.

    Parameters
    ----------
    store : Store
        The workspace; runs of hashed ids are read from it and written to it.
    shards : ShardTable
        By offset.
    order : int64 ndarray, shape (len(shards),)
        Which of them comes first in the input, which next, and so on.
    id_column, text_column : str or None, str
    parent : Snapshot or None
        Whose documents keep their row ids.
    hasher : Hasher, optional
        For the ids or texts of shards; by default this process.
    bucket_rows : int
        How many rows are joined at a time, about.
    block_rows : int
        How many rows are written to the scratch file at a time.

    Notes
    -----
    With an id column, a document is the same if its id is; the last of an id wins. Without one, it is the same if its
    text is, and only documents of removed shards can be matched in new ones, the first copy of a text for
    the first. A 128-bit hash represents an id or a text. It is a join by buckets of that hash (as in a Grace hash
    join, Kitsuregawa et al. 1983): memory holds one bucket, and what is returned.
    """
    if id_column is not None:
        found = _by_id(store, shards, order, id_column, parent, hasher, bucket_rows, block_rows)
    elif parent is None:
        return NO_IDENTITIES
    else:
        found = _by_text(store, shards, order, text_column, parent, hasher, bucket_rows, block_rows)
    return _without_clashes(found, shards)


def taken_from_others(offsets: Ids, row_ids: Ids, superseded: Ids, shards: ShardTable) -> NDArray[np.bool_]:
    """Which of the carried ``row_ids`` are the offset of another document, which has it as its own row id."""
    return inside(row_ids, shards) & ~np.isin(row_ids, offsets) & ~np.isin(row_ids, superseded)


def _without_clashes(found: Identities, shards: ShardTable) -> Identities:
    """Identities in which no document has its own offset as row id where another one has taken that.

    A shard that comes back, after documents elsewhere took the identities of its rows, has rows that are documents
    again. The others keep their row ids, which a map may show; the returned get the offsets that these do not use.
    """
    takes = taken_from_others(found.offsets, found.row_ids, found.superseded, shards)
    if not takes.any():
        return found
    # Where a document has several row ids, the first is its own; the others are of documents that it replaced.
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
        # The offset of the document that took an identity is free, or was taken by a third one.
        wanted = returned if free is None else free
        place = np.minimum(np.searchsorted(taken, wanted), len(taken) - 1)
        free = np.where(taken[place] == wanted, takers[place], wanted)
    offsets, row_ids = np.concatenate([found.offsets, returned]), np.concatenate([found.row_ids, free])
    by_offset = np.argsort(offsets, kind="stable")
    return Identities(superseded=found.superseded, offsets=offsets[by_offset], row_ids=row_ids[by_offset])


def also_known(held: Identities, more: Identities, shards: ShardTable, parent: Snapshot) -> Identities:
    """Identities with what another snapshot, one after ``parent``, knows of documents that ``parent`` does not have.

    Parameters
    ----------
    held, more : Identities
        Of one list of shards: by ``parent``, and by the other snapshot.
    shards : ShardTable
        That list, by offset.

    Returns
    -------
    Identities
        No row id is in it twice, nor is one the offset of another document.
    """
    new = ~inside(more.offsets, parent.shards) & ~np.isin(more.offsets, held.offsets)
    new &= ~np.isin(more.row_ids, held.row_ids)
    offsets, row_ids = more.offsets[new], more.row_ids[new]
    _, first = np.unique(row_ids, return_index=True)
    offsets, row_ids = offsets[np.sort(first)], row_ids[np.sort(first)]
    while len(offsets):
        # A document that has its own offset as row id is not to meet another one with that.
        moved = np.concatenate([held.superseded, held.offsets, offsets])
        free = ~inside(row_ids, shards) | np.isin(row_ids, moved)
        if free.all():
            break
        offsets, row_ids = offsets[free], row_ids[free]
    all_offsets, all_row_ids = np.concatenate([held.offsets, offsets]), np.concatenate([held.row_ids, row_ids])
    by_offset = np.argsort(all_offsets, kind="stable")
    return Identities(superseded=held.superseded, offsets=all_offsets[by_offset], row_ids=all_row_ids[by_offset])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined:
    """Shards of the new list, then those that only the parent has.

    Attributes
    ----------
    shards : ShardTable
        The new list by offset, then the others.
    new : int
        Length of the new list.
    begins : int64 ndarray, shape (n,)
        Number of the first row of each shard among all rows of its list: in the order of the input for the new list,
        by offset for the others.
    of_parent : bool ndarray, shape (n,)
        Whether the parent has the shard.
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
    gone = parent.shards.lacking(present) if parent is not None else present.take(NO_IDS)
    rows = present.rows[order]
    begins = np.empty(len(present), dtype=np.int64)
    begins[order] = np.cumsum(rows) - rows
    shards = present.followed_by(gone)
    return _Joined(
        shards=shards,
        new=len(present),
        of_parent=inside(shards.bases, parent.shards if parent is not None else gone),
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
        # The last of each id in the order of the input; -1 where only the parent has it.
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
    """The rows of which the parent has the document elsewhere: their offset, its row id, its rank in the parent."""
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
    held = inside(parent.carried_places, present)
    offsets, row_ids = [parent.carried_places[held]], [parent.carried_row_ids[held]]
    joined = _joined(present, order, parent)
    shards = joined.shards
    # Of the shards that are still there every row is known.
    fresh = present.positions_lacking(parent.shards)
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
    """Pairs of an old and a new record of the same text, the first copy with the first, and so on."""
    positions = joined.positions(records)
    records, groups, starts = group_by_hash(records, records["shard"] < joined.new, positions)
    if not len(records):
        return records, records
    is_new = records["shard"] < joined.new
    # In a group the old copies come first.
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
    """The rejects of the superseded rows: their source, and the reason.

    Parameters
    ----------
    store : Store
    shards : ShardTable
        By offset.
    superseded : int64 ndarray, ascending
        Places in ``shards``.
    id_column : str or None
        None where all of them are among ``known``, whatever the column was.
    known : pyarrow.Table, optional
        The rejects of an earlier snapshot: shards are only opened for those that are not among them.

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
