"""Readers of the corpus: each converts one file format into blocks of rows and rejected rows."""

from __future__ import annotations

from collections.abc import Iterator

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.readers.input_table import InputFile
from latentscale.readers.partitions import partitions_of, with_partitions
from latentscale.readers.records import Block, RejectedRows
from latentscale.readers.streams import SEEKING, open_content, open_seekable

__all__ = ["Block", "RejectedRows", "read_input"]


def read_input(
    file: InputFile,
    corpus: CorpusConfig,
    ingest: IngestConfig,
    *,
    row_groups: tuple[int, int] | None = None,
    verified: bool = False,
) -> Iterator[Block]:
    """Read one input, or some row groups of a parquet file, and yield its blocks in file order.

    Parameters
    ----------
    row_groups : (int, int), optional
        First and end (exclusive) row group of a parquet file; by default all.
    verified : bool
        Whether to verify the content of a remote object by its checksum; for inputs that are read completely.

    Raises
    ------
    CorpusError
        If the file is missing, damaged, or of another format than its name implies.
    """
    partitions = partitions_of(file.path)
    for block in _blocks(file, corpus, ingest, row_groups, verified):
        yield with_partitions(block, partitions) if partitions else block


def _blocks(
    file: InputFile, corpus: CorpusConfig, ingest: IngestConfig, row_groups: tuple[int, int] | None, verified: bool
) -> Iterator[Block]:
    if file.format == "lance":
        from latentscale.readers.lance import read_lance

        yield from read_lance(file)
        return
    if file.format in SEEKING:
        with open_seekable(file, corpus, verified=verified and row_groups is None) as raw:
            if file.format == "parquet":
                from latentscale.readers.parquet import read_parquet_rows

                yield from read_parquet_rows(file, raw, row_groups, most=corpus.max_expansion)
            elif file.format == "arrow":
                from latentscale.readers.arrow import read_arrow

                yield from read_arrow(file, raw, corpus)
            else:
                from latentscale.readers.excel import read_excel

                yield from read_excel(file, raw, corpus, ingest)
        return
    with open_content(file, corpus, verified=verified) as content:
        if file.format in ("csv", "tsv"):
            from latentscale.readers.delimited import read_delimited

            yield from read_delimited(file, content, corpus, ingest)
        elif file.format == "jsonl":
            from latentscale.readers.jsonl import read_jsonl

            yield from read_jsonl(file, content, corpus, ingest)
        elif file.format == "json":
            from latentscale.readers.json_array import read_json

            yield from read_json(file, content, corpus, ingest)
        elif file.format == "lines":
            from latentscale.readers.text import read_text_lines

            yield from read_text_lines(file, content, corpus, ingest)
        else:
            from latentscale.readers.text import read_text_file

            yield from read_text_file(file, content, corpus, ingest)
