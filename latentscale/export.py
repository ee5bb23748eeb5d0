"""Export a map: its points as one file, or its page as a folder that stands alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from latentscale.errors import ConfigError, WorkspaceError
from latentscale.stages.publish import PAGE_FOLDER, page_objects, write_public_page
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace

if TYPE_CHECKING:
    from latentscale.workspace import Map

SUFFIXES = (".parquet", ".csv", ".jsonl")


def export(exported: Map, to: Path, *, text: bool = False) -> Path:
    """Write the points of a map to one file, or its page to a new folder.

    Parameters
    ----------
    to : Path
        A ``.parquet``, ``.csv`` or ``.jsonl`` file; anything without a suffix is a folder for the page.
    text : bool
        Add the text of the documents.

    Raises
    ------
    ConfigError
        For another suffix.
    WorkspaceError
        If the folder is not empty.
    """
    if not to.suffix:
        return _export_page(exported, to)
    if to.suffix not in SUFFIXES:
        raise ConfigError(f"{to.name}: {to.suffix} is not written", hint=f"Use {', '.join(SUFFIXES)}, or a folder.")
    points = exported.points()
    if text:
        points = _with_text(exported, points)
    to.parent.mkdir(parents=True, exist_ok=True)
    # Written beside its place and moved there, so that a killed export leaves no half file of that name.
    unfinished = to.with_name(f".unfinished-{to.name}")
    if to.suffix == ".parquet":
        points.sink_parquet(unfinished)
    elif to.suffix == ".csv":
        points.sink_csv(unfinished)
    else:
        points.sink_ndjson(unfinished)
    unfinished.replace(to)
    return to


def _with_text(exported: Map, points: pl.LazyFrame) -> pl.LazyFrame:
    store = exported.store
    column = read_workspace(store).text_column
    if column in points.collect_schema().names():
        return points
    snapshot = read_snapshot(store, str(exported.record.request["snapshot"]))
    frames: list[pl.LazyFrame] = []
    for shard in snapshot.shards:
        with store.open(shard.name) as file:
            frame = pl.read_parquet(file, columns=["row", column])
        ids = snapshot.row_ids(frame["row"].cast(pl.Int64).to_numpy() + shard.base)
        kept = pl.Series(snapshot.kept(shard))
        frames.append(frame.lazy().select(pl.Series("row_id", ids), pl.col(column)).filter(kept))
    return points.join(pl.concat(frames), on="row_id", how="left", maintain_order="left")


def _export_page(exported: Map, folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()):
        raise WorkspaceError(f"{folder} is not empty", hint="Choose a new folder.")
    store = exported.store
    target = Store(str(folder))
    names = page_objects(store, exported.record)
    if not names:
        raise WorkspaceError(f"{exported.id} has no page", hint="Publish it with --set publish.viewer=true.")
    for name in names:
        _copy(store, target, name)
    write_public_page(target, exported.record)
    return folder / PAGE_FOLDER / "index.html"


def _copy(source: Store, target: Store, name: str) -> None:
    if source.is_local:
        target.put_file(name, Path(source.path(name)))
    else:
        target.put_bytes(name, source.read_bytes(name))
