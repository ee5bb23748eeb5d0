"""Readers of the corpus: each turns one kind of file into blocks of rows and rows set aside."""

from __future__ import annotations

from collections.abc import Iterator

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers.records import Block, RejectedRows
from latentscale.storage.input_table import InputFile
from latentscale.storage.inputs import open_input

__all__ = ["Block", "RejectedRows", "read_input"]


def read_input(
    file: InputFile, corpus: CorpusConfig, ingest: IngestConfig, *, row_groups: tuple[int, int] | None = None
) -> Iterator[Block]:
    """Read one input, or some row groups of a parquet file, block by block in the order of the file.

    Raises
    ------
    CorpusError
        If the file is gone, damaged, or of another kind than its name says.
    """
    with open_input(file, corpus.storage) as raw:
        if file.format == "parquet":
            from latentscale.readers.parquet import read_parquet_rows

            if file.compression == "none":
                yield from read_parquet_rows(file, raw, row_groups)
                return
            import tempfile

            from latentscale.readers.streams import spool

            # Parquet is read from its end: what was compressed as a whole must be unpacked first.
            with tempfile.TemporaryFile() as unpacked:
                spool(file, raw, unpacked)
                yield from read_parquet_rows(file, unpacked, row_groups)
        elif file.format in ("csv", "tsv"):
            from latentscale.readers.delimited import read_delimited

            yield from read_delimited(file, raw, corpus, ingest)
        elif file.format == "jsonl":
            from latentscale.readers.jsonl import read_jsonl

            yield from read_jsonl(file, raw, corpus, ingest)
        elif file.format == "lines":
            from latentscale.readers.text import read_text_lines

            yield from read_text_lines(file, raw, corpus, ingest)
        else:
            from latentscale.readers.text import read_text_file

            yield from read_text_file(file, raw, corpus, ingest)
