"""Values of a corpus as text: on the page, and in file formats that lack their type."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any, cast

import pyarrow as pa


def displayable(column: pa.Array) -> pa.Array:
    """Convert a column to a type that all parquet readers, including the browser's, display alike; others to text.

    Text is as from :func:`value_text`; times and durations keep all digits. Timestamps are converted to milliseconds if
    that is exact, else to text.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return displayable(column.dictionary_decode())
    if isinstance(kind, pa.ExtensionType):
        return displayable(cast(Any, column).storage)
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if pa.types.is_timestamp(kind):
        in_milliseconds = column.cast(pa.timestamp("ms", kind.tz), safe=False)
        exact = kind.unit in ("s", "ms") or in_milliseconds.cast(kind).equals(column)
        return in_milliseconds if exact else _texts(_timestamp_text(value) for value in _nanoseconds(column, kind.unit))
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_large_string(kind) or pa.types.is_string(kind):
        return column.cast(pa.large_string())
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_date(kind):
        return column
    if pa.types.is_time(kind):
        return _texts(_time_text(value) for value in _nanoseconds(column, kind.unit))
    if pa.types.is_duration(kind):
        return _texts(_duration_text(value) for value in _nanoseconds(column, kind.unit))
    return _texts(value_text(value) for value in column.to_pylist())


def value_text(value: Any) -> str | None:
    """Convert a value to text: strings unchanged, decimals by their digits, bytes as hexadecimal, nested as JSON."""
    plain = plain_value(value)
    return plain if plain is None or isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def plain_value(value: Any) -> Any:
    """Convert a value to JSON types; NaN and infinities become null."""
    if isinstance(value, Mapping):
        return {_key(key): plain_value(inner) for key, inner in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        # pyarrow returns maps as lists of pairs.
        if items and all(isinstance(item, tuple) and len(cast("tuple[Any, ...]", item)) == 2 for item in items):
            return {_key(key): plain_value(inner) for key, inner in cast("list[tuple[Any, Any]]", items)}
        return [plain_value(inner) for inner in items]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration_text((value // timedelta(microseconds=1)) * 1_000)
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _key(key: Any) -> str:
    plain = plain_value(key)
    return plain if isinstance(plain, str) else json.dumps(plain)


_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def _nanoseconds(column: pa.Array, unit: str) -> Iterable[int | None]:
    """Convert times to nanoseconds since their origin; Python's own types have only microseconds."""
    width = pa.int32() if column.type.bit_width == 32 else pa.int64()
    factor = _NANOSECONDS[unit]
    return (None if value is None else value * factor for value in column.cast(width).to_pylist())


def _timestamp_text(nanoseconds: int | None) -> str | None:
    if nanoseconds is None:
        return None
    seconds, rest = divmod(nanoseconds, 10**9)
    days, within = divmod(seconds, 86_400)
    return f"{date.fromordinal(719_163 + days).isoformat()} {_time_text(within * 10**9 + rest)}"


def _time_text(nanoseconds: int | None) -> str | None:
    if nanoseconds is None:
        return None
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{_fraction(rest)}"


def _duration_text(nanoseconds: int | None) -> str | None:
    """Format as ISO 8601, ``P1DT2H3M4.5S``, like polars."""
    if nanoseconds is None:
        return None
    sign, (seconds, rest) = "-" if nanoseconds < 0 else "", divmod(abs(nanoseconds), 10**9)
    days, hours, minutes, remaining_seconds = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    clock += f"{remaining_seconds}{_fraction(rest)}S" if remaining_seconds or rest else ""
    day = f"{days}D" if days else ""
    return f"{sign}P{day}T{clock}" if clock else f"{sign}P{day}" if day else "PT0S"


def _fraction(nanoseconds: int) -> str:
    return f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""


def _texts(values: Iterable[str | None]) -> pa.Array:
    return pa.array(list(values), pa.large_string())
