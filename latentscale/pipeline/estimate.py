"""Estimate the size of a corpus before it is read, from footers and the first megabyte of some files."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from latentscale.config import JobConfig
from latentscale.readers import read_input
from latentscale.readers.check import CorpusCheck
from latentscale.readers.input_table import COMPRESSIONS, InputFile, InputTable
from latentscale.readers.opening import open_input
from latentscale.readers.streams import SEEKING, open_content

SAMPLE_BYTES = 1 << 20
SAMPLE_FILES = 4
EXPANSION = {"none": 1.0, "gzip": 4.0, "zstd": 4.5, "bzip2": 5.0, "xz": 5.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusSize:
    """Estimated size of a corpus.

    Attributes
    ----------
    documents : int
        Before ``corpus.where`` is applied.
    bytes : float
        Size of these documents, decompressed, without vectors.
    basis : str
        Basis of the number of documents, for display.
    """

    documents: int
    bytes: float
    basis: str


def estimate_size(inputs: InputTable, config: JobConfig, check: CorpusCheck) -> CorpusSize:
    """Estimate the documents of a job and their bytes."""
    everything, basis = (
        (check.rows, "counted in the footers of the files")
        if check.rows is not None
        else (_estimate_rows(inputs, config), "estimated from the first megabyte of some files")
    )
    documents = everything
    if config.corpus.sample is not None:
        documents = round(documents * config.corpus.sample)
    if config.corpus.limit is not None:
        documents = min(documents, config.corpus.limit)
    held = _decompressed(inputs) * _packing(inputs, config)
    return CorpusSize(documents=documents, bytes=held * documents / max(everything, 1), basis=basis)


def _decompressed(inputs: InputTable) -> float:
    """Size of the files; compressed files are counted decompressed."""
    factors = np.array([EXPANSION[compression] for compression in COMPRESSIONS])
    return float((inputs.sizes * factors[inputs.compressions]).sum())


def _packing(inputs: InputTable, config: JobConfig) -> float:
    """Compression ratio of parquet files, by the footers of some of them; 1 for other formats."""
    sampled = inputs[:: max(1, len(inputs) // SAMPLE_FILES)][:SAMPLE_FILES]
    packed = held = 0
    for file in sampled:
        if file.format != "parquet" or file.compression != "none":
            continue
        with open_input(file, config.corpus.storage) as raw, pq.ParquetFile(raw) as opened:
            metadata = opened.metadata
            for group in range(metadata.num_row_groups):
                chunks = [metadata.row_group(group).column(at) for at in range(metadata.num_columns)]
                vectors = config.corpus.vectors_column()
                held += sum(c.total_uncompressed_size for c in chunks if c.path_in_schema.split(".")[0] != vectors)
        packed += file.size
    return held / packed if packed else 1.0


def _estimate_rows(inputs: InputTable, config: JobConfig) -> int:
    """Count records at the beginning of some files, and extrapolate."""
    if inputs[0].format == "files":
        return len(inputs)
    read = lines = 0
    step = max(1, len(inputs) // SAMPLE_FILES)
    for file in inputs[::step][:SAMPLE_FILES]:
        if file.format in SEEKING:
            block = next(read_input(file, config.corpus, config.ingest), None)
            if block is not None:
                read += int(block.cost.sum())
                lines += block.size
            continue
        with open_content(file, config.corpus) as content:
            data = content.read(SAMPLE_BYTES)
        read += len(data)
        lines += max(_records(file, data, config), 1)
    return max(1, round(_decompressed(inputs) * lines / max(read, 1)))


def _records(file: InputFile, data: bytes, config: JobConfig) -> int:
    if file.format == "json":
        return data.count(b"},") + data.count(b"}\n") + 1
    if file.format not in ("csv", "tsv"):
        return data.count(b"\n")
    # A quoted field may hold line breaks.
    text = data.decode(config.corpus.encoding, errors="replace")
    delimiter = config.corpus.delimiter or ("\t" if file.format == "tsv" else ",")
    return sum(1 for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
