"""Measure a map: how far its layout and its clusters can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale import quality
from latentscale.backends import NeighborGraph
from latentscale.stages.cluster import Clusters, find_clusters
from latentscale.stages.project import compute_layout
from latentscale.stages.vectors import Vectors, column_values
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import Snapshot

NEIGHBORS = 15
SEED = 0


def measure_map(
    store: Store,
    snapshot: Snapshot,
    vectors: Vectors,
    graph: NeighborGraph,
    coordinates: NDArray[np.float32],
    clusters: Clusters,
    *,
    made_by: Record,
    n_neighbors: int,
    settings: Mapping[str, Any],
    threads: int,
) -> dict[str, Any]:
    """Measure what ``quality.json`` holds.

    Parameters
    ----------
    made_by : Record
        Of the clusters.
    n_neighbors : int
        How many neighbours the layout looked at.
    settings : mapping
        As ``QualityConfig``.

    Returns
    -------
    dict
        See docs/file-format.md. Shares are in [0, 1]; what is not defined for so few documents is null.
    """
    kept = quality.faithfulness(
        vectors.matrix, coordinates, k=NEIGHBORS, sample=settings["sample"], seed=SEED, threads=threads
    )
    parts, largest = quality.components(graph, n_neighbors=n_neighbors)
    facts: dict[str, Any] = {
        "documents": len(vectors),
        "recall": graph.recall,
        **asdict(kept),
        "outlier_rate": quality.outlier_rate(coordinates),
        "components": parts,
        "largest_component": largest,
        "duplicates": quality.duplicate_share(graph),
        "clusters": int((clusters.tree["size"].to_numpy() > 0).sum()),
        "noise_share": quality.noise_share(clusters.cluster),
        "persistence": quality.persistence_summary(clusters.tree["persistence"].to_numpy()),
        "stability": _stability(store, vectors, clusters, made_by, threads) if settings["stability"] else None,
        "against": None,
    }
    if settings["against"] is not None:
        facts["against"] = _against(store, snapshot, clusters, settings["against"])
    facts["red_flags"] = quality.red_flags(facts)
    return _rounded(facts)


def _against(store: Store, snapshot: Snapshot, clusters: Clusters, column: str) -> dict[str, Any] | None:
    """Agreement with a column of classes: with noise as a cluster of its own, and at its nearest cluster."""
    classes = column_values(store, snapshot, clusters.row_ids, column)
    found = quality.agreement(clusters.cluster, classes)
    nearest = quality.agreement(clusters.nearest_cluster, classes)
    if found is None or nearest is None:
        return None
    return {"column": column, **asdict(found), "nearest": {k: asdict(nearest)[k] for k in ("nmi", "ari", "purity")}}


def _stability(store: Store, vectors: Vectors, clusters: Clusters, made_by: Record, threads: int) -> float | None:
    """Lay out and cluster once more with the next seed; None for clusters that no layout was needed for."""
    identity = made_by.request.get("projection")
    projection = find_record(store, "projection", str(identity)) if identity else None
    if projection is None:
        return None
    neighbors = find_record(store, "neighbors", str(projection.request["neighbors"]))
    assert neighbors is not None, "a layout's graph is never removed while the layout is there"
    request = projection.request | {"seed": projection.request["seed"] + 1}
    points = compute_layout(store, request, neighbors, vectors, threads=threads)
    return quality.stability(clusters.cluster, find_clusters(points, made_by.request, threads=threads).labels)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return value
