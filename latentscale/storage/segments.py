"""The segments of a map: the points of its first fit, and those that each update added or removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.storage.artifacts import Part, Record, read_record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import named_columns, open_parquet, read_facts, read_parquet
from latentscale.storage.partitions import partition_values
from latentscale.storage.records import MAX_LISTED_PARTS

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Points that were computed for one map and are shown by it or by a later update of it.

    Attributes
    ----------
    map : str
        Id of the map whose folder contains the points.
    documents : int
        Number of documents of the segment that are still on the map.
    points : list of str or None
        Object names relative to the map's folder; None: those that the map's record lists below ``points/``.
    page : dict or None
        Metadata of its tiles for the viewer; None without a viewer.
    removed : str or None
        Object in the folder of the *showing* map with the ``row_id`` of points that were removed or that a later
        segment replaces.
    removed_positions : dict or None
        The same for the viewer: ``url`` relative to the showing map's folder, and ``count``.
    store : Store or None
        Workspace from which the map's record is read if ``points`` is None.
    """

    map: str
    documents: int
    points: list[str] | None
    page: dict[str, Any] | None = None
    removed: str | None = None
    removed_positions: dict[str, Any] | None = None
    store: Store | None = field(default=None, compare=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values; a long list of points is omitted, as the map's record has it."""
        few = self.points is not None and len(self.points) <= MAX_LISTED_PARTS
        return {
            "map": self.map,
            "documents": self.documents,
            "points": self.points if few else None,
            "page": self.page,
            "removed": self.removed,
            "removed_positions": self.removed_positions,
        }


def map_folder(identity: str) -> str:
    """Return the folder of a map in its workspace."""
    return f"maps/{identity}"


def segments_of(record: Record) -> list[Segment]:
    """Return the segments of a map, oldest first; a map that is not an update consists of one segment."""
    if record.segments:
        return [Segment(store=record.store, **segment) for segment in record.segments]
    return [
        Segment(
            map=record.id,
            documents=int(record.counts["documents"]),
            points=_points(record.listed) if record.parts_table is None else None,
            page=record.counts.get("page"),
            store=record.store,
        )
    ]


def point_names(segment: Segment) -> list[str]:
    """Return the objects of a segment's points, relative to its map's folder; reads that map's record if needed.

    Raises
    ------
    WorkspaceError
        If that map does not exist.
    """
    if segment.points is not None:
        return segment.points
    assert segment.store is not None, "a segment without a list of points comes from a record"
    return _points(read_record(segment.store, segment.map).parts)


def point_objects(segment: Segment) -> list[str]:
    """Return the objects of a segment's points, relative to the workspace."""
    return [f"{map_folder(segment.map)}/{name}" for name in point_names(segment)]


def _points(parts: Iterable[Part]) -> list[str]:
    return [part.name for part in parts if part.name.startswith("points/")]


def removed_row_ids(store: Store, record: Record, segment: Segment) -> Ids:
    """Return the ascending ``row_id`` of the points of a segment that are not on the map (int64)."""
    if segment.removed is None:
        return np.empty(0, dtype=np.int64)
    return read_parquet(store, f"{map_folder(record.id)}/{segment.removed}", ["row_id"])["row_id"].to_numpy()


def read_points(store: Store, record: Record, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Read columns of the points that are on a map, including the column of ``publish.partition_by``.

    Yields
    ------
    index : int
        Index of the segment.
    table : pyarrow.Table
        ``columns`` of one object, without its removed rows.
    """
    for index, segment in enumerate(segments_of(record)):
        removed = removed_row_ids(store, record, segment)
        for name in point_objects(segment):
            table = _read_part(store, name, columns)
            if len(removed):
                table = table.filter(pa.array(~contains(removed, table["row_id"].to_numpy())))
            yield index, table.select(list(columns))


def _read_part(store: Store, name: str, columns: Sequence[str]) -> pa.Table:
    """Read ``row_id`` and ``columns`` of one object; a partition value is in its footer, not in its rows."""
    with open_parquet(store, name) as file:
        partition: dict[str, Any] = read_facts(store, name, file).get("partition") or {}
        partitioned = partition.get("column")
        names = [column for column in dict.fromkeys(["row_id", *columns]) if column != partitioned]
        table = named_columns(file.read(columns=names, use_threads=False), names)
    if partitioned in columns:
        table = table.append_column(str(partitioned), partition_values(partition, table.num_rows))
    return table


def contains(ascending: Ids, values: Ids) -> NDArray[np.bool_]:
    """Whether the ascending array contains each value (bool, shape (n,))."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    found = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[found] == values
