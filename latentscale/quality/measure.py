"""Measure a map: how far its layout and its clusters can be trusted."""

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
    """Measure what ``quality.json`` holds.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, 2)
    cluster, nearest_cluster : int32 ndarray, shape (n,)
    sizes, persistence : ndarray, shape (n_clusters,)
    n_neighbors : int
        How many neighbours the layout looked at.
    against : (str, int32 ndarray of shape (n,)), optional
        A column of known classes, and the number of each document's class; -1 for none.
    stability : float or None
        Agreement (ARI) with the clusters of another seed, where that was asked for.
    faithfulness : Faithfulness
        Of the layout.
    labels : sequence of mapping
        Rows of the table of labels.
    collapsed : str or None
        In what way the default clustering had collapsed, where others were tried for that.
    truncated : float or None
        Share of the different texts that were longer than ``max_tokens``.
    follows : mapping, optional
        Share of the information on ``length``, ``language`` and ``file`` that the clusters hold.
    space : (float32 ndarray of shape (n, 3), Faithfulness), optional
        Of a map of three dimensions: where its documents lie in space, and how faithful that is.

    Returns
    -------
    dict
        See docs/file-format.md. Shares are in [0, 1]; what is not defined for so few documents is null.
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
