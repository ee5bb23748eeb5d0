"""The plan of ingest: inputs cut into units of work, each with a key that names its result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.digest import digest
from latentscale.readers.columns import text_of
from latentscale.storage.columns import BATCH, fixed_width, indices
from latentscale.storage.input_table import FORMATS, InputFile, InputTable
from latentscale.storage.inputs import identities, open_input

VERSION = 2
"""Of what ingest writes; raised when the same input and settings give other shards or other keys."""

# Smaller files are read together; a group holds about so many bytes.
TINY_BYTES = 4 << 20
GROUP_BYTES = 16 << 20
# Parquet files up to this size are one unit, so that a plan need not open each of a million small files.
WHOLE_PARQUET_BYTES = 32 << 20
_FILE_COST = 4 << 10
# Compressed text holds about so many times its bytes.
_EXPANSION = 4
_KEY_BYTES = 16

Places = NDArray[np.int64]
Places32 = NDArray[np.int32]
RowGroups = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestUnit:
    """Work that is done in one go, and gives one or more shards.

    Attributes
    ----------
    key : str
        Digest of what is read and of the settings that alter the result; 32 hex characters.
    inputs : tuple of InputFile
        Read one after the other.
    row_groups : (int, int) or None
        Of a large parquet file: the first row group and the one after the last.
    """

    key: str
    inputs: tuple[InputFile, ...]
    row_groups: tuple[int, int] | None = None


class UnitTable(Sequence[IngestUnit]):
    """Units in input order, as columns: a million of them take tens of megabytes beside their inputs.

    Attributes
    ----------
    keys : pyarrow.LargeStringArray, shape (n,)
    inputs : InputTable
        Of the corpus.
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
        place = range(len(self))[index]
        files = tuple(
            self.inputs[member] for member in self.members[self.starts[place] : self.starts[place + 1]].tolist()
        )
        first, after = self.row_groups[place].tolist()
        return IngestUnit(key=str(self.keys[place]), inputs=files, row_groups=None if first < 0 else (first, after))

    def __iter__(self) -> Iterator[IngestUnit]:
        return (self[place] for place in range(len(self)))

    def take(self, places: Places) -> UnitTable:
        """The units at ``places``, in that order."""
        members, starts = _runs(self.members, self.starts[places], self.starts[places + 1])
        return UnitTable(self.keys.take(indices(places)), self.inputs, starts, members, self.row_groups[places])

    def files(self) -> InputTable:
        """The files that these units read, each once, in input order."""
        return self.inputs.take(np.unique(self.members))

    def places(self, keys: pa.LargeStringArray) -> Places32:
        """Where the units of some keys stand (int32, shape (n,)); -1 for a key that is not planned."""
        return self.by_key.places(keys)

    @cached_property
    def by_key(self) -> KeyIndex:
        """Finds units by their keys."""
        return KeyIndex(self.keys)


class KeyIndex:
    """Finds unit keys among those of a plan: by half of their bits, as sorted numbers, and then in full.

    Parameters
    ----------
    keys : pyarrow.LargeStringArray, shape (n,)
        Of 32 hexadecimal characters each.
    """

    def __init__(self, keys: pa.LargeStringArray) -> None:
        self._keys = _characters(keys)
        halves = _halves(self._keys)
        self._order: Places32 = np.argsort(halves, kind="stable").astype(np.int32)
        self._halves = halves[self._order]

    def places(self, keys: pa.LargeStringArray) -> Places32:
        """Where ``keys``, of 32 characters each, stand (int32, shape (m,)); -1 for one that is not there."""
        if not len(self._order):
            return np.full(len(keys), -1, dtype=np.int32)
        wanted = _characters(keys)
        near = np.minimum(np.searchsorted(self._halves, _halves(wanted)), len(self._order) - 1)
        places = self._order[near]
        return np.where(self._keys[places] == wanted, places, np.int32(-1))


def _halves(keys: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """The first 64 of the 128 bits of each key."""
    halves = np.zeros(len(keys), dtype=np.uint64)
    characters = keys.view(np.uint8).reshape(len(keys), 2 * _KEY_BYTES)
    for place in range(_KEY_BYTES):
        code = characters[:, place]
        # '0' to '9' end in their own bits, 'a' to 'f' in 1 to 6.
        halves = (halves << np.uint64(4)) | ((code & 15) + 9 * (code >> 6)).astype(np.uint64)
    return halves


def _characters(keys: pa.LargeStringArray) -> NDArray[np.bytes_]:
    """Keys of 32 characters as an array over the same memory."""
    width = 2 * _KEY_BYTES
    offsets = np.frombuffer(keys.buffers()[1], dtype=np.int64)[keys.offset : keys.offset + len(keys) + 1]
    if len(keys) == 0:
        return np.empty(0, dtype=f"S{width}")
    if offsets[-1] - offsets[0] != width * len(keys):
        raise ValueError(f"a key has not {width} characters")
    return np.frombuffer(keys.buffers()[2], dtype=f"S{width}", count=len(keys), offset=int(offsets[0]))


def _runs(values: Places, starts: Places, stops: Places) -> tuple[Places, Places]:
    """Join the pieces ``values[start:stop]``; also where each of them begins, and the end."""
    sizes = stops - starts
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes)
    return values[np.repeat(starts, sizes) + within], offsets


def stage_digest(corpus: CorpusConfig, ingest: IngestConfig) -> str:
    """Digest of all settings that alter the shards of a given input."""
    return digest(
        {
            "version": VERSION,
            "text": text_of(corpus),
            "id": corpus.id,
            "encoding": corpus.encoding,
            "delimiter": corpus.delimiter,
            "where": corpus.where,
            "limit": corpus.limit,
            "sample": corpus.sample,
            "vectors": corpus.vectors,
            "shard_rows": ingest.shard_rows,
            "shard_bytes": ingest.shard_bytes,
            "max_text_characters": ingest.max_text_characters,
        }
    )


def plan_ingest(
    inputs: InputTable,
    corpus: CorpusConfig,
    ingest: IngestConfig,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> UnitTable:
    """Cut the inputs into units of work, in input order.

    A large parquet file gives units of whole row groups, about ``shard_rows`` rows each; any other large file one unit
    that reads it from beginning to end; files below 4 MiB are read together. Where a group ends depends only on the
    path and size of the file that ends it, so that an added file alters one group. With ``limit`` everything is one
    unit, since only a reader that goes from the first file on knows when there are enough documents.

    Parameters
    ----------
    groups : mapping of str to sequence of str, optional
        Groups of small files that were read before, the fingerprints of their files by the unit's key. One of which
        every file is still there stays as it is, so that files which came since disturb none.

    Raises
    ------
    CorpusError
        If a large parquet file is damaged.
    """
    stage = stage_digest(corpus, ingest)
    everything = np.arange(len(inputs))
    if corpus.limit is not None:
        return _table(inputs, everything, np.unique([0, len(inputs)]), None, corpus, ingest, stage)
    small = inputs.sizes < TINY_BYTES
    known = _known_groups(inputs, np.flatnonzero(small), groups or {}, corpus, ingest, stage)
    left = np.delete(everything, np.concatenate(known)) if known else everything
    begins = _begins(inputs, left, small, corpus)
    starts = np.append(np.flatnonzero(begins), len(left))
    members, row_groups = left, np.full((len(starts) - 1, 2), -1, dtype=np.int32)
    if known:
        pieces = [*known, *np.split(left, starts[1:-1])] if len(left) else known
        pieces.sort(key=lambda piece: int(piece[0]))
        members = np.concatenate(pieces)
        starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
        row_groups = np.full((len(pieces), 2), -1, dtype=np.int32)
    members, starts, row_groups = _by_row_groups(inputs, members, starts, row_groups, corpus, ingest)
    return _table(inputs, members, starts, row_groups, corpus, ingest, stage)


def _begins(inputs: InputTable, left: Places, small: NDArray[np.bool_], corpus: CorpusConfig) -> NDArray[np.bool_]:
    """Say of each of the files ``left`` whether a unit begins with it (bool, shape of ``left``)."""
    begins = np.ones(len(left), dtype=bool)
    if len(left) < 2:
        return begins
    tiny, formats = small[left], inputs.formats[left]
    ends = np.zeros(len(left), dtype=bool)
    ends[tiny] = _ends_group(inputs.take(left[tiny]))
    begins[1:] = ~tiny[1:] | ~tiny[:-1] | (formats[1:] != formats[:-1]) | ends[:-1]
    return begins


def _ends_group(files: InputTable) -> NDArray[np.bool_]:
    """Say by chance, drawn from the path, whether a group ends here; the odds are the file's part of a full group."""
    expansion = np.where(files.compressions == 0, 1, _EXPANSION)
    sizes = np.maximum(files.sizes * expansion, _FILE_COST)
    drawn = bytearray()
    for start in range(0, len(files), BATCH):
        for path in files.paths.slice(start, BATCH).to_pylist():
            drawn += hashlib.blake2b(path.encode(), digest_size=8).digest()
    # The share of 2 ** 64 that is drawn, as a number below 1.
    shares = np.frombuffer(bytes(drawn), dtype=">u8").astype(np.float64) / 2.0**64
    return shares < sizes / GROUP_BYTES


def _known_groups(
    inputs: InputTable,
    small: Places,
    groups: Mapping[str, Sequence[str]],
    corpus: CorpusConfig,
    ingest: IngestConfig,
    stage: str,
) -> list[Places]:
    if not groups or not len(small):
        return []
    by_print = dict(zip(_fingerprints(inputs.take(small), corpus, ingest), small.tolist(), strict=True))
    kept: list[Places] = []
    for key, prints in groups.items():
        members = [by_print[one] for one in prints if one in by_print]
        if members and len(members) == len(prints):
            found = np.array(members, dtype=np.int64)
            unit = _table(inputs, found, np.array([0, len(found)]), None, corpus, ingest, stage)
            # With other settings the same files give other shards.
            if str(unit.keys[0]) == key:
                kept.append(found)
    return kept


def _by_row_groups(
    inputs: InputTable,
    members: Places,
    starts: Places,
    row_groups: RowGroups,
    corpus: CorpusConfig,
    ingest: IngestConfig,
) -> tuple[Places, Places, RowGroups]:
    """Cut the units that read a large parquet file at its row groups."""
    table = (inputs.formats == FORMATS.index("parquet")) & (inputs.compressions == 0)
    cut = np.flatnonzero((table & (inputs.sizes > WHOLE_PARQUET_BYTES))[members[starts[:-1]]])
    if not len(cut):
        return members, starts, row_groups
    pieces: dict[int, list[tuple[int, int]]] = {}
    for unit in cut.tolist():
        pieces[unit] = list(_row_groups(inputs[int(members[starts[unit]])], corpus, ingest))
    counts = np.ones(len(starts) - 1, dtype=np.int64)
    counts[cut] = [len(pieces[unit]) for unit in cut.tolist()]
    again = np.repeat(np.arange(len(counts)), counts)
    members, offsets = _runs(members, starts[again], starts[again + 1])
    row_groups = row_groups[again]
    row_groups[np.isin(again, cut)] = [pair for unit in cut.tolist() for pair in pieces[unit]]
    return members, offsets, row_groups


def _table(
    inputs: InputTable,
    members: Places,
    starts: Places,
    row_groups: RowGroups | None,
    corpus: CorpusConfig,
    ingest: IngestConfig,
    stage: str,
) -> UnitTable:
    """Give each unit its key: the digest of the settings, of its files and of its row groups."""
    if row_groups is None:
        row_groups = np.full((len(starts) - 1, 2), -1, dtype=np.int32)
    settled = hashlib.blake2b(f"{stage}\n{ingest.fingerprint}".encode(), digest_size=_KEY_BYTES)
    keys = bytearray()
    read = inputs if np.array_equal(members, np.arange(len(inputs))) else inputs.take(members)
    lines = _lines(read, corpus, ingest)
    for begin in range(0, len(starts) - 1, BATCH):
        some = slice(begin, begin + BATCH)
        sizes = np.diff(starts[begin : begin + BATCH + 1]).tolist()
        for size, (first, after) in zip(sizes, row_groups[some].tolist(), strict=True):
            state = settled.copy()
            for _ in range(size):
                state.update(next(lines))
            if first >= 0:
                state.update(f"\n\n{first}-{after}".encode())
            keys += state.hexdigest().encode()
    return UnitTable(fixed_width(keys, 2 * _KEY_BYTES), inputs, starts.astype(np.int64), members, row_groups)


def _lines(files: InputTable, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[bytes]:
    """What each file adds to the key of a unit."""
    formats = [f"\0{name}" for name in FORMATS]
    for identity, kind in zip(identities(files, ingest.fingerprint, corpus.storage), files.formats, strict=True):
        # No path holds a NUL: two lists of files never give the same bytes.
        yield f"\n{identity}{formats[kind]}".encode()


def _fingerprints(files: InputTable, corpus: CorpusConfig, ingest: IngestConfig) -> list[str]:
    return [
        hashlib.blake2b(identity.encode(), digest_size=_KEY_BYTES).hexdigest()
        for identity in identities(files, ingest.fingerprint, corpus.storage)
    ]


def group_members(units: UnitTable, corpus: CorpusConfig, ingest: IngestConfig) -> dict[str, list[str]]:
    """The groups of small files among some units, as ``plan_ingest`` takes them."""
    if not len(units):
        return {}
    large = units.inputs.sizes[units.members] >= TINY_BYTES
    small = units.take(np.flatnonzero(np.add.reduceat(large, units.starts[:-1]) == 0))
    prints = _fingerprints(units.inputs.take(small.members), corpus, ingest)
    bounds = small.starts.tolist()
    return {
        key: prints[start:stop]
        for key, start, stop in zip(small.keys.to_pylist(), bounds[:-1], bounds[1:], strict=True)
    }


def _row_groups(file: InputFile, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[tuple[int, int]]:
    from latentscale.readers.parquet import open_source_parquet

    with open_input(file, corpus.storage) as raw:
        metadata = open_source_parquet(file, raw).metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    start = rows = 0
    for group, size in enumerate(sizes):
        if group > start and rows + size > ingest.shard_rows:
            yield start, group
            start, rows = group, 0
        rows += size
    yield start, len(sizes)
