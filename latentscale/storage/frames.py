"""Read parquet objects of a workspace as polars frames."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from latentscale.errors import WorkspaceError
from latentscale.storage.artifacts import Record
from latentscale.storage.common_types import cast_values, common_type, named_zones, plain_type
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.parquet import named_columns, open_parquet, read_facts, read_footer, read_parquet
from latentscale.storage.partitions import partition_type, partition_values
from latentscale.storage.segments import contains, point_objects, removed_row_ids, segments_of
from latentscale.viewer.values import value_text

UPDATE = "update"


def scan_points(store: Store, record: Record) -> pl.LazyFrame:
    """Scan the points of a map: the current ones of all its segments.

    Only one footer per segment is read until the frame is collected, and then only the selected columns, part by part,
    with checksums of all pages. Predicates are applied while reading; those on ``update`` and ``publish.partition_by``
    alone also skip whole parts.

    A column with different types in several segments (updates can add files with other types) has their common type, as
    if one run had written all.

    Returns
    -------
    polars.LazyFrame
        The columns of the parts, then ``update`` (the snapshot of the part) and the column of
        ``publish.partition_by``, with the type that it has in the corpus. Decimals of more than 38 digits and
        intervals of months, which polars has no type for, are text; nested values with such in them are JSON.

    Raises
    ------
    WorkspaceError
        If there are none.
    """
    frames = [_scan_segment(segment) for segment in point_segments(store, record)]
    # Labels are categories within a segment; later segments may have columns that earlier ones lack.
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSegment:
    """The parts of one segment of a map.

    Attributes
    ----------
    names : list of str
        Object names, in order.
    schema : pyarrow.Schema
        Schema of their frames: columns of the parts, ``update``, the partition; with types common to all segments.
    removed : int64 ndarray
        Ascending ``row_id`` of the points that are not on the map.
    """

    store: Store
    names: list[str]
    schema: pa.Schema
    removed: NDArray[np.int64]

    @property
    def frame_schema(self) -> pl.Schema:
        """Schema of the frames that ``read`` returns if all columns are selected."""
        return _empty(self.schema).schema

    def read(self, name: str, columns: Collection[str] | None = None, predicate: pl.Expr | None = None) -> pl.DataFrame:
        """Read all or some columns of the points of one part that are on the map."""
        wanted = [field.name for field in self.schema if columns is None or field.name in columns]
        needed = set(wanted) if predicate is None else {*wanted, *predicate.meta.root_names()}
        with open_parquet(self.store, name) as file:
            facts = read_facts(self.store, name, file)
            of_folder = folder_columns(name, facts)
            if predicate is not None and set(predicate.meta.root_names()) <= set(of_folder):
                one = _frame(_in_types(pa.table({key: _values(key, facts, name, 1) for key in of_folder}), self.schema))
                if one.filter(predicate).is_empty():
                    return _empty(pa.schema([self.schema.field(key) for key in wanted]))
            held = [key for key in file.schema_arrow.names if key in needed or key == "row_id"]
            table = named_columns(file.read(columns=held, use_threads=False), held)
        for key in of_folder:
            table = table.append_column(key, _values(key, facts, name, table.num_rows))
        table = _in_types(table, self.schema)
        if len(self.removed):
            table = table.filter(pa.array(~contains(self.removed, table["row_id"].to_numpy())))
        frame = _frame(table)
        return (frame if predicate is None else frame.filter(predicate)).select(wanted)


def point_segments(store: Store, record: Record) -> list[PointSegment]:
    """Return the segments of a map that have parts, oldest first.

    Raises
    ------
    WorkspaceError
        If no segment has parts.
    """
    found: list[PointSegment] = []
    kinds: dict[str, list[pa.DataType]] = {}
    for segment in segments_of(record):
        names = point_objects(segment)
        if not names:
            continue
        footer = read_footer(store, names[0])
        fields = list(footer.schema)
        for key in folder_columns(names[0], footer.facts):
            kind = pa.string() if key == UPDATE else partition_type(footer.facts["partition"])
            fields.append(pa.field(key, kind))
        removed = removed_row_ids(store, record, segment)
        found.append(PointSegment(store=store, names=names, schema=pa.schema(fields), removed=removed))
        for field in fields:
            kinds.setdefault(field.name, []).append(field.type)
    if not found:
        raise WorkspaceError(f"{record.id} has no points")
    common = {name: _common_type(of_segments) for name, of_segments in kinds.items()}
    return [
        replace(one, schema=pa.schema([field.with_type(common[field.name]) for field in one.schema])) for one in found
    ]


def scan_parts(store: Store, names: Sequence[str]) -> pl.LazyFrame:
    """Lazily scan parts with equal columns that belong to no map, as ``scan_points`` does."""
    schema = read_footer(store, names[0]).schema
    return _scan_segment(PointSegment(store=store, names=list(names), schema=schema, removed=np.empty(0, np.int64)))


def _common_type(of_segments: list[pa.DataType]) -> pa.DataType:
    """Return the common type of a column, given its types from the oldest to the newest segment."""
    if all(kind == of_segments[0] for kind in of_segments):
        return of_segments[0]
    kinds = list(dict.fromkeys(map(plain_type, of_segments)))
    # The newest segment was typed on all documents: it has integers only if all floats are integral.
    whole = pa.types.is_integer(kinds[-1])
    return common_type(kinds, wide=whole and any(map(pa.types.is_floating, kinds)), whole=whole)


def _in_types(table: pa.Table, schema: pa.Schema) -> pa.Table:
    for index, name in enumerate(table.column_names):
        kind = schema.field(name).type if name in schema.names else table.schema.field(index).type
        if kind != table.schema.field(index).type:
            column = table.column(index)
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            table = table.set_column(index, name, cast_values(column, kind, name=name))
    return table


def _scan_segment(segment: PointSegment) -> pl.LazyFrame:
    def batches(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for frame in in_order(segment.store, lambda name: segment.read(name, with_columns, predicate), segment.names):
            taken = frame if left is None else frame.head(left)
            left = None if left is None else left - len(taken)
            yield taken.select(with_columns) if with_columns is not None else taken
            if left == 0:
                return

    return register_io_source(batches, schema=segment.frame_schema)


def read_parts(store: Store, names: Sequence[str]) -> pl.DataFrame:
    """Read parquet objects into one frame; missing columns become null."""
    return pl.concat([read_frame(store, name) for name in names], how="diagonal_relaxed")


def read_frame(store: Store, name: str) -> pl.DataFrame:
    """Read one parquet object."""
    return _frame(read_parquet(store, name))


def folder_columns(name: str, facts: dict[str, Any]) -> list[str]:
    """Return the columns derived from a part's metadata: its update, and its partition if it has one."""
    update = [UPDATE] if f"/{UPDATE}=" in name else []
    return update + ([str(facts["partition"]["column"])] if "partition" in facts else [])


def _values(key: str, facts: dict[str, Any], name: str, rows: int) -> pa.Array:
    if key == UPDATE:
        return pa.repeat(name.partition(f"/{UPDATE}=")[2].partition("/")[0], rows)
    return partition_values(facts["partition"], rows)


def _empty(schema: pa.Schema) -> pl.DataFrame:
    return _frame(schema.empty_table())


def _frame(table: pa.Table) -> pl.DataFrame:
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal256(field.type):
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
        elif pa.types.is_interval(field.type):
            texts = [None if value is None else str(value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_nested(field.type) and _holds_what_polars_lacks(field.type):
            texts = [value_text(value) for value in table.column(index).to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
        elif (kind := named_zones(field.type)) != field.type:
            table = table.set_column(index, field.name, table.column(index).cast(kind))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _holds_what_polars_lacks(kind: pa.DataType) -> bool:
    """Whether a type contains, at any depth, decimals of more than 38 digits or intervals of months."""
    if pa.types.is_nested(kind):
        return any(_holds_what_polars_lacks(kind.field(at).type) for at in range(kind.num_fields))
    return pa.types.is_decimal256(kind) or pa.types.is_interval(kind)
