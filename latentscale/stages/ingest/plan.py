"""The plan of ingest: inputs cut into units of work, each with a key that names its result."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.digest import digest
from latentscale.readers.columns import text_of
from latentscale.readers.input_table import FORMATS, InputFile, InputTable
from latentscale.readers.inputs import open_input
from latentscale.readers.opening import fingerprint_rule, identities
from latentscale.readers.partitions import partitions_of
from latentscale.readers.vectors import vector_file_state
from latentscale.readers.vectors_beside import beside, is_one_for_each
from latentscale.stages.ingest.units import KEY_BYTES, Places, RowGroups, UnitTable, joined_runs
from latentscale.storage.columns import BATCH, fixed_width

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


# Settings that came later: part of the digest only where they are not at their default, so that older shards are found.
_LATER = ("quote", "escape", "header", "comment", "skip_lines")


def stage_digest(corpus: CorpusConfig, ingest: IngestConfig) -> str:
    """Digest of all settings that alter the shards of a given input."""
    return digest(
        {
            "version": VERSION,
            "text": text_of(corpus),
            "id": corpus.id,
            # Whatever UTF-8 is called; other names stay as they were given, for the sake of shards that are there.
            "encoding": "utf-8" if codecs.lookup(corpus.encoding).name == "utf-8" else corpus.encoding,
            "delimiter": corpus.delimiter,
            "where": corpus.where,
            "limit": corpus.limit,
            "sample": None if corpus.sample == 1 else corpus.sample,
            "vectors": corpus.vectors
            if (vectors := corpus.vectors_file()) is None or is_one_for_each(vectors)
            else vector_file_state(vectors, content=ingest.fingerprint == "content"),
            "shard_rows": ingest.shard_rows,
            "shard_bytes": ingest.shard_bytes,
            "max_text_characters": ingest.max_text_characters,
            # Settings that came later, where they are set: the default leaves the digest as it was.
            **({"sheet": corpus.sheet} if corpus.sheet else {}),
        }
        | {
            name: getattr(corpus, name)
            for name in _LATER
            if getattr(corpus, name) != CorpusConfig.model_fields[name].default
        }
    )


def settled_fingerprint(
    ingest: IngestConfig, inputs: InputTable, held: Literal["stat", "content"] | None = None
) -> IngestConfig:
    """Settings with ``fingerprint: auto`` as what it means for these inputs.

    Parameters
    ----------
    held : {"stat", "content"}, optional
        What the workspace's runs went by before: with another rule every file would be another one.
    """
    if ingest.fingerprint != "auto":
        return ingest
    return ingest.model_copy(update={"fingerprint": held or fingerprint_rule(inputs)})


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
    ingest = settled_fingerprint(ingest, inputs)
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
    """Whether a unit begins with each of the files ``left`` (bool, shape of ``left``)."""
    begins = np.ones(len(left), dtype=bool)
    if len(left) < 2:
        return begins
    tiny, formats = small[left], inputs.formats[left]
    ends = np.zeros(len(left), dtype=bool)
    ends[tiny] = _ends_group(inputs.take(left[tiny]))
    begins[1:] = ~tiny[1:] | ~tiny[:-1] | (formats[1:] != formats[:-1]) | ends[:-1]
    return begins


def _ends_group(files: InputTable) -> NDArray[np.bool_]:
    """Whether a group ends here, pseudo-randomly by the path, with the file's share of a full group as probability."""
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
    table = (inputs.formats == FORMATS.index("parquet")) & (inputs.compressions == 0) & ~inputs.in_archives
    cut = np.flatnonzero((table & (inputs.sizes > WHOLE_PARQUET_BYTES))[members[starts[:-1]]])
    if not len(cut):
        return members, starts, row_groups
    pieces: dict[int, list[tuple[int, int]]] = {}
    for unit in cut.tolist():
        pieces[unit] = list(_row_groups(inputs[int(members[starts[unit]])], corpus, ingest))
    counts = np.ones(len(starts) - 1, dtype=np.int64)
    counts[cut] = [len(pieces[unit]) for unit in cut.tolist()]
    again = np.repeat(np.arange(len(counts)), counts)
    members, offsets = joined_runs(members, starts[again], starts[again + 1])
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
    """Compute each unit's key: the digest of the settings, its files and its row groups."""
    if row_groups is None:
        row_groups = np.full((len(starts) - 1, 2), -1, dtype=np.int32)
    settled = hashlib.blake2b(f"{stage}\n{_rule(ingest)}".encode(), digest_size=KEY_BYTES)
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
    return UnitTable(fixed_width(keys, 2 * KEY_BYTES), inputs, starts.astype(np.int64), members, row_groups)


def _lines(files: InputTable, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[bytes]:
    """What each file adds to the key of a unit."""
    formats = [f"\0{name}" for name in FORMATS]
    # Shards of a version that did not read the columns of paths are not those of this one.
    partitioned = [f"{name}\0partitions" for name in formats]
    for identity, kind in zip(_identities(files, corpus, ingest), files.formats, strict=True):
        suffixes = partitioned if "=" in identity and partitions_of(identity.partition("\0")[0]) else formats
        # No path holds a NUL: two lists of files never give the same bytes.
        yield f"\n{identity}{suffixes[kind]}".encode()


def _rule(ingest: IngestConfig) -> Literal["stat", "content"]:
    assert ingest.fingerprint != "auto", "the whole list of inputs decides, and not a part of it"
    return ingest.fingerprint


def _fingerprints(files: InputTable, corpus: CorpusConfig, ingest: IngestConfig) -> list[str]:
    return [
        hashlib.blake2b(identity.encode(), digest_size=KEY_BYTES).hexdigest()
        for identity in _identities(files, corpus, ingest)
    ]


def _identities(files: InputTable, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[str]:
    """What each input is recognised by, and the vectors beside it where each has a file of them."""
    rule = _rule(ingest)
    vectors = corpus.vectors_file()
    if vectors is None or not is_one_for_each(vectors):
        yield from identities(files, rule, corpus.storage)
        return
    for file, identity in zip(files, identities(files, rule, corpus.storage), strict=True):
        yield f"{identity}\0{vector_file_state(beside(vectors, file), content=rule == 'content')}"


def group_members(units: UnitTable, corpus: CorpusConfig, ingest: IngestConfig) -> dict[str, list[str]]:
    """The groups of small files among some units, as ``plan_ingest`` takes them."""
    if not len(units):
        return {}
    ingest = settled_fingerprint(ingest, units.inputs)
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
