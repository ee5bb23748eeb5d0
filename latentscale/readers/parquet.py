"""Read parquet by row groups, in batches whose decoded size is bounded."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentscale.errors import CorpusError
from latentscale.file_names import shown
from latentscale.readers.archives import LARGE, expansion_error
from latentscale.readers.columns import plain_type
from latentscale.readers.input_table import InputFile
from latentscale.readers.records import Block, RejectedRows
from latentscale.readers.values import pc

BATCH_ROWS = 4_096
BATCH_BYTES = 8 << 20


def open_source_parquet(file: InputFile, raw: BinaryIO) -> pq.ParquetFile:
    """Open a parquet file; strings are read dictionary-encoded, so that a repeated text is in memory once.

    Raises
    ------
    CorpusError
        If it is not a complete parquet file.
    """
    try:
        plain = pq.ParquetFile(raw)
        return _reopened(file, raw, plain.metadata, _dictionaries(plain.metadata))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _reopened(file: InputFile, raw: BinaryIO, metadata: pq.FileMetaData, dictionaries: list[str]) -> pq.ParquetFile:
    return pq.ParquetFile(
        raw,
        metadata=metadata,
        read_dictionary=dictionaries,
        page_checksum_verification=True,
        # Remote row groups are prefetched in few requests; local columns are read incrementally.
        pre_buffer="://" in file.url,
        buffer_size=0 if "://" in file.url else 1 << 20,
    )


def _dictionaries(metadata: pq.FileMetaData) -> list[str]:
    """Return the paths of string and binary columns, including nested ones, that Arrow can read as dictionaries."""
    leaves = metadata.schema
    found = [
        index
        for index in range(metadata.num_columns)
        if leaves.column(index).physical_type == "BYTE_ARRAY" and leaves.column(index).converted_type != "DECIMAL"
    ]
    # Arrow cannot read DELTA encodings as dictionaries; some writers use them in some row groups.
    delta = {
        index
        for group in range(metadata.num_row_groups)
        for index in found
        if any(one.startswith("DELTA") for one in metadata.row_group(group).column(index).encodings)
    }
    return [leaves.column(index).path for index in found if index not in delta]


def read_parquet_rows(
    file: InputFile,
    raw: BinaryIO,
    row_groups: tuple[int, int] | None,
    columns: list[str] | None = None,
    *,
    most: int | None = None,
) -> Iterator[Block]:
    """Read row groups (first, end), end exclusive, or all.

    A few kilobytes of parquet can decode to gigabytes (one long text, repeated): strings and bytes are decoded in
    batches of at most ``BATCH_BYTES``, and large data that expands more than ``most`` times is refused.

    Raises
    ------
    CorpusError
        If the file is damaged, or its compression ratio exceeds the limit.
    """
    source = open_source_parquet(file, raw)
    start, stop = row_groups or (0, source.metadata.num_row_groups)
    row = sum(source.metadata.row_group(group).num_rows for group in range(start))
    decoded = packed = 0
    try:
        # One row group at a time: a reader over many would prefetch all of them.
        for group in range(start, stop):
            packed += _packed_bytes(source.metadata, group)
            _check_expansion(file, decoded + _fixed_bytes(source.metadata, group), packed, most)
            for table in _tables(file, raw, source, group, columns):
                cost = row_costs(table)
                decoded += int(cost.sum())
                _check_expansion(file, decoded, packed, most)
                for begin, end in pieces(cost):
                    yield table_block(file, table.slice(begin, end - begin), cost[begin:end], row + begin)
                row += table.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _tables(
    file: InputFile, raw: BinaryIO, source: pq.ParquetFile, group: int, columns: list[str] | None
) -> Iterator[pa.Table]:
    """Yield the rows of a row group in batches, merging small ones."""
    rows = _batch_rows(source.metadata, group)

    def batches(opened: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        yield from opened.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)

    found = batches(source)
    try:
        first = next(found, None)
    except pa.ArrowNotImplementedError:
        # Some nested types cannot be read as dictionaries, and are decoded directly.
        found = batches(_reopened(file, raw, source.metadata, []))
        first = next(found, None)
    waiting: list[pa.RecordBatch] = []
    held = held_rows = 0
    for batch in itertools.chain([] if first is None else [first], found):
        waiting.append(batch)
        held += batch.nbytes
        held_rows += batch.num_rows
        if held >= BATCH_BYTES or held_rows + rows > BATCH_ROWS:
            yield pa.Table.from_batches(waiting)
            waiting, held, held_rows = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _packed_bytes(metadata: pq.FileMetaData, group: int) -> int:
    about = metadata.row_group(group)
    return sum(about.column(index).total_compressed_size for index in range(about.num_columns))


def _fixed_bytes(metadata: pq.FileMetaData, group: int) -> int:
    """Return the bytes of the fixed-size values of a row group: numbers, and dictionary indices."""
    about = metadata.row_group(group)
    return sum(_width(metadata, index) * about.column(index).num_values for index in range(about.num_columns))


def _width(metadata: pq.FileMetaData, index: int) -> int:
    leaf = metadata.schema.column(index)
    return max(leaf.length, 1) if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else 8


def _check_expansion(file: InputFile, decoded: int, packed: int, most: int | None) -> None:
    if most is not None and decoded > LARGE and decoded > most * max(packed, file.size if not file.member else 0, 1):
        raise expansion_error(file.path, file.url, decoded / max(packed, 1), most)


def row_costs(table: pa.Table) -> NDArray[np.int64]:
    """Return the decoded size in bytes of each row of a table (int64, shape (rows,))."""
    costs = np.full(table.num_rows, 8, dtype=np.int64)
    for column in table.columns:
        begin = 0
        for array in column.chunks:
            costs[begin : begin + len(array)] += _array_costs(array)
            begin += len(array)
    return costs


def distinct_names(names: Sequence[str]) -> list[str]:
    """Make column names unique: an empty one becomes ``column_<n>``, a repeated one ``<name>_2``."""
    used: set[str] = set(names)
    given: set[str] = set()
    result: list[str] = []
    for number, name in enumerate(names, 1):
        base = name or f"column_{number}"
        candidate, count = base, 1
        while candidate in given or (candidate != name and candidate in used):
            count += 1
            candidate = f"{base}_{count}"
        given.add(candidate)
        result.append(candidate)
    return result


def decode_strings(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, NDArray[np.bool_]]:
    """Return the strings of a column, null if invalid UTF-8, and where they are invalid (bool, shape (rows,)).

    Parquet readers do not validate strings. Binary columns are decoded too.
    """
    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
    raw = column.cast(pa.binary())
    try:
        return raw.cast(pa.string()), np.zeros(len(raw), dtype=bool)
    except pa.ArrowInvalid:
        bad = np.array([not _is_utf8(value) for value in raw.to_pylist()])
        return pc.if_else(pa.array(bad), pa.scalar(None, pa.binary()), raw).cast(pa.string()), bad


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def table_block(file: InputFile, table: pa.Table, cost: NDArray[np.int64], row: int) -> Block:
    """Build a block from a table; ``row`` is the 0-based number of its first row in the file."""
    columns: dict[str, pa.ChunkedArray] = {}
    bad = np.zeros(table.num_rows, dtype=bool)
    culprits: dict[int, tuple[str, bytes]] = {}
    for name, column in zip(distinct_names(table.schema.names), table.columns, strict=True):
        kind = plain_type(column.type)
        if pa.types.is_string(kind):
            strings, undecodable = decode_strings(column)
            for index in np.flatnonzero(undecodable & ~bad):
                culprits[int(index)] = (name, _raw(column[int(index)]))
            bad |= undecodable
            columns[name] = strings
        else:
            columns[name] = column if kind == column.type else plain(column, kind)
    rejects = RejectedRows()
    for index, (name, value) in sorted(culprits.items()):
        detail = value.decode("utf-8", "backslashreplace")
        rejects.add(position=index, source_row=row + index, line=None, column=name, reason="undecodable", detail=detail)
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


def plain(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Convert a column to its plain type: dictionaries and views, also nested ones, are decoded."""
    return pa.chunked_array([_decoded(chunk, kind) for chunk in column.chunks], kind)


def _decoded(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Decode the nested values of an array; of a slice, only the visible part."""
    if array.type == kind:
        return array
    if isinstance(array, pa.ExtensionArray):
        return _decoded(array.storage, kind)
    if pa.types.is_dictionary(array.type):
        return _decoded(array.dictionary_decode(), kind)
    if pa.types.is_struct(kind):
        fields = [_decoded(array.field(index), kind.field(index).type) for index in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=array.is_null())
    if pa.types.is_fixed_size_list(kind):
        values = _decoded(_items(array, kind.list_size), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=array.is_null())
    if pa.types.is_map(kind):
        offsets, begin, count = _offsets(array)
        keys = _decoded(array.keys.slice(begin, count), kind.key_type)
        return pa.MapArray.from_arrays(offsets, keys, _decoded(array.items.slice(begin, count), kind.item_type), kind)
    if pa.types.is_list(kind) and not pa.types.is_list_view(array.type):
        offsets, begin, count = _offsets(array)
        return pa.ListArray.from_arrays(offsets, _decoded(array.values.slice(begin, count), kind.value_type), kind)
    return array.cast(kind)


def _items(array: pa.Array, size: int) -> pa.Array:
    """Return the values of fixed-size lists, including those of null lists."""
    return array.values.slice(array.offset * size, len(array) * size)


def _offsets(array: pa.Array) -> tuple[pa.Array, int, int]:
    """Return the offsets of lists relative to the first (null for null lists), the first value, and value count."""
    offsets = np.asarray(array.offsets, dtype=np.int64)
    begin, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    moved = pa.array((offsets - begin).astype(np.int32))
    if array.null_count:
        missing = pa.array(np.append(np.asarray(array.is_null()), False))
        moved = pc.if_else(missing, pa.scalar(None, pa.int32()), moved)
    return moved, begin, count


def _raw(value: pa.Scalar) -> bytes:
    if isinstance(value, pa.DictionaryScalar):
        value = value.value
    return value.as_buffer().to_pybytes()


def _batch_rows(metadata: pq.FileMetaData, group: int) -> int:
    """Choose the rows per batch by the mean row size in the footer, which nested columns can make large."""
    about = metadata.row_group(group)
    claimed = sum(
        max(about.column(i).total_uncompressed_size, _width(metadata, i) * about.column(i).num_values)
        for i in range(about.num_columns)
    )
    rows = min(BATCH_ROWS, BATCH_BYTES * max(1, about.num_rows) // max(1, claimed))
    # With shared prefixes (DELTA_BYTE_ARRAY) strings take no space: each may be as long as the whole column.
    prefixed = [
        about.column(i).total_uncompressed_size
        for i in range(about.num_columns)
        if "DELTA_BYTE_ARRAY" in about.column(i).encodings
    ]
    if prefixed:
        rows = min(rows, max(16, 32 * BATCH_BYTES // max(1, sum(prefixed))))
    return int(max(1, rows))


def pieces(cost: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of row ranges that decode to at most ``BATCH_BYTES``, with at least one row each."""
    total = np.cumsum(cost)
    begin = 0
    while begin < len(cost):
        before = int(total[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, before + BATCH_BYTES, side="right")))
        yield begin, end
        begin = end


def _array_costs(array: pa.Array) -> NDArray[np.int64]:
    """Return the decoded size in bytes of each value, including nested values (int64, shape (n,))."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _array_costs(array.storage)
    if pa.types.is_dictionary(kind):
        of_values = _array_costs(array.dictionary)
        if not len(of_values):
            return np.zeros(len(array), dtype=np.int64)
        return np.where(np.asarray(array.is_valid()), of_values[np.asarray(array.indices.fill_null(0))], 0)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return np.asarray(pc.binary_length(array).fill_null(0), dtype=np.int64)
    if pa.types.is_large_binary(kind):
        return np.asarray(pc.binary_length(array).fill_null(0), dtype=np.int64)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return _array_costs(array.cast(pa.large_binary()))
    if pa.types.is_fixed_size_list(kind) and not pa.types.is_nested(kind.value_type):
        return np.full(len(array), 8 * kind.list_size, dtype=np.int64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        offsets = np.asarray(array.offsets, dtype=np.int64)
        begin, count = int(offsets[0]), int(offsets[-1] - offsets[0])
        parts = [array.keys, array.items] if pa.types.is_map(kind) else [array.values]
        inner = sum((_array_costs(part.slice(begin, count)) for part in parts), np.zeros(count, dtype=np.int64))
        total = np.concatenate([[0], np.cumsum(inner)])
        return total[offsets[1:] - begin] - total[offsets[:-1] - begin]
    if pa.types.is_fixed_size_list(kind):
        inner = _array_costs(_items(array, kind.list_size))
        return inner.reshape(len(array), kind.list_size).sum(axis=1) if len(array) else np.zeros(0, dtype=np.int64)
    if pa.types.is_struct(kind):
        costs = np.full(len(array), 8, dtype=np.int64)
        for index in range(kind.num_fields):
            costs += _array_costs(array.field(index))
        return costs
    if pa.types.is_fixed_size_binary(kind):
        return np.full(len(array), kind.byte_width, dtype=np.int64)
    return np.full(len(array), 8, dtype=np.int64)


def _damaged(file: InputFile, error: BaseException) -> CorpusError:
    reason = " ".join(str(error).split())[:300]
    return CorpusError(
        f"{shown(file.path)} is not a complete parquet file: {reason}",
        where=file.url,
        hint="Fetch or write the file again, or take it out of the corpus.",
    )
