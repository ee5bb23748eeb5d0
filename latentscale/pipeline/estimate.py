"""The size of a corpus before it is read: documents and bytes, from footers and the first megabyte of some files."""

from __future__ import annotations

import csv
import io

import numpy as np

from latentscale.config import JobConfig
from latentscale.readers import read_input
from latentscale.readers.check import CorpusCheck
from latentscale.readers.input_table import COMPRESSIONS, InputFile, InputTable
from latentscale.readers.streams import SEEKING, open_content

SAMPLE_BYTES = 1 << 20
SAMPLE_FILES = 4
EXPANSION = {"none": 1.0, "gzip": 4.0, "zstd": 4.5, "bzip2": 5.0, "xz": 5.5}


def text_bytes(inputs: InputTable) -> float:
    """Bytes of the corpus, decompressed."""
    factors = np.array([EXPANSION[compression] for compression in COMPRESSIONS])
    return float((inputs.sizes * factors[inputs.compressions]).sum())


def estimate_documents(inputs: InputTable, config: JobConfig, check: CorpusCheck) -> tuple[int, str]:
    """Documents of a job, about, and how that is known. A condition is not applied."""
    documents, basis = (
        (check.rows, "counted in the footers of the files")
        if check.rows is not None
        else (_estimate_rows(inputs, config), "estimated from the first megabyte of some files")
    )
    if config.corpus.sample is not None:
        documents = round(documents * config.corpus.sample)
    if config.corpus.limit is not None:
        documents = min(documents, config.corpus.limit)
    return documents, basis


def _estimate_rows(inputs: InputTable, config: JobConfig) -> int:
    """Count records in the beginning of some files, and scale up."""
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
    return max(1, round(text_bytes(inputs) * lines / max(read, 1)))


def _records(file: InputFile, data: bytes, config: JobConfig) -> int:
    if file.format == "json":
        return data.count(b"},") + data.count(b"}\n") + 1
    if file.format not in ("csv", "tsv"):
        return data.count(b"\n")
    # A quoted field may hold line breaks.
    text = data.decode(config.corpus.encoding, errors="replace")
    delimiter = config.corpus.delimiter or ("\t" if file.format == "tsv" else ",")
    return sum(1 for _ in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
