"""The segments of a map: the points that its first fit made, and those that each update added or took away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Points of one map that this map, or one that grew out of it, shows.

    Attributes
    ----------
    map : str
        The map in whose folder they are.
    documents : int
        Of the segment that are still on the map.
    points : list of str
        Objects, relative to the map's folder.
    page : dict or None
        What the viewer knows of its tiles; None without a viewer.
    removed : str or None
        Object in the folder of the *showing* map: the ``row_id`` of points that are gone, or that a later segment has
        instead.
    removed_positions : dict or None
        The same for the viewer: ``url`` relative to the showing map's folder, and ``count``.
    """

    map: str
    documents: int
    points: list[str]
    page: dict[str, Any] | None = None
    removed: str | None = None
    removed_positions: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def map_folder(identity: str) -> str:
    """Folder of a map."""
    return f"maps/{identity}"


def segments_of(record: Record) -> list[Segment]:
    """The segments of a map, the oldest first; a map that no update made is its own only one."""
    if record.segments:
        return [Segment(**segment) for segment in record.segments]
    return [
        Segment(
            map=record.id,
            documents=int(record.counts["documents"]),
            points=[part.name for part in record.parts if part.name.startswith("points/")],
            page=record.counts.get("page"),
        )
    ]


def point_objects(segment: Segment) -> list[str]:
    """Objects of a segment's points, in the workspace."""
    return [f"{map_folder(segment.map)}/{name}" for name in segment.points]


def removed_row_ids(store: Store, record: Record, segment: Segment) -> Ids:
    """Ascending ``row_id`` of the points of a segment that are not on the map (int64)."""
    if segment.removed is None:
        return np.empty(0, dtype=np.int64)
    return read_parquet(store, f"{map_folder(record.id)}/{segment.removed}", ["row_id"])["row_id"].to_numpy()


def read_points(store: Store, record: Record, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """Read columns of the points that are on a map.

    Yields
    ------
    index : int
        Of the segment.
    table : pyarrow.Table
        ``columns`` of one object; its rows that were removed are left out.
    """
    for index, segment in enumerate(segments_of(record)):
        removed = removed_row_ids(store, record, segment)
        for name in point_objects(segment):
            names = list(columns) if "row_id" in columns else ["row_id", *columns]
            table = read_parquet(store, name, names)
            if len(removed):
                table = table.filter(pa.array(~contains(removed, table["row_id"].to_numpy())))
            yield index, table.select(list(columns))


def contains(ascending: Ids, values: Ids) -> NDArray[np.bool_]:
    """Say of each value whether the ascending array has it (bool, shape (n,))."""
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    found = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return ascending[found] == values
