"""Layouts initialized from an earlier map: choosing the map, checking it, and the initial coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends.earlier import start_from_earlier
from latentscale.backends.select import check_layouts
from latentscale.config import JobConfig
from latentscale.digest import artifact_id
from latentscale.errors import ConfigError, WorkspaceError
from latentscale.stages.project_request import ProjectionRequest
from latentscale.stages.stage import MapJob
from latentscale.storage.artifacts import Record, find_record, needed_record, read_table
from latentscale.storage.objects import Store
from latentscale.storage.segments import read_points

# Default epochs and share of the learning rate of such a layout, by measurement
# (docs/decisions/0018-start-from-an-earlier-map.md). The full rate would destroy the initial layout.
EPOCHS = 100
RATE = 0.1
_SETTING = "project.init"


def configured_epochs(config: JobConfig) -> int | None:
    """Return the epochs of each layout; None: the backend's default for the number of documents."""
    return config.project.n_epochs or (EPOCHS if config.project.init == "earlier" else None)


def check_earlier(store: Store, config: JobConfig, current: Record | None, *, clusters: bool) -> None:
    """Check before any work that the current map has the layouts that ``project.init: earlier`` needs.

    Parameters
    ----------
    current : Record or None
        The current map.
    clusters : bool
        Whether the job computes clusters.

    Raises
    ------
    ConfigError
        If there is no map, or the dimensions of a layout differ.
    """
    if config.project.init != "earlier":
        return
    if current is None:
        raise ConfigError(
            f"{store.url} has no map yet from which a layout could start",
            where=_SETTING,
            hint="Leave project.init out of the first run: it starts from principal components.",
        )
    if config.project.map_dimensions > 2 and layout_of_map(store, current, "height") is None:
        raise _other(current, "has no height", "project.map_dimensions is 3")
    wanted = config.project.cluster_dimensions
    if not clusters or wanted == 2 or config.cluster.clustered != "layout":
        return
    record = layout_of_map(store, current, "layout")
    held = 0 if record is None else int(record.counts["n_components"])
    if held != wanted:
        found = f"has its clusters from a layout of {held} dimensions" if held else "has no layout for its clusters"
        raise _other(current, found, f"project.cluster_dimensions is {wanted}")


def settle_start(store: Store, config: JobConfig, current: Record, *, refit: bool, clusters: bool) -> JobConfig:
    """Resolve ``project.init: auto``.

    A refit of a map with edited labels starts from its layouts, as new clusters then match the edited ones better.
    Other runs start as the current map did, so that its layouts are reused. If that map or the configured backend does
    not support it, layouts start from principal components.
    """
    if config.project.init != "auto":
        return config
    if refit:
        labels = find_record(store, "labels", str(current.request.get("labels")))
        starts = bool(config.label.edits or (labels and labels.request.get("edits")))
    else:
        layout = layout_of_map(store, current, "project")
        starts = layout is not None and "earlier" in layout.request
    if not starts:
        return config
    settled = config.model_copy(update={"project": config.project.model_copy(update={"init": "earlier"})})
    try:
        check_layouts(settled)
        check_earlier(store, settled, current, clusters=clusters)
    except ConfigError:
        return config
    return settled


def _other(current: Record, held: str, asked: str) -> ConfigError:
    return ConfigError(
        f"{current.id} {held}, and {asked}: a layout starts from one of as many dimensions",
        where=_SETTING,
        hint="Set project.init=pca, or the dimensions to those of that map.",
    )


def layout_of_map(store: Store, record: Record, slot: str) -> Record | None:
    """Find a layout of a map: the flat one (``project``), the one for its clusters (``layout``), or its ``height``."""
    if slot == "layout":
        clusters = find_record(store, "clusters", str(record.request["clusters"]))
        identity = clusters.request.get("projection") if clusters else None
        # Clusters of the map's own x and y have no separate layout.
        identity = None if identity == record.request["projection"] else identity
    else:
        identity = record.request.get("projection" if slot == "project" else slot)
    return find_record(store, "projection", str(identity)) if identity else None


def with_earlier_start(
    job: MapJob,
    request: ProjectionRequest,
    slot: str,
    aligned: Callable[[ProjectionRequest], tuple[ProjectionRequest, tuple[Record, ...]]],
) -> tuple[ProjectionRequest, tuple[Record, ...]]:
    """Add the map from which a layout starts to its request; returns the request and all maps that it refers to.

    If the current map has exactly this layout, the same request is returned, so that it is reused.

    Parameters
    ----------
    aligned : callable
        Adds the map to which the layout is aligned, if there is one.
    """
    current = job.earlier
    if current is None:
        return aligned(request)
    held = layout_of_map(job.store, current, slot)
    before = held.request.get("earlier") if held else None
    known = find_record(job.store, "map", str(before)) if before else None
    if held is not None and known is not None:
        same, parents = aligned(replace(request, earlier=known.id))
        if artifact_id(held.kind, same.identity()) == held.id:
            return same, _once(*parents, known)
    request, parents = aligned(replace(request, earlier=current.id))
    return request, _once(*parents, current)


def _once(*records: Record) -> tuple[Record, ...]:
    return tuple({record.id: record for record in records}.values())


def earlier_start(
    store: Store, request: ProjectionRequest, indices: NDArray[np.integer[Any]], row_ids: NDArray[np.int64]
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Compute initial coordinates (float32, shape (n, n_components)), and details for the record.

    The flat map and its heights start from the points of the earlier map, including those placed by updates; the layout
    for clusters only has the documents of the fit.

    Raises
    ------
    WorkspaceError
        If no document is on the earlier map.
    """
    record = needed_record(store, "map", str(request.earlier))
    if request.fixed or request.n_components == 2:
        axes = ("x", "y", "z")[: request.n_components]
        points = pa.concat_tables([table for _, table in read_points(store, record, ["row_id", *axes])])
        ids, held = points["row_id"].to_numpy(), _columns(points, axes)
    else:
        layout = layout_of_map(store, record, "layout")
        assert layout is not None, "checked before the work"
        table = read_table(store, layout, "coordinates")
        flat = np.concatenate([chunk.flatten().to_numpy() for chunk in table["coordinates"].chunks])
        ids, held = table["row_id"].to_numpy(), flat.reshape(len(table), request.n_components)
    _, here, there = np.intersect1d(row_ids, ids, return_indices=True)
    if not len(here):
        raise WorkspaceError(
            f"none of the {len(row_ids):,} documents is on {record.id}, from which the layout is to start",
            where=store.url,
            hint="Set project.init=pca.",
        )
    earlier = np.zeros((len(row_ids), request.n_components), np.float32)
    known = np.zeros(len(row_ids), bool)
    earlier[here], known[here] = held[there], True
    start = start_from_earlier(indices[:, : request.n_neighbors - 1], earlier, known, seed=request.seed)
    return start, {"init": f"{record.id}: {len(here):,} documents start where they were"}


def _columns(points: pa.Table, axes: Sequence[str]) -> NDArray[np.float32]:
    return np.column_stack([points[name].to_numpy() for name in axes]).astype(np.float32)
