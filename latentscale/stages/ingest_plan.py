"""The plan of ingest: inputs cut into units of work, each with a key that names its result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.digest import digest
from latentscale.readers.columns import text_of
from latentscale.storage.inputs import InputFile, fingerprint, open_input

VERSION = 1
"""Of what ingest writes; raised when the same input and settings give other shards."""

# Smaller files are read together; a group holds about so many bytes.
TINY_BYTES = 4 << 20
GROUP_BYTES = 16 << 20
# Parquet files up to this size are one unit, so that a plan need not open each of a million small files.
WHOLE_PARQUET_BYTES = 32 << 20
_FILE_COST = 4 << 10
# Compressed text holds about so many times its bytes.
_EXPANSION = 4


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
    inputs: Sequence[InputFile],
    corpus: CorpusConfig,
    ingest: IngestConfig,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> list[IngestUnit]:
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
    if corpus.limit is not None:
        return [_unit(inputs, corpus, ingest, stage)] if inputs else []
    placed: list[tuple[int, IngestUnit]] = []
    small = [(place, file) for place, file in enumerate(inputs) if file.size < TINY_BYTES]
    for place, unit in _known_groups(small, groups or {}, corpus, ingest, stage):
        placed.append((place, unit))
    grouped = {file.url for _, unit in placed for file in unit.inputs}
    group: list[InputFile] = []
    first = 0

    def close() -> None:
        if group:
            placed.append((first, _unit(group, corpus, ingest, stage)))
            group.clear()

    for place, file in enumerate(inputs):
        if file.url in grouped:
            continue
        if file.size < TINY_BYTES:
            if group and group[0].format != file.format:
                close()
            if not group:
                first = place
            group.append(file)
            if _ends_group(file):
                close()
            continue
        close()
        if file.format == "parquet" and file.compression == "none" and file.size > WHOLE_PARQUET_BYTES:
            placed.extend(
                (place, _unit([file], corpus, ingest, stage, row_groups=rows))
                for rows in _row_groups(file, corpus, ingest)
            )
        else:
            placed.append((place, _unit([file], corpus, ingest, stage)))
    close()
    placed.sort(key=lambda item: item[0])
    return [unit for _, unit in placed]


def _known_groups(
    small: Sequence[tuple[int, InputFile]],
    groups: Mapping[str, Sequence[str]],
    corpus: CorpusConfig,
    ingest: IngestConfig,
    stage: str,
) -> Iterator[tuple[int, IngestUnit]]:
    if not groups or not small:
        return
    by_print = {fingerprint(file, ingest.fingerprint, corpus.storage): (place, file) for place, file in small}
    for key, prints in groups.items():
        members = [by_print[one] for one in prints if one in by_print]
        if len(members) == len(prints):
            unit = _unit([file for _, file in members], corpus, ingest, stage)
            # With other settings the same files give other shards.
            if unit.key == key:
                yield members[0][0], unit


def group_members(units: Iterable[IngestUnit], corpus: CorpusConfig, ingest: IngestConfig) -> dict[str, list[str]]:
    """The groups of small files among some units, as ``plan_ingest`` takes them."""
    return {
        unit.key: [fingerprint(file, ingest.fingerprint, corpus.storage) for file in unit.inputs]
        for unit in units
        if all(file.size < TINY_BYTES for file in unit.inputs)
    }


def _unit(
    files: Sequence[InputFile],
    corpus: CorpusConfig,
    ingest: IngestConfig,
    stage: str,
    *,
    row_groups: tuple[int, int] | None = None,
) -> IngestUnit:
    prints = [[fingerprint(file, ingest.fingerprint, corpus.storage), file.format] for file in files]
    key = digest({"stage": stage, "inputs": prints, "row_groups": row_groups})
    return IngestUnit(key=key, inputs=tuple(files), row_groups=row_groups)


def _ends_group(file: InputFile) -> bool:
    """Say by chance, drawn from the path, whether a group ends here; the odds are the file's part of a full group."""
    size = max(file.size * (1 if file.compression == "none" else _EXPANSION), _FILE_COST)
    drawn = int.from_bytes(hashlib.blake2b(file.path.encode(), digest_size=8).digest(), "big")
    return drawn < size * 2**64 // GROUP_BYTES


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
