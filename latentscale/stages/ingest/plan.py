"""The plan of ingest: inputs are split into units of work, each with a key that names its result."""

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
from latentscale.readers.vector_files import has_file_per_table, vector_file_of
from latentscale.readers.vectors import vector_file_state
from latentscale.stages.ingest.units import KEY_BYTES, Places, RowGroups, UnitTable, concat_ranges
from latentscale.storage.columns import BATCH, fixed_width

VERSION = 2
"""Of what ingest writes; raised when the same input and settings give other shards or other keys."""

# Smaller files are grouped into units of about this many bytes.
TINY_BYTES = 4 << 20
GROUP_BYTES = 16 << 20
# Parquet files up to this size are one unit, so that planning need not open a million small files.
WHOLE_PARQUET_BYTES = 32 << 20
_FILE_COST = 4 << 10
# Assumed compression ratio of text.
_EXPANSION = 4


# Settings added later: in the digest only if not at their default, so that older shards are reused.
_LATER = ("quote", "escape", "header", "comment", "skip_lines")


def stage_digest(corpus: CorpusConfig, ingest: IngestConfig) -> str:
    """Digest of all settings that affect the shards of a given input."""
    return digest(
        {
            "version": VERSION,
            "text": text_of(corpus),
            "id": corpus.id,
            # Aliases of UTF-8 are unified; other names are kept as given, to reuse existing shards.
            "encoding": "utf-8" if codecs.lookup(corpus.encoding).name == "utf-8" else corpus.encoding,
            "delimiter": corpus.delimiter,
            "where": corpus.where,
            "limit": corpus.limit,
            "sample": None if corpus.sample == 1 else corpus.sample,
            "vectors": corpus.vectors
            if (vectors := corpus.vectors_file()) is None or has_file_per_table(vectors)
            else vector_file_state(vectors, content=ingest.fingerprint == "content"),
            "shard_rows": ingest.shard_rows,
            "shard_bytes": ingest.shard_bytes,
            "max_text_characters": ingest.max_text_characters,
            # Settings added later: a default does not change the digest.
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
    """Resolve ``fingerprint: auto`` for these inputs.

    Parameters
    ----------
    held : {"stat", "content"}, optional
        The rule of the workspace's earlier runs: with another one every file would count as changed.
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
    """Split the inputs into units of work, in input order.

    A large parquet file becomes units of whole row groups, about ``shard_rows`` rows each; any other large file a
    single unit, read sequentially; files below 4 MiB are grouped. Group boundaries depend only on the path and size of
    the last file, so that an added file changes one group only. With ``limit`` there is a single unit, as only a
    sequential reader knows when it has enough documents.

    Parameters
    ----------
    groups : mapping of str to sequence of str, optional
        Earlier groups of small files: fingerprints of their files by the unit's key. Groups whose files all still exist
        are kept, so that new files do not change them.

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
    """Whether each of the files ``left`` starts a unit (bool, shape of ``left``)."""
    begins = np.ones(len(left), dtype=bool)
    if len(left) < 2:
        return begins
    tiny, formats = small[left], inputs.formats[left]
    ends = np.zeros(len(left), dtype=bool)
    ends[tiny] = _ends_group(inputs.take(left[tiny]))
    begins[1:] = ~tiny[1:] | ~tiny[:-1] | (formats[1:] != formats[:-1]) | ends[:-1]
    return begins


def _ends_group(files: InputTable) -> NDArray[np.bool_]:
    """Whether each file ends a group: pseudo-random by its path, with its share of a full group as probability."""
    expansion = np.where(files.compressions == 0, 1, _EXPANSION)
    sizes = np.maximum(files.sizes * expansion, _FILE_COST)
    drawn = bytearray()
    for start in range(0, len(files), BATCH):
        for path in files.paths.slice(start, BATCH).to_pylist():
            drawn += hashlib.blake2b(path.encode(), digest_size=8).digest()
    # A uniform number in [0, 1).
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
            # With other settings the same files have other keys.
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
    """Split large parquet files into units at their row groups."""
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
    members, offsets = concat_ranges(members, starts[again], starts[again + 1])
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
    """Contribution of each file to the key of a unit."""
    formats = [f"\0{name}" for name in FORMATS]
    # Distinguishes shards of versions that did not read columns from paths.
    partitioned = [f"{name}\0partitions" for name in formats]
    for identity, kind in zip(_identities(files, corpus, ingest), files.formats, strict=True):
        suffixes = partitioned if "=" in identity and partitions_of(identity.partition("\0")[0]) else formats
        # Paths contain no NUL, so the encoding of a list of files is unambiguous.
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
    """Fingerprint of each input, with that of its file of vectors, if it has one."""
    rule = _rule(ingest)
    vectors = corpus.vectors_file()
    if vectors is None or not has_file_per_table(vectors):
        yield from identities(files, rule, corpus.storage)
        return
    for file, identity in zip(files, identities(files, rule, corpus.storage), strict=True):
        yield f"{identity}\0{vector_file_state(vector_file_of(vectors, file), content=rule == 'content')}"


def group_members(units: UnitTable, corpus: CorpusConfig, ingest: IngestConfig) -> dict[str, list[str]]:
    """Return the groups of small files among some units, in the form that ``plan_ingest`` accepts."""
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
