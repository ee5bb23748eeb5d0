"""Names and types of the columns of documents: what is stored, and one schema for all shards."""

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
"""The columns that every shard of documents begins with."""

_RESERVED = re.compile(
    r"(?:source_)*(row|row_id|source|x|y|z|cluster|nearest_cluster|probability|density|neighbor_distance"
    r"|outlier_score|fitted|label|update|vector|layer_\d+)"
)
_TEXT = "text"


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


def unify_columns(shards: Sequence[tuple[pa.Schema, Mapping[str, Any]]]) -> pa.Schema:
    """Find one schema for the source columns of all shards.

    A column keeps its type where all shards agree, a shard that has it empty or not at all apart. Whole numbers of
    different widths become int64, whole and other numbers float64, text that all shards can read as one narrower type
    that type, times of different precision the finest, and everything else text. No value is altered by it: whole
    numbers that float64 cannot hold become int64 where all the others are whole too, and text otherwise.

    Parameters
    ----------
    shards : sequence of (schema, facts)
        Of document shards, as ``read_footer`` gives them; ``facts["types"]`` has what ``candidate_types`` says of text
        and ``value_facts`` of other columns.

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
    """What the shards hold in one column.

    Attributes
    ----------
    kinds : list of pyarrow.DataType
        Of typed values, without null.
    allowed : set of str or None
        What all text can be read as; None where there is none that could be narrower.
    wide, whole : bool
        As :func:`common_type` takes them.
    """

    kinds: list[pa.DataType] = dataclasses.field(default_factory=list[pa.DataType])
    allowed: set[str] | None = None
    wide: bool = False
    whole: bool = True

    def add(self, kind: pa.DataType, facts: Sequence[str] | None) -> None:
        """Add a shard's column; ``facts`` are what :func:`candidate_types` or :func:`value_facts` said of it."""
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
        """One type for the typed values and those of the types ``more``."""
        return common_type([*more, *self.kinds], wide=self.wide or wide, whole=self.whole)

    def unified(self) -> pa.DataType:
        """One type for typed values and, where some shards hold text, for what that can be read as."""
        allowed = self.allowed
        if allowed is None:
            return self.common() if self.kinds else pa.string()
        if not self.kinds:
            # Nothing but empty values allows every type, and is text.
            narrowest = next((name for name in CANDIDATES if allows(name, allowed)), None)
            return pa.string() if narrowest is None or allowed >= set(CANDIDATES) else TYPES[narrowest]
        for name in CANDIDATES:
            if allows(name, allowed):
                # Whole numbers that no way of writing floats gives back are longer than float64 holds.
                merged = self.common(TYPES[name], wide=not allows("float64", allowed))
                if not pa.types.is_string(merged):
                    return merged
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
            columns[field.name] = cast_values(table.column(field.name), field.type, name=field.name)
    return pa.table(columns)


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables with different columns and types one below the other, by the rules of ``unify_columns``."""
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
