"""Parquet objects of a workspace as polars frames."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from latentscale.errors import WorkspaceError
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.segments import point_objects, removed_row_ids, segments_of


def scan_objects(store: Store, names: Sequence[str]) -> pl.LazyFrame:
    """Scan parquet objects lazily: on a local disk nothing is read until the frame is collected.

    The parts of hive-style folders (``update=…``) below the first ``points`` become columns.

    Raises
    ------
    WorkspaceError
        If there are none.
    """
    if not names:
        raise WorkspaceError(f"{store.url} holds no such table")
    if store.is_local:
        return pl.scan_parquet([store.path(name) for name in names], hive_partitioning=True)
    return pl.concat([_with_partitions(name, read_frame(store, name)) for name in names], how="vertical").lazy()


def scan_points(store: Store, record: Record) -> pl.LazyFrame:
    """Scan the points of a map: those of all its segments that are still on it.

    Raises
    ------
    WorkspaceError
        If there are none.
    """
    frames: list[pl.LazyFrame] = []
    for segment in segments_of(record):
        frame = scan_objects(store, point_objects(segment))
        removed = removed_row_ids(store, record, segment)
        if len(removed):
            gone = pl.LazyFrame({"row_id": removed})
            frame = frame.join(gone, on="row_id", how="anti", maintain_order="left")
        frames.append(frame)
    if not frames:
        raise WorkspaceError(f"{record.id} has no points")
    # Labels are categories within a segment; later segments may have columns that earlier ones lack.
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")


def read_parts(store: Store, names: Sequence[str]) -> pl.DataFrame:
    """Read parquet objects into one frame; a column that some lack is null there."""
    return pl.concat([read_frame(store, name) for name in names], how="diagonal_relaxed")


def read_frame(store: Store, name: str) -> pl.DataFrame:
    """Read one parquet object."""
    frame = pl.from_arrow(read_parquet(store, name))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _with_partitions(name: str, frame: pl.DataFrame) -> pl.DataFrame:
    values = [part.split("=", 1) for part in name.split("/") if "=" in part]
    return frame.with_columns([pl.lit(value).alias(key) for key, value in values])
