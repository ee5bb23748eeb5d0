"""Write the documents to row packs in position order, with bounded memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from latentscale.errors import ShapeError
from latentscale.viewer.columns import ColumnValues
from latentscale.viewer.values import displayable

PACK_BYTES = 512 * 1024
GROUP_BYTES = 64 * 1024
GROUP_ROWS = 256
IDS_ROWS = 16_384
_BUCKET_BYTES = 32 << 20
_BUFFER_BYTES = 96 << 20
_POSITION = "\x00position"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A file of ``rows/``: its number, first position, size in bytes, and size of its footer in bytes."""

    index: int
    first: int
    bytes: int
    footer: int


def write_rows(
    documents: Iterator[pa.RecordBatch],
    put: Callable[[str, bytes], None],
    *,
    row_ids: NDArray[np.int64],
    positions: NDArray[np.int64],
    columns: Sequence[str],
    values: Sequence[ColumnValues],
    scratch: Path,
    follow: Callable[[int, pa.RecordBatch], None] | None = None,
) -> list[Pack]:
    """Write ``rows/{pack}.parquet``; row ``i`` of the stream goes to position ``positions[i]``.

    The documents are read once: each batch is also added to ``values``, and passed to ``follow`` with its first row.

    Raises
    ------
    ShapeError
        If the stream's row ids are not exactly ``row_ids``, in that order, or a column is missing.
    """
    spill: _Spill | None = None
    start = 0
    for batch in documents:
        if not batch.num_rows:
            continue
        stop = start + batch.num_rows
        _check(batch, row_ids=row_ids[start:stop], start=start, columns=columns)
        for column in values:
            column.add(start, batch.column(column.name))
        if follow is not None:
            follow(start, batch)
        displayed = pa.record_batch(
            [batch.column("row_id").cast(pa.int64()), *(displayable(batch.column(name)) for name in columns)],
            names=["row_id", *columns],
        )
        if spill is None:
            per_row = max(1, displayed.nbytes // displayed.num_rows)
            spill = _Spill(len(row_ids), bucket_rows=min(1 << 20, max(4096, _BUCKET_BYTES // per_row)), folder=scratch)
        spill.add(displayed, positions[start:stop])
        start = stop
    if start != len(row_ids):
        raise ShapeError(f"the stream of documents ended after {start:,} of {len(row_ids):,}")
    assert spill is not None
    packs: list[Pack] = []
    for first, table in spill.buckets():
        packs += _write_packs(table, put, first=first, number=len(packs))
    return packs


def write_ids(
    put: Callable[[str, bytes], None], *, row_ids: NDArray[np.int64], positions: NDArray[np.int64]
) -> list[int]:
    """Write ``ids/{k}.parquet``, sorted row ids with their positions; return the first row id of each file."""
    order = np.argsort(row_ids, kind="stable")
    starts: list[int] = []
    for k, start in enumerate(range(0, len(order), IDS_ROWS)):
        rows = order[start : start + IDS_ROWS]
        starts.append(int(row_ids[rows[0]]))
        table = pa.table({"row_id": row_ids[rows], "position": pa.array(positions[rows], pa.int64())})
        encoding = {"row_id": "DELTA_BINARY_PACKED", "position": "BYTE_STREAM_SPLIT"}
        put(f"ids/{k}.parquet", parquet_bytes(table, encoding=encoding))
    return starts


def parquet_bytes(
    table: pa.Table, *, encoding: dict[str, str] | None = None, dictionary: Sequence[str] = (), level: int = 9
) -> bytes:
    """Encode a table as one row group of zstd parquet, deterministically, without statistics or Arrow schema."""
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        row_group_size=max(1, table.num_rows),
        compression="zstd",
        compression_level=level,
        use_dictionary=cast(Any, list(dictionary)),  # names are allowed, but the stubs only have booleans
        column_encoding=encoding,
        write_statistics=False,
        store_schema=False,
    )
    return sink.getvalue()


def _check(batch: pa.RecordBatch, *, row_ids: NDArray[np.int64], start: int, columns: Sequence[str]) -> None:
    missing = [name for name in ("row_id", *columns) if name not in batch.schema.names]
    if missing:
        raise ShapeError(f"the stream of documents has no column {', '.join(map(repr, missing))}")
    if not np.array_equal(batch.column("row_id").to_numpy(zero_copy_only=False), row_ids):
        raise ShapeError(
            f"the stream of documents is not in the order of the map: its rows {start:,} to "
            f"{start + batch.num_rows:,} have other row ids"
        )


class _Spill:
    """Buffers batches by position range; beyond a memory limit, ranges are spilled to one file each."""

    def __init__(self, rows: int, *, bucket_rows: int, folder: Path) -> None:
        self._bucket_rows = bucket_rows
        self._parts: list[list[pa.RecordBatch]] = [[] for _ in range(-(-rows // bucket_rows))]
        self._folder = folder
        self._buffered = 0

    def add(self, batch: pa.RecordBatch, positions: NDArray[np.int64]) -> None:
        batch = batch.append_column(_POSITION, pa.array(positions, pa.int64()))
        if len(self._parts) == 1:
            self._parts[0].append(batch)
            return
        bucket = positions // self._bucket_rows
        order = np.argsort(bucket, kind="stable")
        batch, bucket = batch.take(pa.array(order)), bucket[order]
        starts = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]]).tolist()
        for start, end in zip(starts, [*starts[1:], len(bucket)], strict=True):
            self._parts[int(bucket[start])].append(batch.slice(start, end - start))
        self._buffered += batch.nbytes
        if self._buffered > _BUFFER_BYTES:
            self._flush()

    def buckets(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the first position of each range, and its documents in the order of positions."""
        for i, parts in enumerate(self._parts):
            path = self._folder / f"rows-{i}.arrows"
            batches = parts
            if path.exists():
                batches = [*_read(path), *parts]
                path.unlink()
            self._parts[i] = []
            table = pa.Table.from_batches(batches).combine_chunks()
            del batches
            order = np.argsort(table[_POSITION].to_numpy(), kind="stable")
            yield i * self._bucket_rows, table.drop_columns([_POSITION]).take(pa.array(order)).combine_chunks()

    def _flush(self) -> None:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        for i, parts in enumerate(self._parts):
            if not parts:
                continue
            # Opened for each flush: there may be more ranges than the limit of open files.
            with (
                (self._folder / f"rows-{i}.arrows").open("ab") as file,
                pa.ipc.new_stream(file, parts[0].schema, options=options) as stream,
            ):
                stream.write_table(pa.Table.from_batches(parts).combine_chunks())
            parts.clear()
        self._buffered = 0


def _read(path: Path) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    with pa.memory_map(str(path)) as source:
        while source.tell() < source.size():
            batches += list(pa.ipc.open_stream(source))
    return batches


def _write_packs(table: pa.Table, put: Callable[[str, bytes], None], *, first: int, number: int) -> list[Pack]:
    widths = np.full(table.num_rows, 8 * table.num_columns, np.int64)
    for column in table.columns:
        if pa.types.is_large_string(column.type):
            widths += pc.call_function("binary_length", [column]).fill_null(0).to_numpy()
    ends = np.cumsum(widths)
    packs: list[Pack] = []
    row = 0
    while row < table.num_rows:
        pack_first = row
        sink = io.BytesIO()
        with pq.ParquetWriter(
            sink, table.schema, compression="zstd", use_dictionary=False, write_statistics=False, store_schema=False
        ) as writer:
            while row < table.num_rows and sink.tell() < PACK_BYTES:
                limit = (ends[row - 1] if row else 0) + GROUP_BYTES
                stop = min(row + GROUP_ROWS, max(row + 1, int(np.searchsorted(ends, limit, side="right"))))
                writer.write_table(table.slice(row, stop - row), row_group_size=GROUP_ROWS)
                row = min(stop, table.num_rows)
        blob = sink.getvalue()
        index = number + len(packs)
        put(f"rows/{index}.parquet", blob)
        footer = int.from_bytes(blob[-8:-4], "little") + 8
        packs.append(Pack(index=index, first=first + pack_first, bytes=len(blob), footer=footer))
    return packs
