"""Names and types of the columns of documents: what is stored, and one schema for all shards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from latentscale.config import CorpusConfig
from latentscale.readers.values import json_text, pc

OWN_COLUMNS = ("row", "source", "source_row")
"""The columns that every shard of documents begins with."""

_RESERVED = re.compile(
    r"(?:source_)*(row|row_id|source|x|y|z|cluster|nearest_cluster|probability|density|label|update|vector|layer_\d+)"
)
_TEXT = "text"
# What the values of a column of text can also be read as, the narrowest first.
_CANDIDATES = ("int64", "float64", "bool", "date", "timestamp", "timestamp_utc")
_PATTERNS = {
    "int64": r"^(0|-?[1-9][0-9]{0,17})$",
    "float64": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$",
    "bool": r"^(true|false|True|False|TRUE|FALSE)$",
    "date": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "timestamp": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$",
    "timestamp_utc": (
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
    ),
}
_TYPES: dict[str, pa.DataType] = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp_utc": pa.timestamp("us", tz="UTC"),
}


def text_of(corpus: CorpusConfig) -> str:
    """The text setting, ``text`` where there is none."""
    return corpus.text or _TEXT


def stored_name(name: str, corpus: CorpusConfig) -> str:
    """The name under which a source column is stored.

    Names that LatentScale uses itself get ``source_`` before them, and so do names that would then be taken; with a
    template, that holds for ``text`` too. Different columns always get different names.
    """
    match = _RESERVED.fullmatch(name)
    if match:
        # `source_row` is a column of every shard, so that `row` has to go two steps.
        return ("source_source_" if match[1] == "row" else "source_") + name
    if corpus.is_template() and re.fullmatch(rf"(source_)*{_TEXT}", name):
        return f"source_{name}"
    return name


def stored_text_column(corpus: CorpusConfig) -> str:
    """The column of the document shards that holds the text."""
    return _TEXT if corpus.is_template() else stored_name(text_of(corpus), corpus)


def stored_id_column(corpus: CorpusConfig) -> str | None:
    """The column of the document shards that holds the id."""
    return stored_name(corpus.id, corpus) if corpus.id else None


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type in which a source column is kept: the same values without encodings and 64-bit offsets."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or kind == pa.string_view():
        return pa.string()
    if pa.types.is_large_binary(kind) or kind == pa.binary_view():
        return pa.binary()
    if pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def candidate_types(column: pa.ChunkedArray | pa.Array) -> list[str]:
    """Say which narrower types all values of a column of text allow, the narrowest first; empty values allow any.

    Whole numbers count only in their canonical spelling: ``007`` stays text.
    """
    present = pc.filter(column, pc.and_kleene(pc.is_valid(column), pc.not_equal(column, "")))
    if not len(present):
        return list(_CANDIDATES)
    start = present.slice(0, 64)
    return [name for name in _CANDIDATES if _matches(start, name) and _matches(present, name)]


def _matches(values: pa.ChunkedArray | pa.Array, name: str) -> bool:
    if not pc.all(pc.match_substring_regex(values, _PATTERNS[name])).as_py():
        return False
    try:
        narrow(values, name)
    except pa.ArrowInvalid:
        return False
    return True


def narrow(values: pa.ChunkedArray | pa.Array, name: str) -> pa.ChunkedArray | pa.Array:
    """Read text as one of its candidate types; an empty value is null."""
    blank = pc.equal(values, "")
    return pc.if_else(blank, pa.scalar(None, pa.string()), values).cast(_TYPES[name])


def unify_columns(shards: Sequence[tuple[pa.Schema, Mapping[str, Any]]]) -> pa.Schema:
    """Find one schema for the source columns of all shards.

    A column keeps its type where all shards agree, a shard that has it empty or not at all apart. Whole numbers of
    different widths become int64, whole and other numbers float64, text that all shards can read as one narrower type
    that type, times of different precision the finest, and everything else text.

    Parameters
    ----------
    shards : sequence of (schema, facts)
        Of document shards, as ``read_footer`` gives them.

    Returns
    -------
    pyarrow.Schema
        Columns in order of first appearance, without ``row``, ``source`` and ``source_row``.
    """
    seen: dict[str, list[pa.DataType]] = {}
    texts: dict[str, set[str] | None] = {}
    for schema, facts in shards:
        types: Mapping[str, list[str]] = facts.get("types", {})
        for field in schema:
            if field.name in OWN_COLUMNS:
                continue
            kinds = seen.setdefault(field.name, [])
            texts.setdefault(field.name, None)
            if pa.types.is_string(field.type) and field.name in types:
                allowed = set(types[field.name])
                earlier = texts[field.name]
                texts[field.name] = allowed if earlier is None else earlier & allowed
            elif field.type not in kinds:
                kinds.append(field.type)
    return pa.schema([(name, _unified(kinds, texts[name])) for name, kinds in seen.items()])


def _unified(kinds: list[pa.DataType], allowed: set[str] | None) -> pa.DataType:
    """One type for the types of typed columns and, where some shards hold text, for what that can be read as."""
    present = [kind for kind in kinds if not pa.types.is_null(kind)]
    if allowed is None:
        return _common(present) if present else pa.string()
    if not present:
        # Nothing but empty values allows every type, and is text.
        narrowest = next((name for name in _CANDIDATES if name in allowed), None)
        return pa.string() if narrowest is None or len(allowed) == len(_CANDIDATES) else _TYPES[narrowest]
    common = _common(present)
    for name in _CANDIDATES:
        merged = _common([_TYPES[name], common]) if name in allowed else pa.string()
        if not pa.types.is_string(merged):
            return merged
    return pa.string()


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    first = kinds[0]
    if all(kind == first for kind in kinds):
        return first
    if all(pa.types.is_integer(kind) and kind != pa.uint64() for kind in kinds):
        return pa.int64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        return pa.float64() if any(pa.types.is_floating(kind) for kind in kinds) else pa.string()
    if all(pa.types.is_timestamp(kind) and kind.tz == getattr(first, "tz", None) for kind in kinds):
        units = ("s", "ms", "us", "ns")
        return pa.timestamp(units[max(units.index(kind.unit) for kind in kinds)], tz=first.tz)
    return pa.string()


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a shard's table to ``schema``: columns in its order, types cast, missing columns null.

    ``row``, ``source`` and ``source_row`` are kept in front where the table has them. What becomes text and was not is
    written as JSON.
    """
    columns: dict[str, pa.ChunkedArray | pa.Array] = {
        name: table.column(name) for name in OWN_COLUMNS if name in table.column_names
    }
    for field in schema:
        if field.name in OWN_COLUMNS:
            continue
        if field.name not in table.column_names:
            columns[field.name] = pa.nulls(table.num_rows, field.type)
        else:
            columns[field.name] = _cast(table.column(field.name), field.type)
    return pa.table(columns)


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables with different columns and types one below the other, by the rules of ``unify_columns``."""
    first = tables[0].schema
    if all(table.schema.equals(first) for table in tables):
        return pa.concat_tables(tables).combine_chunks()
    kinds: dict[str, list[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            found = kinds.setdefault(field.name, [])
            if not pa.types.is_null(field.type) and field.type not in found:
                found.append(field.type)
    schema = pa.schema([(name, _common(found) if found else pa.null()) for name, found in kinds.items()])
    conformed = [
        pa.table(
            {
                field.name: _cast(table.column(field.name), field.type)
                if field.name in table.column_names
                else pa.nulls(table.num_rows, field.type)
                for field in schema
            }
        )
        for table in tables
    ]
    return pa.concat_tables(conformed).combine_chunks()


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    if column.type == kind:
        return column
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), kind)
    if pa.types.is_string(kind):
        return as_text(column)
    if pa.types.is_string(column.type):
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column).cast(kind)
    return column.cast(kind, safe=False)


def as_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Write any column as text: strings as they are, times in ISO 8601, the rest as JSON."""
    kind = column.type
    if pa.types.is_string(kind):
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        return as_text(column.cast(pa.string()))
    if pa.types.is_nested(kind) or pa.types.is_floating(kind) or pa.types.is_binary(kind):
        return pa.array([_json(value) for value in column.to_pylist()], pa.string())
    return as_text(column.cast(pa.string()))


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
