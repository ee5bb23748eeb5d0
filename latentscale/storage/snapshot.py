"""The snapshot type: shards of documents at their offsets, and which row is which document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import WorkspaceError
from latentscale.storage.columns import indices
from latentscale.storage.key_index import KeyIndex

Ids = NDArray[np.int64]
NO_IDS: Ids = np.empty(0, dtype=np.int64)
# A shard of documents, as compressed parquet, holds about so many times its bytes.
COMPRESSION = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard of documents, at its offset in a snapshot.

    Attributes
    ----------
    key : str
        Identity of the work that made it.
    name : str
        Object name, ``documents/<kk>/<key>.parquet``.
    rows : int
    base : int
        Offset of its first row.
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

    def take(self, positions: Ids) -> ShardTable:
        """The shards at ``positions`` of this table, in that order."""
        return ShardTable(
            keys=self.keys.take(indices(positions)),
            rows=self.rows[positions],
            bases=self.bases[positions],
            bytes=self.bytes[positions],
        )

    def positions_lacking(self, other: ShardTable) -> Ids:
        """Positions in this table of the shards that ``other`` does not have (int64, ascending)."""
        return np.flatnonzero(KeyIndex(other.keys).find(self.keys) < 0)

    def lacking(self, other: ShardTable) -> ShardTable:
        """The shards that ``other`` does not have."""
        return self.take(self.positions_lacking(other))

    def followed_by(self, other: ShardTable) -> ShardTable:
        """These shards, then those of ``other``."""
        if not len(self) or not len(other):
            return self if len(self) else other
        return ShardTable(
            keys=pa.concat_arrays([self.keys, other.keys]),
            rows=np.concatenate([self.rows, other.rows]),
            bases=np.concatenate([self.bases, other.bases]),
            bytes=np.concatenate([self.bytes, other.bytes]),
        )


# `pa.array` would import pandas, where that is installed.
NO_SHARDS = ShardTable(keys=pa.nulls(0, pa.string()), rows=NO_IDS, bases=NO_IDS, bytes=NO_IDS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Snapshot:
    """The documents that a map is made of.

    A row has an *offset*, the ``base`` of its shard and its number there. Its ``row_id`` is its offset too, unless the
    document was in an earlier shard already: a renamed or rewritten file keeps the row ids of what it still holds.

    Attributes
    ----------
    id : str
        ``snapshot-<16 hex>`` of the digest of the list.
    shards : ShardTable
        By ``base``.
    superseded : int64 ndarray, sorted
        Offsets of rows that are rejects, not documents: replaced by a later one with the same id, or excluded.
    excluded : int64 ndarray, sorted
        Those of them that ``corpus.exclude`` or ``corpus.only`` leaves out. They stay what they are: a document that is
        excluded keeps its ``row_id`` in a renamed or rewritten file.
    empty : tuple of str
        Keys of shards without a document; their rows are rejects or were left out.
    carried_places, carried_row_ids : int64 ndarray
        The rows whose ``row_id`` is not their offset, by offset.
    """

    id: str
    shards: ShardTable
    superseded: Ids
    empty: tuple[str, ...] = ()
    carried_places: Ids = field(default_factory=lambda: NO_IDS)
    carried_row_ids: Ids = field(default_factory=lambda: NO_IDS)
    excluded: Ids = field(default_factory=lambda: NO_IDS)

    @property
    def replaced(self) -> Ids:
        """Offsets of documents replaced by a later one with the same id (int64, sorted)."""
        return (
            np.setdiff1d(self.superseded, self.excluded, assume_unique=True) if len(self.excluded) else self.superseded
        )

    def __repr__(self) -> str:
        return f"<Snapshot {self.id}: documents {self.documents:,}, shards {len(self.shards):,}>"

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
        return self.shards if other is None else self.shards.lacking(other.shards)

    def kept(self, shard: Shard) -> NDArray[np.bool_]:
        """Whether each row of ``shard`` is a document (bool, shape (shard.rows,))."""
        keep = np.ones(shard.rows, dtype=bool)
        start, stop = np.searchsorted(self.superseded, [shard.base, shard.base + shard.rows])
        keep[self.superseded[start:stop] - shard.base] = False
        return keep

    def row_ids(self, offsets: Ids) -> Ids:
        """The ``row_id`` of the rows at ``offsets`` (int64, shape (n,))."""
        return _looked_up(offsets, self.carried_places, self.carried_row_ids)

    def offsets(self, row_ids: Ids) -> Ids:
        """Offsets of the documents ``row_ids`` (int64, shape (n,)); whether the snapshot has them is not checked."""
        order = np.argsort(self.carried_row_ids)
        return _looked_up(row_ids, self.carried_row_ids[order], self.carried_places[order])

    def locate(self, row_ids: Ids) -> Iterator[tuple[Shard, Ids, Ids]]:
        """Yield, for each shard that holds some of ``row_ids``, (shard, rows in it, positions in ``row_ids``).

        Raises
        ------
        WorkspaceError
            If the snapshot has no such document.
        """
        offsets = self.offsets(row_ids)
        owner = np.searchsorted(self.shards.bases, offsets, side="right") - 1
        for index in np.unique(owner):
            positions = np.flatnonzero(owner == index)
            if index < 0:
                raise WorkspaceError(f"the snapshot {self.id} has no row_id {int(row_ids[positions].min())}")
            shard = self.shards[int(index)]
            rows = offsets[positions] - shard.base
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


def inside(offsets: Ids, table: ShardTable) -> NDArray[np.bool_]:
    """Whether a shard of ``table`` holds each offset (bool, shape (n,))."""
    if not len(table):
        return np.zeros(len(offsets), dtype=bool)
    owner = np.searchsorted(table.bases, offsets, side="right") - 1
    last = np.maximum(owner, 0)
    return (owner >= 0) & (offsets < (table.bases + table.rows)[last])
