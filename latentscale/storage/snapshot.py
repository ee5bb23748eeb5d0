"""The snapshot type: shards of documents at their offsets, and the mapping of rows to document ids."""

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
# Typical ratio of decompressed to compressed bytes of a shard of documents.
COMPRESSION = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One shard of documents, at its offset in a snapshot.

    Attributes
    ----------
    key : str
        Digest that identifies the unit of work that produced it.
    name : str
        Object name, ``documents/<kk>/<key>.parquet``.
    rows : int
    base : int
        Offset of its first row in the snapshot.
    bytes : int
    """

    key: str
    name: str
    rows: int
    base: int
    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class ShardTable(Sequence[Shard]):
    """The shards of a snapshot in columnar form, sorted by ``base``; a million of them take tens of megabytes.

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
        """Select shards by position, in that order."""
        return ShardTable(
            keys=self.keys.take(indices(positions)),
            rows=self.rows[positions],
            bases=self.bases[positions],
            bytes=self.bytes[positions],
        )

    def positions_not_in(self, other: ShardTable) -> Ids:
        """Return the positions of the shards that are not in ``other`` (int64, ascending)."""
        return np.flatnonzero(KeyIndex(other.keys).find(self.keys) < 0)

    def not_in(self, other: ShardTable) -> ShardTable:
        """Return the shards that are not in ``other``."""
        return self.take(self.positions_not_in(other))

    def concat(self, other: ShardTable) -> ShardTable:
        """Concatenate with ``other``."""
        if not len(self) or not len(other):
            return self if len(self) else other
        return ShardTable(
            keys=pa.concat_arrays([self.keys, other.keys]),
            rows=np.concatenate([self.rows, other.rows]),
            bases=np.concatenate([self.bases, other.bases]),
            bytes=np.concatenate([self.bytes, other.bytes]),
        )


# `pa.array` would import pandas if it is installed.
NO_SHARDS = ShardTable(keys=pa.nulls(0, pa.string()), rows=NO_IDS, bases=NO_IDS, bytes=NO_IDS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Snapshot:
    """The documents that a map is made of.

    The *offset* of a row is the ``base`` of its shard plus its index in the shard. Its ``row_id`` equals its offset,
    unless the document was in an earlier shard: documents of a renamed or rewritten file keep their row ids.

    Attributes
    ----------
    id : str
        ``snapshot-<16 hex>``, from the digest of the list of shards.
    shards : ShardTable
        Sorted by ``base``.
    superseded : int64 ndarray, sorted
        Offsets of rows that are rejected: replaced by a later one with the same id, or excluded.
    excluded : int64 ndarray, sorted
        Those of ``superseded`` that ``corpus.exclude`` or ``corpus.only`` excludes. An excluded document keeps its
        ``row_id`` in a renamed or rewritten file.
    empty : tuple of str
        Keys of shards without documents, whose rows were all rejected or filtered out.
    carried_offsets, carried_row_ids : int64 ndarray
        Offset, ascending, and ``row_id`` of the rows whose ``row_id`` differs from their offset.
    """

    id: str
    shards: ShardTable
    superseded: Ids
    empty: tuple[str, ...] = ()
    carried_offsets: Ids = field(default_factory=lambda: NO_IDS)
    carried_row_ids: Ids = field(default_factory=lambda: NO_IDS)
    excluded: Ids = field(default_factory=lambda: NO_IDS)

    @property
    def replaced(self) -> Ids:
        """Return the offsets of documents replaced by a later one with the same id (int64, sorted)."""
        return (
            np.setdiff1d(self.superseded, self.excluded, assume_unique=True) if len(self.excluded) else self.superseded
        )

    def __repr__(self) -> str:
        return f"<Snapshot {self.id}: documents {self.documents:,}, shards {len(self.shards):,}>"

    @property
    def rows(self) -> int:
        """Number of rows in the shards, including superseded ones."""
        return int(self.shards.rows.sum())

    @property
    def documents(self) -> int:
        """Number of documents: rows that are not superseded."""
        return self.rows - len(self.superseded)

    @property
    def bytes(self) -> int:
        """Total size of the shard objects in bytes."""
        return int(self.shards.bytes.sum())

    def shards_without(self, other: Snapshot | None) -> ShardTable:
        """Return the shards that are not in ``other``."""
        return self.shards if other is None else self.shards.not_in(other.shards)

    def kept(self, shard: Shard) -> NDArray[np.bool_]:
        """Whether each row of ``shard`` is a document (bool, shape (shard.rows,))."""
        keep = np.ones(shard.rows, dtype=bool)
        start, stop = np.searchsorted(self.superseded, [shard.base, shard.base + shard.rows])
        keep[self.superseded[start:stop] - shard.base] = False
        return keep

    def row_ids(self, offsets: Ids) -> Ids:
        """Convert offsets to row ids (int64, shape (n,))."""
        return _replace_known(offsets, self.carried_offsets, self.carried_row_ids)

    def offsets(self, row_ids: Ids) -> Ids:
        """Convert row ids to offsets (int64, shape (n,)), without checking that the snapshot contains them."""
        order = np.argsort(self.carried_row_ids)
        return _replace_known(row_ids, self.carried_row_ids[order], self.carried_offsets[order])

    def locate(self, row_ids: Ids) -> Iterator[tuple[Shard, Ids, Ids]]:
        """Yield (shard, rows in the shard, positions in ``row_ids``) for each shard that contains some of ``row_ids``.

        Raises
        ------
        WorkspaceError
            If the snapshot lacks one of them.
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


def _replace_known(values: Ids, known: Ids, results: Ids) -> Ids:
    """Replace those of ``values`` that are among the ascending ``known`` by their ``results``."""
    if not len(known):
        return values
    found = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[found] == values, results[found], values)


def document_name(key: str) -> str:
    """Return the object name of a shard of documents."""
    return f"documents/{key[:2]}/{key}.parquet"


def in_shards(offsets: Ids, table: ShardTable) -> NDArray[np.bool_]:
    """Whether each offset is within a shard of ``table`` (bool, shape (n,))."""
    if not len(table):
        return np.zeros(len(offsets), dtype=bool)
    owner = np.searchsorted(table.bases, offsets, side="right") - 1
    last = np.maximum(owner, 0)
    return (owner >= 0) & (offsets < (table.bases + table.rows)[last])
