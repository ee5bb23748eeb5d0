"""Measure the quality of a map: the figures of ``quality.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends import Faithfulness, NeighborGraph
from latentscale.quality import metrics
from latentscale.quality.labels import label_scores


def measure_map(
    graph: NeighborGraph,
    coordinates: NDArray[np.float32],
    *,
    cluster: NDArray[np.int32],
    nearest_cluster: NDArray[np.int32],
    sizes: NDArray[Any],
    persistence: NDArray[Any],
    n_neighbors: int,
    against: tuple[str, NDArray[np.int32]] | None,
    stability: float | None,
    faithfulness: Faithfulness,
    labels: Sequence[Mapping[str, Any]] = (),
    collapsed: str | None = None,
    truncated: float | None = None,
    max_tokens: int | None = None,
    follows: Mapping[str, float | None] | None = None,
    space: tuple[NDArray[np.float32], Faithfulness] | None = None,
) -> dict[str, Any]:
    """Compute the content of ``quality.json``.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, 2)
    cluster, nearest_cluster : int32 ndarray, shape (n,)
    sizes, persistence : ndarray, shape (n_clusters,)
    n_neighbors : int
        Number of neighbours used by the layout.
    against : (str, int32 ndarray of shape (n,)), optional
        Name of a column of known classes, and the class code of each document; -1 for none.
    stability : float or None
        Agreement (ARI) with the clusters of another seed, if requested.
    faithfulness : Faithfulness
        Figures of the layout.
    labels : sequence of mapping
        Rows of the table of labels.
    collapsed : str or None
        How the default clustering had collapsed, if settings were changed for that reason.
    truncated : float or None
        Share of distinct texts longer than ``max_tokens``.
    follows : mapping, optional
        Share of the information on ``length``, ``language`` and ``file`` explained by the clusters.
    space : (float32 ndarray of shape (n, 3), Faithfulness), optional
        Three-dimensional coordinates, and their figures.

    Returns
    -------
    dict
        See docs/file-format.md. Shares are in [0, 1]; figures that are undefined for few documents are null.
    """
    parts, largest = metrics.components(graph, n_neighbors=n_neighbors)
    facts: dict[str, Any] = {
        "documents": len(coordinates),
        "recall": graph.recall,
        **asdict(faithfulness),
        "outlier_rate": metrics.outlier_rate(coordinates),
        "components": parts,
        "largest_component": largest,
        "duplicates": metrics.duplicate_share(graph),
        "clusters": int((sizes > 0).sum()),
        "noise_share": metrics.noise_share(cluster),
        "largest_cluster_share": metrics.largest_cluster_share(cluster),
        "collapsed": collapsed,
        "persistence": metrics.persistence_summary(persistence),
        "stability": stability,
        "against": None if against is None else _agreement(cluster, nearest_cluster, *against),
        "labels": label_scores(labels),
        "truncated": truncated,
        "follows": None if follows is None else dict(follows),
    }
    if space is not None:
        facts["space"] = {**asdict(space[1]), "outlier_rate": metrics.outlier_rate(space[0])}
    facts["red_flags"] = metrics.red_flags({**facts, "max_tokens": max_tokens})
    return _rounded(facts)


def _agreement(
    cluster: NDArray[np.int32], nearest_cluster: NDArray[np.int32], column: str, classes: NDArray[np.int32]
) -> dict[str, Any] | None:
    """Agreement with a column of classes: with noise as a cluster of its own, and at its nearest cluster."""
    found = metrics.agreement(cluster, classes)
    nearest = metrics.agreement(nearest_cluster, classes)
    if found is None or nearest is None:
        return None
    return {"column": column, **asdict(found), "nearest": {k: asdict(nearest)[k] for k in ("nmi", "ari", "purity")}}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return value
