"""Stored names of the columns of documents, and their common schema over all shards."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from latentscale.config import CorpusConfig
from latentscale.readers.spelling import CANDIDATES, TYPES, allows, candidate_types, common_types
from latentscale.storage.common_types import as_text, cast_values, common_type, plain_type, value_facts

__all__ = [
    "OWN_COLUMNS",
    "as_text",
    "candidate_types",
    "concat",
    "conform",
    "plain_type",
    "stored_id_column",
    "stored_name",
    "stored_text_column",
    "text_of",
    "unify_columns",
    "value_facts",
]

OWN_COLUMNS = ("row", "source", "source_row")
"""The first columns of every shard of documents."""

_RESERVED = re.compile(
    r"(?:source_)*(row|row_id|source|x|y|z|cluster|nearest_cluster|probability|density|neighbor_distance"
    r"|outlier_score|fitted|label|update|vector|layer_\d+)"
)
_TEXT = "text"


def text_of(corpus: CorpusConfig) -> str:
    """Return the text setting; by default ``text``."""
    return corpus.text or _TEXT


def stored_name(name: str, corpus: CorpusConfig) -> str:
    """Return the name under which a source column is stored.

    Reserved names get the prefix ``source_``, and so do names that would then collide; with a template, ``text`` is
    reserved too. The mapping is injective.
    """
    match = _RESERVED.fullmatch(name)
    if match:
        # `source_row` is reserved too, so `row` needs two steps.
        return ("source_source_" if match[1] == "row" else "source_") + name
    if corpus.is_template() and re.fullmatch(rf"(source_)*{_TEXT}", name):
        return f"source_{name}"
    return name


def stored_text_column(corpus: CorpusConfig) -> str:
    """Return the text column of document shards."""
    return _TEXT if corpus.is_template() else stored_name(text_of(corpus), corpus)


def stored_id_column(corpus: CorpusConfig) -> str | None:
    """Return the id column of document shards, or None."""
    return stored_name(corpus.id, corpus) if corpus.id else None


def unify_columns(shards: Sequence[tuple[pa.Schema, Mapping[str, Any]]]) -> pa.Schema:
    """Determine the common schema of the source columns of all shards.

    A column keeps its type if all shards agree, ignoring shards where it is missing or empty. Integers of different
    widths become int64, integers and floats float64, text that can be parsed as one narrower type in all shards that
    type, times of different precision the finest one, and everything else text. No value is altered: integers that
    float64 cannot represent become int64 if all floats are integral, and text otherwise.

    Parameters
    ----------
    shards : sequence of (schema, facts)
        Of document shards, as returned by ``read_footer``; ``facts["types"]`` has the result of ``candidate_types`` for
        text columns and of ``value_facts`` for others.

    Returns
    -------
    pyarrow.Schema
        Columns in order of first appearance, without ``row``, ``source`` and ``source_row``.
    """
    columns: dict[str, _Column] = {}
    for schema, facts in shards:
        types: Mapping[str, list[str]] = facts.get("types", {})
        for field in schema:
            if field.name not in OWN_COLUMNS:
                columns.setdefault(field.name, _Column()).add(field.type, types.get(field.name))
    return pa.schema([(name, column.unified()) for name, column in columns.items()])


@dataclasses.dataclass(slots=True)
class _Column:
    """The types of one column over all shards.

    Attributes
    ----------
    kinds : list of pyarrow.DataType
        Types of typed columns, without null.
    allowed : set of str or None
        Narrower types as which all text can be parsed; None if there is no text.
    wide, whole : bool
        Arguments of :func:`common_type`.
    """

    kinds: list[pa.DataType] = dataclasses.field(default_factory=list[pa.DataType])
    allowed: set[str] | None = None
    wide: bool = False
    whole: bool = True

    def add(self, kind: pa.DataType, facts: Sequence[str] | None) -> None:
        """Add a shard's column; ``facts`` is the result of :func:`candidate_types` or :func:`value_facts` for it."""
        if pa.types.is_string(kind) and facts is not None:
            self.allowed = set(facts) if self.allowed is None else common_types(self.allowed, facts)
            return
        if pa.types.is_floating(kind):
            self.whole = self.whole and facts is not None and "int64" in facts
        elif facts is not None:
            self.wide = True
        if not pa.types.is_null(kind) and kind not in self.kinds:
            self.kinds.append(kind)

    def common(self, *more: pa.DataType, wide: bool = False) -> pa.DataType:
        """Return the common type of the typed values and the types ``more``."""
        return common_type([*more, *self.kinds], wide=self.wide or wide, whole=self.whole)

    def unified(self) -> pa.DataType:
        """Return the common type of typed values and of the types as which text can be parsed."""
        allowed = self.allowed
        if allowed is None:
            return self.common() if self.kinds else pa.string()
        if not self.kinds:
            # Only empty values, which allow every type, become text.
            narrowest = next((name for name in CANDIDATES if allows(name, allowed)), None)
            return pa.string() if narrowest is None or allowed >= set(CANDIDATES) else TYPES[narrowest]
        for name in CANDIDATES:
            if allows(name, allowed):
                # Integers that do not round-trip through float64.
                merged = self.common(TYPES[name], wide=not allows("float64", allowed))
                if not pa.types.is_string(merged):
                    return merged
        return pa.string()


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Bring a shard's table to ``schema``: columns in its order, types cast, missing columns null.

    ``row``, ``source`` and ``source_row`` stay in front if present. Values converted to text are written as JSON.
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
            columns[field.name] = cast_values(table.column(field.name), field.type, name=field.name)
    return pa.table(columns)


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables with different columns and types, by the rules of ``unify_columns``."""
    first = tables[0].schema
    if all(table.schema.equals(first) for table in tables):
        return pa.concat_tables(tables).combine_chunks()
    found: dict[str, _Column] = {}
    for table in tables:
        for name, column in zip(table.column_names, table.columns, strict=True):
            found.setdefault(name, _Column()).add(column.type, value_facts(column))
    schema = pa.schema([(name, one.common() if one.kinds else pa.null()) for name, one in found.items()])
    conformed = [
        pa.table(
            {
                field.name: cast_values(table.column(field.name), field.type, name=field.name)
                if field.name in table.column_names
                else pa.nulls(table.num_rows, field.type)
                for field in schema
            }
        )
        for table in tables
    ]
    return pa.concat_tables(conformed).combine_chunks()
