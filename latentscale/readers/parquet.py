"""Read parquet by row groups, in batches whose decoded size is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentscale.errors import CorpusError
from latentscale.readers.columns import plain_type
from latentscale.readers.records import Block, RejectedRows
from latentscale.readers.values import pc
from latentscale.storage.input_table import InputFile

BATCH_ROWS = 4_096
BATCH_BYTES = 8 << 20


def open_source_parquet(file: InputFile, raw: BinaryIO) -> pq.ParquetFile:
    """Open a parquet file of the corpus; strings come dictionary-encoded, so that a repeated text is held once.

    Raises
    ------
    CorpusError
        If it is not a whole parquet file.
    """
    try:
        plain = pq.ParquetFile(raw)
        strings = [
            name
            for name, kind in zip(plain.schema_arrow.names, plain.schema_arrow.types, strict=True)
            if pa.types.is_string(kind) or pa.types.is_large_string(kind)
        ]
        return pq.ParquetFile(
            raw,
            metadata=plain.metadata,
            read_dictionary=strings,
            page_checksum_verification=True,
            # Over the network a row group is fetched in few requests; on a disk its columns are read piece by piece.
            pre_buffer="://" in file.url,
            buffer_size=0 if "://" in file.url else 1 << 20,
        )
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def read_parquet_rows(
    file: InputFile, raw: BinaryIO, row_groups: tuple[int, int] | None, columns: list[str] | None = None
) -> Iterator[Block]:
    """Read the rows of some row groups (from, to), or of all.

    A few kilobytes of parquet can decode to gigabytes (one long text, repeated): strings are decoded piece by piece,
    at most ``BATCH_BYTES`` at once.
    """
    source = open_source_parquet(file, raw)
    start, stop = row_groups or (0, source.metadata.num_row_groups)
    row = sum(source.metadata.row_group(group).num_rows for group in range(start))
    try:
        # Group by group: a reader over many of them would fetch them all ahead.
        for group in range(start, stop):
            for batch in source.iter_batches(
                _batch_rows(source.metadata, group), row_groups=[group], columns=columns, use_threads=False
            ):
                table = pa.Table.from_batches([batch])
                cost = row_costs(table)
                for begin, end in _pieces(cost):
                    yield _block(file, table.slice(begin, end - begin), cost[begin:end], row + begin)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def row_costs(table: pa.Table) -> NDArray[np.int64]:
    """Bytes of each row of a table once it is decoded (int64, shape (rows,))."""
    costs = np.full(table.num_rows, 8, dtype=np.int64)
    for column in table.columns:
        begin = 0
        for array in column.chunks:
            costs[begin : begin + len(array)] += _array_costs(array)
            begin += len(array)
    return costs


def distinct_names(names: Sequence[str]) -> list[str]:
    """Give every column a name of its own: an empty one becomes ``column_<n>``, a repeated one ``<name>_2``."""
    taken: set[str] = set(names)
    given: set[str] = set()
    result: list[str] = []
    for number, name in enumerate(names, 1):
        base = name or f"column_{number}"
        candidate, count = base, 1
        while candidate in given or (candidate != name and candidate in taken):
            count += 1
            candidate = f"{base}_{count}"
        given.add(candidate)
        result.append(candidate)
    return result


def decode_strings(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, NDArray[np.bool_]]:
    """Return the strings of a column, null where they are not UTF-8, and where that is (bool, shape (rows,)).

    Parquet readers do not check what they hand out as strings.
    """
    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
    strings = column.cast(pa.string())
    try:
        strings.cast(pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        bad = np.array([not _is_utf8(value) for value in strings.cast(pa.binary()).to_pylist()])
        return pc.if_else(pa.array(bad), pa.scalar(None, pa.string()), strings), bad
    return strings, np.zeros(len(strings), dtype=bool)


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _block(file: InputFile, table: pa.Table, cost: NDArray[np.int64], row: int) -> Block:
    columns: dict[str, pa.ChunkedArray] = {}
    bad = np.zeros(table.num_rows, dtype=bool)
    culprits: dict[int, tuple[str, bytes]] = {}
    for name, column in zip(distinct_names(table.schema.names), table.columns, strict=True):
        kind = plain_type(column.type)
        if pa.types.is_string(kind):
            strings, undecodable = decode_strings(column)
            for place in np.flatnonzero(undecodable & ~bad):
                culprits[int(place)] = (name, _raw(column[int(place)]))
            bad |= undecodable
            columns[name] = strings
        else:
            columns[name] = column if kind == column.type else column.cast(kind)
    rejects = RejectedRows()
    for place, (name, value) in sorted(culprits.items()):
        detail = value.decode("utf-8", "backslashreplace")
        rejects.add(position=place, source_row=row + place, line=None, column=name, reason="undecodable", detail=detail)
    kept = pa.table(columns) if columns else table
    position = np.arange(table.num_rows, dtype=np.int64)
    if culprits:
        kept, position, cost = kept.filter(pa.array(~bad)), position[~bad], cost[~bad]
    return Block(
        source=file.path,
        size=table.num_rows,
        table=kept,
        position=position,
        source_row=position + row,
        line=None,
        cost=cost,
        rejects=rejects,
    )


def _raw(value: pa.Scalar) -> bytes:
    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    return value.as_buffer().to_pybytes()


def _batch_rows(metadata: pq.FileMetaData, group: int) -> int:
    """Choose rows a batch by what the footer says of the mean size of a row; nested columns can make it large."""
    about = metadata.row_group(group)
    claimed = sum(
        max(about.column(i).total_uncompressed_size, 8 * about.column(i).num_values) for i in range(about.num_columns)
    )
    return int(min(BATCH_ROWS, max(64, BATCH_BYTES * max(1, about.num_rows) // max(1, claimed))))


def _pieces(cost: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut rows so that a piece decodes to at most ``BATCH_BYTES``, but holds at least one row."""
    total = np.cumsum(cost)
    begin = 0
    while begin < len(cost):
        before = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, before + BATCH_BYTES, side="right")))
        yield begin, end
        begin = end


def _array_costs(array: pa.Array) -> NDArray[np.int64]:
    kind = array.type
    if pa.types.is_dictionary(kind):
        of_values = _array_costs(array.dictionary)
        if not len(of_values):
            return np.zeros(len(array), dtype=np.int64)
        return np.where(np.asarray(array.is_valid()), of_values[np.asarray(array.indices.fill_null(0))], 0)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return np.asarray(pc.binary_length(array).fill_null(0), dtype=np.int64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return 8 * np.asarray(pc.list_value_length(array).fill_null(0), dtype=np.int64)
    return np.full(len(array), 8, dtype=np.int64)


def _damaged(file: InputFile, error: BaseException) -> CorpusError:
    reason = " ".join(str(error).split())[:300]
    return CorpusError(
        f"{file.path} is not a whole parquet file: {reason}",
        where=file.url,
        hint="Fetch or write the file again, or take it out of the corpus.",
    )
