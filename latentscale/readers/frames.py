"""Data from Python as one input file of a workspace."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from latentscale.errors import RequestError
from latentscale.storage.objects import Store

FOLDER = "uploads"
_BATCH = 8_192


def spool_frame(data: Any, store: Store) -> str:
    """Write data to ``uploads/<digest of its bytes>.parquet`` of the workspace and return that object's URL.

    Parameters
    ----------
    data : pandas or polars DataFrame, polars LazyFrame, arrow Table, RecordBatch or RecordBatchReader, or an iterable
        Of record batches or tables of one schema, of mappings, or of strings. Mappings, whose keys and types may vary,
        are written as JSON lines.

    Raises
    ------
    RequestError
        If it is none of these, or holds nothing.
    """
    with tempfile.TemporaryDirectory(prefix="latentscale-") as folder:
        path, suffix = _write(data, Path(folder, "upload"))
        state = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                state.update(chunk)
        name = f"{FOLDER}/{state.hexdigest()}{suffix}"
        # The same data keeps its object, and so the modification time by which its shards are found again.
        if not store.exists(name):
            store.put_file(name, path)
    path_or_key = store.path(name)
    return path_or_key if store.is_local else f"{store.url.rstrip('/')}/{name}"


def _write(data: Any, path: Path) -> tuple[Path, str]:
    first: Any
    if isinstance(data, str | bytes | Mapping):
        raise _refused(data)
    if isinstance(data, pa.RecordBatchReader):
        return _write_batches(iter(data), data.schema, path)
    table = _table(data)
    if table is not None:
        return _write_batches(iter(table.to_batches(max_chunksize=_BATCH)), table.schema, path)
    if not isinstance(data, Iterable):
        raise _refused(data)
    items = iter(cast(Iterable[Any], data))
    first = next(items, None)
    if first is None:
        raise RequestError("the corpus holds nothing", hint="Give at least one row.")
    items = itertools.chain([first], items)
    if isinstance(first, str):
        schema = pa.schema([("text", pa.string())])
        batches = (pa.record_batch([pa.array(chunk, pa.string())], schema=schema) for chunk in _chunks(items))
        return _write_batches(batches, schema, path)
    if isinstance(first, Mapping):
        return _write_objects(items, path)
    table = _table(first)
    if table is None:
        raise _refused(first)
    schema = table.schema
    return _write_batches(_flatten(items, schema), schema, path)


def _table(data: Any) -> pa.Table | None:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    module = type(data).__module__.split(".")[0]
    if module == "polars" and hasattr(data, "collect"):
        data = data.collect()
    if module == "polars" and hasattr(data, "to_arrow"):
        return data.to_arrow() if hasattr(data, "columns") else None
    if module == "pandas" and hasattr(data, "columns"):
        return pa.Table.from_pandas(data, preserve_index=False)
    return None


def _flatten(items: Iterator[Any], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for number, item in enumerate(items):
        table = _table(item)
        if table is None or not table.schema.equals(schema):
            raise RequestError(
                f"batch {number} has another schema than the first",
                hint="Batches of one corpus must have the same columns and types.",
            )
        yield from table.to_batches(max_chunksize=_BATCH)


def _write_batches(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path) -> tuple[Path, str]:
    with pq.ParquetWriter(path, schema.remove_metadata(), compression="zstd", write_page_checksum=True) as writer:
        for group in _groups(batches):
            writer.write_table(pa.Table.from_batches(group).replace_schema_metadata(None))
    return path, ".parquet"


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Collect batches up to a row group of 64 thousand rows or 64 MB."""
    group: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= 65_536 or size >= 64 << 20:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _write_objects(items: Iterator[Any], path: Path) -> tuple[Path, str]:
    import orjson

    with path.open("wb") as file:
        for number, item in enumerate(items):
            if not isinstance(item, Mapping):
                raise RequestError(f"item {number} is {type(item).__name__}, where the first is a mapping")
            try:
                line = orjson.dumps(dict(item), default=str, option=orjson.OPT_SERIALIZE_NUMPY)
            except TypeError as error:
                raise RequestError(f"item {number} cannot be written as JSON: {error}") from error
            file.write(line + b"\n")
    return path, ".jsonl"


def _chunks(items: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(itertools.islice(items, _BATCH)):
        yield chunk


def _refused(data: Any) -> RequestError:
    return RequestError(
        f"{type(data).__module__}.{type(data).__name__} is no corpus",
        hint="Give paths, a pandas, polars or arrow frame, or an iterable of batches, mappings or strings.",
    )
