"""The plan of ingest: inputs cut into units of work, each with a key that names its result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
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


def plan_ingest(inputs: Sequence[InputFile], corpus: CorpusConfig, ingest: IngestConfig) -> list[IngestUnit]:
    """Cut the inputs into units of work, in input order.

    A large parquet file gives units of whole row groups, about ``shard_rows`` rows each; any other large file one unit
    that reads it from beginning to end; files below 4 MiB are read together. Where a group ends depends only on the
    path and size of the file that ends it, so that an added file alters one group. With ``limit`` everything is one
    unit, since only a reader that goes from the first file on knows when there are enough documents.

    Raises
    ------
    CorpusError
        If a large parquet file is damaged.
    """
    stage = stage_digest(corpus, ingest)
    if corpus.limit is not None:
        return [_unit(inputs, corpus, ingest, stage)] if inputs else []
    units: list[IngestUnit] = []
    group: list[InputFile] = []
    for file in inputs:
        if file.size < TINY_BYTES:
            if group and group[0].format != file.format:
                units.append(_unit(group, corpus, ingest, stage))
                group = []
            group.append(file)
            if _ends_group(file):
                units.append(_unit(group, corpus, ingest, stage))
                group = []
            continue
        if group:
            units.append(_unit(group, corpus, ingest, stage))
            group = []
        if file.format == "parquet" and file.compression == "none" and file.size > WHOLE_PARQUET_BYTES:
            units.extend(
                _unit([file], corpus, ingest, stage, row_groups=groups) for groups in _row_groups(file, corpus, ingest)
            )
        else:
            units.append(_unit([file], corpus, ingest, stage))
    if group:
        units.append(_unit(group, corpus, ingest, stage))
    return units


def _unit(
    files: Sequence[InputFile],
    corpus: CorpusConfig,
    ingest: IngestConfig,
    stage: str,
    *,
    row_groups: tuple[int, int] | None = None,
) -> IngestUnit:
    prints = [[fingerprint(file, ingest.fingerprint, corpus.storage_options), file.format] for file in files]
    key = digest({"stage": stage, "inputs": prints, "row_groups": row_groups})
    return IngestUnit(key=key, inputs=tuple(files), row_groups=row_groups)


def _ends_group(file: InputFile) -> bool:
    """Say by chance, drawn from the path, whether a group ends here; the odds are the file's part of a full group."""
    size = max(file.size * (1 if file.compression == "none" else _EXPANSION), _FILE_COST)
    drawn = int.from_bytes(hashlib.blake2b(file.path.encode(), digest_size=8).digest(), "big")
    return drawn < size * 2**64 // GROUP_BYTES


def _row_groups(file: InputFile, corpus: CorpusConfig, ingest: IngestConfig) -> Iterator[tuple[int, int]]:
    from latentscale.readers.parquet import open_source_parquet

    with open_input(file, corpus.storage_options) as raw:
        metadata = open_source_parquet(file, raw).metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    start = rows = 0
    for group, size in enumerate(sizes):
        if group > start and rows + size > ingest.shard_rows:
            yield start, group
            start, rows = group, 0
        rows += size
    yield start, len(sizes)
