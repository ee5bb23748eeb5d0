"""Partitions of points: the folder of each value, and the value with its type in the footer of its parts.

Folder names are text, from which readers cannot reliably distinguish ``007`` from ``7``, or an empty string from null.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

import pyarrow as pa

from latentscale.errors import ConfigError
from latentscale.storage.arrow_types import type_name, type_of

NULL = "__HIVE_DEFAULT_PARTITION__"
MAX_SPELLED = 200


def check_partition_type(column: str, kind: pa.DataType) -> None:
    """Check before any work that the values of a column can name folders.

    Raises
    ------
    ConfigError
        If it is not text, numeric, boolean or a date.
    """
    value = _value_type(kind)
    allowed = (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating),
        *(pa.types.is_boolean, pa.types.is_date32, pa.types.is_timestamp, pa.types.is_decimal128),
    )
    if not any(allows(value) for allows in allowed):
        raise ConfigError(
            f"publish.partition_by: the values of {column!r} are {kind}, which name no folder",
            hint="Partition by a column of text, numbers, booleans or dates.",
        )


def partition_folder(column: str, value: pa.Scalar) -> str:
    """Name of the hive folder of one value of a column: percent-encoded, as every reader of such folders expects."""
    if not value.is_valid:
        return f"{quote(column, safe='')}={NULL}"
    spelled = quote(_spelled(value), safe="")
    if spelled == NULL:
        spelled = spelled.replace("_", "%5F", 1)
    if len(spelled) > MAX_SPELLED:
        # File names have at most 255 bytes; the footer has the full value.
        spelled = f"{spelled[:MAX_SPELLED].rstrip('%')}~{hashlib.sha256(spelled.encode()).hexdigest()[:16]}"
    return f"{quote(column, safe='')}={spelled}"


def _spelled(value: pa.Scalar) -> str:
    if not (pa.types.is_timestamp(value.type) and cast(pa.TimestampType, value.type).unit == "ns"):
        return str(value.as_py())
    # Python's times have microseconds.
    exact = int(cast(Any, value).value)
    micro = pa.scalar(exact // 1_000, pa.timestamp("us", cast(pa.TimestampType, value.type).tz))
    return str(micro.as_py()) + (f"+{exact % 1_000}ns" if exact % 1_000 else "")


def partition_facts(column: str, value: pa.Scalar, kind: pa.DataType) -> dict[str, Any]:
    """Build the footer facts of a partition: ``column``, ``type`` (Arrow's name of it) and ``value``.

    Times are represented by integers, floats by text.
    """
    plain: Any = None
    if value.is_valid and pa.types.is_temporal(value.type):
        plain = cast(Any, value).cast(pa.int32() if pa.types.is_date32(value.type) else pa.int64()).as_py()
    elif value.is_valid:
        exact = pa.types.is_integer(value.type) or pa.types.is_boolean(value.type)
        plain = value.as_py() if exact else str(value.as_py())
    return {"column": column, "type": type_name(kind), "value": plain}


def partition_values(facts: Mapping[str, Any], rows: int) -> pa.Array:
    """Build the partition column of a part from its footer's facts: ``rows`` times the value."""
    kind = partition_type(facts)
    value = _value_type(kind)
    plain = facts["value"]
    if plain is None:
        return pa.nulls(rows, kind)
    if pa.types.is_date32(value):
        one = pa.array([plain], pa.int32()).cast(value)
    elif pa.types.is_temporal(value):
        one = pa.array([plain], pa.int64()).cast(value)
    elif pa.types.is_floating(value):
        one = pa.array([float(plain)]).cast(value)
    elif pa.types.is_integer(value):
        one = pa.array([plain], value)
    else:
        one = pa.array([plain]).cast(value)
    repeated = pa.repeat(one[0], rows)
    return repeated.dictionary_encode() if pa.types.is_dictionary(kind) else repeated


def partition_type(facts: Mapping[str, Any]) -> pa.DataType:
    """Return the type of the partition column from a footer's facts."""
    return type_of(str(facts["type"]))


def _value_type(kind: pa.DataType) -> pa.DataType:
    return cast(pa.DictionaryType, kind).value_type if pa.types.is_dictionary(kind) else kind
