"""Write data passed from Python to an input file of the workspace."""

from __future__ import annotations

import datetime
import hashlib
import io
import itertools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from latentscale.errors import LatentScaleError, RequestError
from latentscale.readers.values import column_of
from latentscale.storage.common_types import EXACT_IN_FLOAT
from latentscale.storage.objects import Store

FOLDER = "uploads"
# The name of an upload in a message, with its path if that is given.
_UPLOAD = re.compile(
    r"(?:(?:^|(?<=[\s'\"(]))(?:[a-z0-9+]+://|/)[^\n'\"]*?/" + FOLDER + r"/)?\b[0-9a-f]{32}\.(?:parquet|jsonl)\b"
)
_BATCH = 8_192
_NOTHING: Any = object()


def spool_frame(
    data: Any,
    store: Store,
    *,
    keep: Callable[[Path], Path | None] = lambda path: path,
    check: Callable[[str], None] = lambda name: None,
) -> str | None:
    """Write data to ``uploads/<digest of its bytes>.parquet`` of the workspace and return that object's URL.

    Parameters
    ----------
    data : pandas or polars DataFrame, polars LazyFrame, arrow Table, RecordBatch or RecordBatchReader, or an iterable
        The iterable may be of record batches or tables of one schema, of mappings, or of strings. Other objects that
        export an Arrow stream, such as a DuckDB relation, are accepted too. Mappings, whose keys and types may vary,
        are written as JSON lines. A frame column of mixed types becomes text, as in JSON lines: strings unchanged, the
        rest as JSON.
    keep : callable, optional
        Filters the written file; returns the path to store, or None to store nothing.
    check : callable, optional
        Called with the object's name before it is written; if it raises, the workspace is unchanged.

    Raises
    ------
    RequestError
        If the type is unsupported, the data is empty, or a column, which is named, cannot be stored.
    """
    with tempfile.TemporaryDirectory(prefix="latentscale-") as folder:
        written, suffix = _write(data, Path(folder, "upload"))
        path = keep(written.rename(written.with_suffix(suffix)))
        if path is None:
            return None
        state = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                state.update(chunk)
        name = f"{FOLDER}/{state.hexdigest()}{suffix}"
        check(name)
        # Equal data keeps its object and modification time, by which its shards are recognised.
        if not store.exists(name):
            store.put_file(name, path)
    path_or_key = store.path(name)
    return path_or_key if store.is_local else f"{store.url.rstrip('/')}/{name}"


def name_data(error: LatentScaleError) -> None:
    """Call uploaded data ``the data`` in an error: users do not know the name of its object."""
    error.message = _UPLOAD.sub("the data", error.message)
    error.args = (error.message,)
    error.where = None if error.where is None else _UPLOAD.sub("the data", error.where)
    error.hint = None if error.hint is None else _UPLOAD.sub("the data", error.hint)


def _write(data: Any, path: Path) -> tuple[Path, str]:
    first: Any
    if isinstance(data, str | bytes | Mapping):
        raise _refused(data)
    if isinstance(data, pa.RecordBatchReader):
        return _write_batches(iter(data), data.schema, path)
    table = _table(data)
    if table is not None:
        return _write_batches(iter(table.to_batches(max_chunksize=_BATCH)), table.schema, path)
    if hasattr(data, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(data)
        _writable(reader.schema.empty_table())
        return _write_batches(iter(reader), reader.schema, path)
    if not isinstance(data, Iterable):
        raise _refused(data)
    items = iter(cast(Iterable[Any], data))
    first = next(items, _NOTHING)
    if first is _NOTHING:
        raise RequestError("the corpus holds nothing", hint="Give at least one row.")
    items = itertools.chain([first], items)
    if first is None or isinstance(first, str):
        schema = pa.schema([("text", pa.string())])
        batches = (pa.record_batch([_strings(chunk)], schema=schema) for chunk in _chunks(items))
        return _write_batches(batches, schema, path)
    if isinstance(first, Mapping):
        return _write_objects(items, path)
    table = _table(first)
    if table is None:
        raise _refused(first)
    schema = table.schema
    return _write_batches(_flatten(items, schema), schema, path)


def as_table(data: Any) -> pa.Table | None:
    """Convert a frame, table or batch to an Arrow table; None for anything else."""
    return _table(data)


def _table(data: Any) -> pa.Table | None:
    if isinstance(data, pa.Table):
        return _writable(data)
    if isinstance(data, pa.RecordBatch):
        return _writable(pa.Table.from_batches([data]))
    module = type(data).__module__.split(".")[0]
    if module == "polars" and hasattr(data, "collect"):
        data = data.collect()
    if module == "polars" and hasattr(data, "to_arrow"):
        return _from_columns(data.columns, data.get_columns(), _polars_column) if hasattr(data, "columns") else None
    if module == "pandas" and hasattr(data, "columns"):
        data = _with_index(data)
        series = [data.iloc[:, index] for index in range(data.shape[1])]
        return _from_columns([_column_name(name) for name in data.columns], series, _pandas_column)
    return None


def _from_columns(names: Sequence[str], columns: Sequence[Any], convert: Callable[[Any], pa.Array]) -> pa.Table:
    """Convert column by column, so that an error can name the column."""
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise RequestError(f"the frame has more than one column {repeated[0]!r}", hint="Give columns different names.")
    arrays: list[Any] = []
    for name, column in zip(names, columns, strict=True):
        try:
            arrays.append(convert(column))
        except Exception as error:  # exceptions of other libraries, of many classes
            raise _no_column(name, f"{type(error).__name__}: {error}") from error
    return _writable(pa.table(dict(zip(names, arrays, strict=True))))


def _with_index(frame: Any) -> Any:
    """Return a pandas frame with named index levels as its first columns."""
    levels = [name for name in frame.index.names if name is not None]
    taken = [name for name in levels if name in frame.columns or levels.count(name) > 1]
    if taken:
        raise RequestError(
            f"the frame has an index and a column {_column_name(taken[0])!r}",
            hint="Give them different names, or drop the index: frame.reset_index(drop=True).",
        )
    return frame.reset_index(level=levels) if levels else frame


def _pandas_column(series: Any) -> Any:
    if series.dtype != object or not _loses_values(series):
        try:
            column = pa.Array.from_pandas(series)
            if not isinstance(column.type, pa.BaseExtensionType):
                return column
        except (pa.ArrowException, UnicodeEncodeError, OverflowError, NotImplementedError, TypeError, ValueError):
            pass
    # Mixed types, or types unknown to Arrow: as in JSON lines, strings unchanged, the rest as text.
    missing = series.isna().tolist()
    values = [None if gone is True else _plain(value) for value, gone in zip(series.tolist(), missing, strict=True)]
    return column_of(values)


def _loses_values(series: Any) -> bool:
    """Whether Arrow would infer a type from the first value that truncates others, such as times or decimals."""
    kinds = {type(value) for value in series}
    if datetime.date in kinds and any(issubclass(kind, datetime.datetime) for kind in kinds):
        return True
    # Mixed aware and naive times: Arrow would treat naive ones as UTC.
    if len({value.tzinfo is None for value in series if isinstance(value, datetime.datetime)}) > 1:
        return True
    is_float = any(issubclass(kind, float) for kind in kinds)
    return is_float and any(isinstance(value, int) and abs(value) > EXACT_IN_FLOAT for value in series)


def _polars_column(series: Any) -> Any:
    if str(series.dtype).startswith("Object"):
        return column_of([_plain(value) for value in series.to_list()])
    return series.to_arrow()


def _plain(value: Any) -> Any:
    """Convert a value to JSON types, or text if JSON cannot represent it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        # Set order differs between processes, but equal data must give equal bytes.
        return sorted((_plain(item) for item in value), key=repr)
    if type(value).__name__ in ("NAType", "NaTType"):  # missing values of pandas
        return None
    if hasattr(value, "tolist") and not isinstance(value, str | bytes):
        return _plain(value.tolist())
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, str | bool | int | float | None):
        return value
    if type(value).__str__ is object.__str__ and type(value).__repr__ is object.__repr__:
        # Its repr is a memory address, which differs between runs.
        raise TypeError(f"an object of {type(value).__module__}.{type(value).__qualname__} has no text of its own")
    return str(value)


def _column_name(name: Any) -> str:
    if isinstance(name, tuple):
        # pandas fills missing levels of a column name with empty strings.
        return "_".join(str(part) for part in name if part != "")
    return str(name)


def _writable(table: pa.Table) -> pa.Table:
    """Reject columns that parquet cannot store."""
    try:
        pq.ParquetWriter(io.BytesIO(), table.schema.remove_metadata()).close()
        return table
    except (pa.ArrowException, NotImplementedError):
        pass
    for field in table.schema:
        try:
            with pq.ParquetWriter(io.BytesIO(), pa.schema([field])) as writer:
                writer.write_table(pa.table([pa.array([], field.type)], schema=pa.schema([field])))
        except (pa.ArrowException, NotImplementedError) as error:
            raise _no_column(field.name, str(error)) from error
    return table


def _no_column(name: str, reason: str) -> RequestError:
    return RequestError(
        f"column {name!r} cannot be stored: {' '.join(reason.split())[:300]}",
        where=f"column {name}",
        hint="Leave it out, or convert its values, for example to text.",
    )


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
    with path.open("wb") as file:
        for number, item in enumerate(items):
            if not isinstance(item, Mapping):
                raise RequestError(f"item {number} is {type(item).__name__}, where the first is a mapping")
            try:
                values = {str(key): _plain(value) for key, value in item.items()}
            except (UnicodeDecodeError, RecursionError, TypeError) as error:
                raise RequestError(
                    f"item {number} cannot be written as JSON: {error}",
                    hint="Leave the value out, or convert it, for example to text.",
                ) from error
            file.write(_line(values) + b"\n")
    return path, ".jsonl"


def _strings(texts: list[Any]) -> pa.Array:
    if wrong := [item for item in texts if item is not None and not isinstance(item, str)]:
        raise RequestError(f"an item is {type(wrong[0]).__name__}, where the first is a string")
    return column_of(texts).cast(pa.string())


def _line(values: dict[str, Any]) -> bytes:
    import orjson

    try:
        line = orjson.dumps(values)
        # orjson writes null for numbers that are not finite.
        if b"null" not in line:
            return line
    except TypeError:
        pass
    # Integers beyond 64 bits, lone surrogates, NaN and infinity, as written by Python's json.
    return json.dumps(values).encode()


def _chunks(items: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(itertools.islice(items, _BATCH)):
        yield chunk


def _refused(data: Any) -> RequestError:
    return RequestError(
        f"{type(data).__module__}.{type(data).__name__} is no corpus",
        hint="Give paths, a pandas, polars or arrow frame, or an iterable of batches, mappings or strings.",
    )
