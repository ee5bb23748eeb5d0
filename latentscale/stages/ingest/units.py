"""Units of ingest in columnar form, and their lookup by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.readers.input_table import InputFile, InputTable
from latentscale.storage.columns import indices

KEY_BYTES = 16

Places = NDArray[np.int64]
Places32 = NDArray[np.int32]
RowGroups = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestUnit:
    """A unit of work, which yields one or more shards.

    Attributes
    ----------
    key : str
        Digest of the input and of the settings that affect the result; 32 hex characters.
    inputs : tuple of InputFile
        Files, read in this order.
    row_groups : (int, int) or None
        Range of row groups of a large parquet file.
    """

    key: str
    inputs: tuple[InputFile, ...]
    row_groups: tuple[int, int] | None = None


class UnitTable(Sequence[IngestUnit]):
    """Units in input order, in columnar form: a million of them take tens of megabytes besides their inputs.

    Attributes
    ----------
    keys : pyarrow.LargeStringArray, shape (n,)
    inputs : InputTable
        Files of the corpus.
    starts : int64 ndarray, shape (n + 1,)
        Unit ``i`` reads ``inputs[members[starts[i]:starts[i + 1]]]``.
    members : int64 ndarray
    row_groups : int32 ndarray, shape (n, 2)
        -1 where a unit reads whole files.
    """

    def __init__(
        self, keys: pa.LargeStringArray, inputs: InputTable, starts: Places, members: Places, row_groups: RowGroups
    ) -> None:
        self.keys = keys
        self.inputs = inputs
        self.starts = starts
        self.members = members
        self.row_groups = row_groups

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> IngestUnit: ...
    @overload
    def __getitem__(self, index: slice) -> UnitTable: ...
    def __getitem__(self, index: int | slice) -> IngestUnit | UnitTable:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        position = range(len(self))[index]
        files = tuple(
            self.inputs[member] for member in self.members[self.starts[position] : self.starts[position + 1]].tolist()
        )
        first, after = self.row_groups[position].tolist()
        return IngestUnit(key=str(self.keys[position]), inputs=files, row_groups=None if first < 0 else (first, after))

    def __iter__(self) -> Iterator[IngestUnit]:
        return (self[position] for position in range(len(self)))

    def take(self, positions: Places) -> UnitTable:
        """Select the units at ``positions``, in that order."""
        members, starts = concat_ranges(self.members, self.starts[positions], self.starts[positions + 1])
        return UnitTable(self.keys.take(indices(positions)), self.inputs, starts, members, self.row_groups[positions])

    def files(self) -> InputTable:
        """The distinct files that these units read, in input order."""
        return self.inputs.take(np.unique(self.members))

    def places(self, keys: pa.LargeStringArray) -> Places32:
        """Find the positions of units by key (int32, shape (n,)); -1 if not planned."""
        return self.by_key.places(keys)

    @cached_property
    def by_key(self) -> KeyIndex:
        """Index of the units by key."""
        return KeyIndex(self.keys)


class KeyIndex:
    """Index of keys: binary search by half of their bits, then comparison in full.

    Parameters
    ----------
    keys : pyarrow.LargeStringArray, shape (n,)
        32 hexadecimal characters each.
    """

    def __init__(self, keys: pa.LargeStringArray) -> None:
        self._keys = _characters(keys)
        halves = _halves(self._keys)
        self._order: Places32 = np.argsort(halves, kind="stable").astype(np.int32)
        self._halves = halves[self._order]

    def places(self, keys: pa.LargeStringArray) -> Places32:
        """Find the positions of ``keys``, of 32 characters each (int32, shape (m,)); -1 for missing ones."""
        if not len(self._order):
            return np.full(len(keys), -1, dtype=np.int32)
        wanted = _characters(keys)
        near = np.minimum(np.searchsorted(self._halves, _halves(wanted)), len(self._order) - 1)
        positions = self._order[near]
        return np.where(self._keys[positions] == wanted, positions, np.int32(-1))


def _halves(keys: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Decode the first 64 of the 128 bits of each key."""
    halves = np.zeros(len(keys), dtype=np.uint64)
    characters = keys.view(np.uint8).reshape(len(keys), 2 * KEY_BYTES)
    for position in range(KEY_BYTES):
        code = characters[:, position]
        # The low four bits of '0' to '9' are the digit, those of 'a' to 'f' are 1 to 6.
        halves = (halves << np.uint64(4)) | ((code & 15) + 9 * (code >> 6)).astype(np.uint64)
    return halves


def _characters(keys: pa.LargeStringArray) -> NDArray[np.bytes_]:
    """View keys of 32 characters as a byte array, without a copy."""
    width = 2 * KEY_BYTES
    offsets = np.frombuffer(keys.buffers()[1], dtype=np.int64)[keys.offset : keys.offset + len(keys) + 1]
    if len(keys) == 0:
        return np.empty(0, dtype=f"S{width}")
    if offsets[-1] - offsets[0] != width * len(keys):
        raise ValueError(f"a key has not {width} characters")
    return np.frombuffer(keys.buffers()[2], dtype=f"S{width}", count=len(keys), offset=int(offsets[0]))


def concat_ranges(values: Places, starts: Places, stops: Places) -> tuple[Places, Places]:
    """Concatenate the slices ``values[start:stop]``; also returns the offsets of the slices in the result."""
    sizes = stops - starts
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    return values[np.repeat(starts, sizes) + within], offsets
