"""Read Arrow's own format: IPC files (Feather) and streams, such as the files of a Hugging Face data set on a disk."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa

from latentscale.config import CorpusConfig
from latentscale.errors import CorpusError
from latentscale.file_names import shown
from latentscale.readers.archives import LARGE, expansion_error
from latentscale.readers.arrow_bounds import decompressed_sizes
from latentscale.readers.columns import plain_type
from latentscale.readers.input_table import InputFile
from latentscale.readers.parquet import BATCH_ROWS, pieces, row_costs, table_block
from latentscale.readers.records import Block
from latentscale.readers.streams import refuse_other_content
from latentscale.storage.remote.reader import RangeReader

_FILE = b"ARROW1"
_FEATHER_1 = b"FEA1"
_END_OF_STREAM = (b"\xff\xff\xff\xff\0\0\0\0", b"\0\0\0\0")


def read_arrow(file: InputFile, raw: BinaryIO, corpus: CorpusConfig) -> Iterator[Block]:
    """Read the batches of an Arrow file or stream, in pieces whose decoded size is bounded.

    Raises
    ------
    CorpusError
        If it is damaged, truncated, in version 1 of Feather, or has a column of an unsupported type.
    """
    begin = raw.read(8)
    if not begin:
        return
    refuse_other_content(file, b"" if begin.startswith(_FILE) else begin)
    if begin.startswith(_FEATHER_1):
        raise CorpusError(
            f"{shown(file.path)} is in the first version of Feather, which is not read",
            where=file.url,
            hint="Write it again: pandas and pyarrow write version 2, or parquet.",
        )
    raw.seek(0)
    row = decoded = 0
    try:
        for batch in _batches(file, raw, corpus, is_file=begin.startswith(_FILE)):
            for start in range(0, batch.num_rows, BATCH_ROWS):
                table = _readable(file, pa.Table.from_batches([batch.slice(start, BATCH_ROWS)]))
                cost = row_costs(table)
                decoded += int(cost.sum())
                if decoded > LARGE and decoded > corpus.max_expansion * max(file.size, 1):
                    raise expansion_error(file.path, file.url, decoded / max(file.size, 1), corpus.max_expansion)
                for first, stop in pieces(cost):
                    yield table_block(file, table.slice(first, stop - first), cost[first:stop], row + first)
                row += table.num_rows
    except (pa.ArrowException, OSError, EOFError) as error:
        raise _damaged(file, " ".join(str(error).split())[:300]) from error


def _batches(file: InputFile, raw: BinaryIO, corpus: CorpusConfig, *, is_file: bool) -> Iterator[pa.RecordBatch]:
    # A local file is memory-mapped, so that only pages in use are read.
    source: Any = raw
    if isinstance(raw, io.BufferedReader) and "://" not in file.url:
        source = pa.memory_map(raw.name)
    # The check is skipped for remote objects, which it would read twice.
    if source is not raw or not isinstance(raw, RangeReader):
        _check_expansion(file, source, corpus, is_file=is_file)
        source.seek(0)
    if is_file:
        opened = pa.ipc.open_file(source)
        for number in range(opened.num_record_batches):
            yield opened.get_batch(number)
        return
    yield from pa.ipc.open_stream(source)
    raw.seek(-8, io.SEEK_END)
    if not raw.read(8).endswith(_END_OF_STREAM):
        raise _damaged(file, "the stream has no end")


def _check_expansion(file: InputFile, source: Any, corpus: CorpusConfig, *, is_file: bool) -> None:
    """Reject batches whose compression ratio exceeds the limit."""
    source.seek(8 if is_file else 0)
    for packed, size in decompressed_sizes(source):
        if size > LARGE and size > corpus.max_expansion * max(packed, 1):
            raise expansion_error(file.path, file.url, size / max(packed, 1), corpus.max_expansion)


def _readable(file: InputFile, table: pa.Table) -> pa.Table:
    """Decode run-end encoded columns, and reject unsupported types."""
    for position, field in enumerate(table.schema):
        if pa.types.is_union(field.type):
            raise CorpusError(
                f"the column {shown(field.name)!r} of {shown(file.path)} is of type {str(field.type)[:60]}",
                where=file.url,
                hint="Leave it out, or write it as one type.",
            )
        if pa.types.is_run_end_encoded(field.type):
            import pyarrow.compute as pc

            decoded = pc.call_function("run_end_decode", [table.column(position)])
            table = table.set_column(position, field.name, decoded.cast(plain_type(field.type)))
    return table


def _damaged(file: InputFile, reason: str) -> CorpusError:
    return CorpusError(
        f"{shown(file.path)} is not a complete Arrow file: {reason}",
        where=file.url,
        hint="Fetch or write the file again, or take it out of the corpus.",
    )
