"""Comparison of two maps or clusterings for `diff`: matched clusters, aligned positions, unmatched documents."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from latentscale.explore.diff_figures import Agreement, ClustersDiff, LayoutDiff, MovedDocument, Spread
from latentscale.explore.documents import read_texts
from latentscale.explore.map_comparison import Comparison, Layout, cluster_changes, compare_layouts
from latentscale.stages.cluster import read_clusters
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import read_parts, scan_points
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace

# Documents whose neighbours are compared: far fewer would determine the mean fraction to about 0.01.
SAMPLE = 20_000
MOVED = 20
_TEXT = 200


def read_layout(points: pl.DataFrame) -> Layout:
    """The positions and clusters of the documents, from the columns ``row_id``, ``x``, ``y`` and ``cluster``."""
    points = points.sort("row_id")
    return Layout(
        row_ids=points["row_id"].to_numpy(),
        coordinates=points.select("x", "y").to_numpy().astype(np.float32),
        clusters=points["cluster"].to_numpy().astype(np.int32),
    )


def cluster_names(store: Store, record: Record) -> dict[int, str]:
    """The labels of layer 0 of a map, by cluster; duplicate labels get the cluster id appended."""
    table = read_parts(store, [f"{record.folder}/labels.parquet"])
    rows = [(cluster, label) for layer, cluster, label in table.select("layer", "cluster", "label").rows() if not layer]
    counts = Counter(label for _, label in rows)
    return {cluster: label if counts[label] == 1 else f"{label} ({cluster})" for cluster, label in rows}


def most_moved(found: Comparison, count: int) -> NDArray[np.int64]:
    """Indices of the ``count`` documents that moved most, by decreasing distance."""
    return np.lexsort((found.row_ids, -found.moved.astype(np.float64)))[:count]


def diff_maps(store: Store, first: Record, second: Record) -> tuple[ClustersDiff, LayoutDiff | None]:
    """Compare the clusters and the positions of two maps, documents added by updates included.

    The positions and clusters of both are in memory. The layouts are compared by ``compare_layouts``, in two
    dimensions, with the neighbours of at most 20,000 documents.

    Returns
    -------
    tuple of ClustersDiff and LayoutDiff
        The latter is None if no document is on both maps.
    """
    columns = ["row_id", "x", "y", "cluster", "nearest_cluster"]
    one, two = (scan_points(store, record).select(columns).collect() for record in (first, second))
    clusters = diff_of_members(one, two)
    names = [cluster_names(store, record) for record in (first, second)]
    clusters["names"] = (
        {str(one): label for one, label in names[0].items()},
        {str(one): label for one, label in names[1].items()},
    )
    if not clusters["documents"]:
        return clusters, None
    found = compare_layouts(read_layout(one), read_layout(two), sample=SAMPLE)
    order = most_moved(found, MOVED)
    snapshot = read_snapshot(store, str(first.request["snapshot"]))
    texts = read_texts(store, snapshot, found.row_ids[order], read_workspace(store).text_column).to_pylist()
    moved: list[MovedDocument] = [
        {
            "row_id": int(found.row_ids[place]),
            "displacement": round(float(found.moved[place]), 4),
            "before": int(found.clusters[0][place]),
            "after": int(found.clusters[1][place]),
            "text": (text or "")[:_TEXT],
        }
        for place, text in zip(order, texts, strict=True)
    ]
    layout: LayoutDiff = {
        "documents": len(found.row_ids),
        "only_first": found.only[0],
        "only_second": found.only[1],
        "displacement": _spread(found.moved),
        "neighbours": {"k": found.k, "sample": len(found.kept), **_spread(found.kept)},
        "moved": moved,
    }
    return clusters, layout


def diff_clusters(store: Store, first: Record, second: Record) -> ClustersDiff:
    """Compare two artifacts of the stage ``cluster``."""
    frames: list[pl.DataFrame] = []
    for record in (first, second):
        found = read_clusters(store, record)
        frames.append(
            pl.DataFrame({"row_id": found.row_ids, "cluster": found.cluster, "nearest_cluster": found.nearest_cluster})
        )
    return diff_of_members(*frames)


def diff_of_members(first: pl.DataFrame, second: pl.DataFrame) -> ClustersDiff:
    """Compare two clusterings by ``row_id``, ``cluster`` and ``nearest_cluster`` of their documents.

    Agreement is the adjusted Rand index (Hubert and Arabie 1985) and the normalised mutual information (arithmetic
    mean), once with noise as a cluster of its own, once with noise at its nearest cluster.
    """
    ids = [frame["row_id"].to_numpy() for frame in (first, second)]
    shared, *places = np.intersect1d(*ids, assume_unique=True, return_indices=True)
    x, y = (frame["cluster"].to_numpy()[at] for frame, at in zip((first, second), places, strict=True))
    nearest = [frame["nearest_cluster"].to_numpy()[at] for frame, at in zip((first, second), places, strict=True)]
    changes = cluster_changes(x.astype(np.int32), y.astype(np.int32))
    kept = {one for change in changes for one in change.before}
    reached = {one for change in changes for one in change.after}
    noise = (x < 0, y < 0)
    return {
        "documents": len(shared),
        "only_first": len(ids[0]) - len(shared),
        "only_second": len(ids[1]) - len(shared),
        "agreement": _agreement(x, y),
        "agreement_nearest": _agreement(*nearest),
        "noise": {
            "both": int((noise[0] & noise[1]).sum()),
            "only_first": int((noise[0] & ~noise[1]).sum()),
            "only_second": int((noise[1] & ~noise[0]).sum()),
        },
        "changes": [change.as_json() for change in changes],
        "gone": [one for one in _clusters_of(first) if one not in kept],
        "new": [one for one in _clusters_of(second) if one not in reached],
        "names": None,
    }


def _clusters_of(frame: pl.DataFrame) -> list[int]:
    return [int(one) for one in np.unique(frame["cluster"].to_numpy()) if one >= 0]


def _agreement(first: NDArray[np.int32], second: NDArray[np.int32]) -> Agreement:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    if not len(first):
        return {"ari": None, "nmi": None}
    return {
        "ari": _rounded(adjusted_rand_score(first, second)),
        "nmi": _rounded(normalized_mutual_info_score(first, second)),
    }


def _spread(values: NDArray[np.float32]) -> Spread:
    q05, q25, q50, q75, q95 = (_rounded(one) for one in np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)))
    return {"mean": _rounded(values.mean(dtype=np.float64)), "q05": q05, "q25": q25, "q50": q50, "q75": q75, "q95": q95}


def _rounded(value: Any) -> float:
    return round(float(value), 4)
