"""Parquet objects of a workspace as polars frames."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from latentscale.errors import WorkspaceError
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet


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
