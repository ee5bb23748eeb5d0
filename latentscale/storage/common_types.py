"""Common types of columns with different types, and lossless conversion to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute

from latentscale.errors import CorpusError

# pyarrow generates these functions at import, invisible to type checkers.
pc: Any = pyarrow.compute

EXACT_IN_FLOAT = 2**53
"""Up to here float64 holds every whole number."""

_UNITS = ("s", "ms", "us", "ns")
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the storage type of a source column: without encodings and 64-bit offsets.

    Times in unnamed zones such as ``+05:30`` are stored as the same instants in UTC, as polars, which reads the points,
    supports named zones only.
    """
    if pa.types.is_dictionary(kind):
        return plain_type(cast(pa.DictionaryType, kind).value_type)
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.string()
    if pa.types.is_large_binary(kind) or kind == pa.binary_view():
        return pa.binary()
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    return _with_inner(kind, plain_type) or _named_zone(kind)


def named_zones(kind: pa.DataType) -> pa.DataType:
    """Replace time zones that polars does not support by UTC, also in nested types."""
    return _with_inner(kind, named_zones) or _named_zone(kind)


def _with_inner(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType | None:
    """Apply ``change`` to the inner types of a nested type, with 32-bit offsets; None if not nested."""
    if pa.types.is_struct(kind):
        fields: list[pa.Field] = [kind.field(index) for index in range(kind.num_fields)]
        return pa.struct([field.with_type(change(field.type)) for field in fields])
    if pa.types.is_map(kind):
        return pa.map_(change(kind.key_type), change(kind.item_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(change(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(kind.value_field.with_type(change(kind.value_type)))
    return None


def _named_zone(kind: pa.DataType) -> pa.DataType:
    if not pa.types.is_timestamp(kind):
        return kind
    zone = cast(pa.TimestampType, kind).tz
    return kind if zone is None or _is_known(zone) else pa.timestamp(kind.unit, "UTC")


@lru_cache(maxsize=512)
def _is_known(zone: str) -> bool:
    import polars as pl

    if zone[:1] in "+-":
        return False
    try:
        series = pl.Series(pl.from_arrow(pa.array([0], pa.timestamp("us", zone))))
        # Some zones fail only when a value is written or compared.
        return series.cast(pl.String)[0] is not None and series[0] is not None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return False


def value_facts(column: pa.ChunkedArray | pa.Array) -> list[str] | None:
    """Collect facts on the values of a column that determine which other types can represent them.

    Returns
    -------
    list of str or None
        ``["int64"]`` or ``["uint64"]``: integers that float64 cannot represent exactly. ``["float64", "int64"]``:
        floats that are all integral, and small enough to be exact. ``["timestamp"]``: times that 64-bit nanoseconds
        cannot represent. None: none of these.
    """
    kind = column.type
    if kind in (pa.int64(), pa.uint64()):
        bounds = pc.min_max(column).as_py()
        exact = bounds["min"] is None or max(-bounds["min"], bounds["max"]) <= EXACT_IN_FLOAT
        return None if exact else [str(kind)]
    if pa.types.is_floating(kind):
        if pa.types.is_float16(kind):
            column = column.cast(pa.float32())
        near = pc.less_equal(pc.abs(column), pa.scalar(float(EXACT_IN_FLOAT)).cast(column.type))
        whole = pc.and_(near, pc.equal(pc.floor(column), column))
        return ["float64", "int64"] if pc.all(whole, min_count=0).as_py() else None
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        limit = (2**63 - 1) // 10 ** (9 - 3 * _UNITS.index(kind.unit))
        bounds = pc.min_max(column.cast(pa.int64())).as_py()
        return None if bounds["min"] is None or max(-bounds["min"], bounds["max"]) <= limit else ["timestamp"]
    return None


def within_calendar(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Return a column of dates or times unchanged, or as ISO 8601 text if one is outside of the years 1 to 9999.

    Databases write such values for "infinity" and invalid dates. Neither Python nor readers of points can represent
    them, and some crash polars. Nested values are treated likewise.
    """
    kind = column.type
    if pa.types.is_nested(kind):
        if not _holds_times(kind):
            return column
        whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_map(kind):
            pairs = within_calendar(whole.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
            keys, values = pairs.values.flatten()
            if (keys.type, values.type) == (kind.key_type, kind.item_type):
                return column
            return pa.MapArray.from_arrays(pairs.offsets, keys, values, mask=pairs.is_null())
        inner = whole.flatten() if pa.types.is_struct(kind) else [whole.flatten()]
        plain = [within_calendar(one) for one in inner]
        return column if all(one is other for one, other in zip(plain, inner, strict=True)) else _nested(whole, plain)
    if pa.types.is_date32(kind):
        unit, zone, day, counts = "D", None, 1, column.cast(pa.int32()).cast(pa.int64())
    elif pa.types.is_timestamp(kind):
        unit, zone, day, counts = kind.unit, kind.tz, 86_400 * 1_000 ** _UNITS.index(kind.unit), column.cast(pa.int64())
    else:
        return column
    bounds = pc.min_max(counts).as_py()
    # Local times differ from UTC by less than a day.
    room = 1 if zone else 0
    low, high = (_FIRST_DAY + room) * day, (_LAST_DAY + 1 - room) * day - 1
    if bounds["min"] is None or (low <= bounds["min"] and bounds["max"] <= high):
        return column
    # Arrow formats more distant times incorrectly.
    moments = np.asarray(pc.fill_null(counts, 0)).view(f"datetime64[{unit}]")
    texts = np.char.replace(np.datetime_as_string(moments), "T", " ").tolist()
    there = pc.is_valid(counts).to_pylist()
    end = "Z" if zone else ""
    return pa.array([text + end if one else None for text, one in zip(texts, there, strict=True)], pa.string())


def _holds_times(kind: pa.DataType) -> bool:
    """Whether a type is or contains dates or times."""
    inner = [kind.field(at).type for at in range(kind.num_fields)]
    return any(map(_holds_times, inner)) if inner else pa.types.is_date32(kind) or pa.types.is_timestamp(kind)


def _nested(column: Any, inner: list[Any]) -> pa.Array:
    """Rebuild the list or structure of ``column`` with other elements or fields."""
    mask = column.is_null()
    if pa.types.is_struct(column.type):
        return pa.StructArray.from_arrays(inner, [field.name for field in column.type], mask=mask)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(column), 0))
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, inner[0], mask=mask)


def common_type(kinds: Sequence[pa.DataType], *, wide: bool = False, whole: bool = False) -> pa.DataType:
    """Return a type that represents the values of all ``kinds`` exactly; text if there is no other.

    Parameters
    ----------
    kinds : sequence of pyarrow.DataType
        At least one.
    wide : bool
        Whether some integers exceed float64, or some times nanoseconds.
    whole : bool
        Whether all floats are integral and exact.
    """
    first = kinds[0]
    if all(kind == first for kind in kinds):
        return first
    if all(pa.types.is_integer(kind) and kind != pa.uint64() for kind in kinds):
        return pa.int64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        if not any(pa.types.is_floating(kind) for kind in kinds):
            return pa.string()
        if not wide:
            return pa.float64()
        return pa.int64() if whole and pa.uint64() not in kinds else pa.string()
    if all(pa.types.is_timestamp(kind) and kind.tz == getattr(first, "tz", None) for kind in kinds):
        finest = _UNITS[max(_UNITS.index(kind.unit) for kind in kinds)]
        return pa.string() if wide and finest == "ns" else pa.timestamp(finest, tz=first.tz)
    if all(is_list(kind) for kind in kinds):
        inner = [kind.value_type for kind in kinds if not pa.types.is_null(kind.value_type)]
        # Vectors of several files: lists of floats of any precision, of fixed or variable length.
        if inner and (all(kind == inner[0] for kind in inner) or all(map(pa.types.is_floating, inner))):
            return pa.list_(common_type(inner))
    return pa.string()


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is a list, of fixed or variable length."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def cast_values(column: pa.ChunkedArray, kind: pa.DataType, *, name: str) -> pa.ChunkedArray | pa.Array:
    """Cast a column; text is written as by :func:`as_text`.

    Raises
    ------
    CorpusError
        If a value cannot be represented in that type.
    """
    if column.type == kind:
        return column
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), kind)
    if pa.types.is_string(kind):
        return as_text(column)
    try:
        if pa.types.is_string(column.type):
            return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column).cast(kind)
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CorpusError(
            f"column {name!r} is {column.type} in some files and {kind} in others, and a value cannot be {kind}: "
            f"{str(error).splitlines()[0][:200]}",
            hint="Give the column one type in all files, or build a new workspace with --out: there it becomes text.",
        ) from error


def as_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Convert any column to text: strings unchanged, times in ISO 8601, the rest as JSON."""
    kind = column.type
    if pa.types.is_string(kind):
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(kind):
        return as_text(column.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        return as_text(column.cast(named_zones(kind)).cast(pa.string()))
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        if pa.types.is_duration(kind) or pa.types.is_interval(kind):
            return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
        return as_text(column.cast(pa.string()))
    if pa.types.is_nested(kind) or pa.types.is_floating(kind) or is_bytes(kind):
        return pa.array([_json(value) for value in column.to_pylist()], pa.string())
    return as_text(column.cast(pa.string()))


def is_text_list(kind: pa.DataType) -> bool:
    """Whether a type is a list of strings, or of nulls."""
    return is_list(kind) and any(
        allows(kind.value_type) for allows in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
    )


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is binary."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _json(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return json_text(_plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def json_text(value: Any) -> str | None:
    """Return a string unchanged, null as null, and anything else as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        import json

        # Integers beyond 64 bits, and lone surrogates.
        return without_surrogates(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str))


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, by U+FFFD; pairs are joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
