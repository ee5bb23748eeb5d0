"""Clusters from a minimum spanning tree of mutual reachability, by the condensed tree of the package ``hdbscan``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def single_linkage(spanning: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the single-linkage hierarchy of a spanning tree, in scipy's format: float64, shape (n - 1, 4).

    Parameters
    ----------
    spanning : float64 ndarray, shape (n - 1, 3)
        Both ends and the weight of each edge, by ascending weight.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from hdbscan._hdbscan_linkage import label

    return np.asarray(label(np.ascontiguousarray(spanning, np.float64)))


def stable_clusters(
    hierarchy: NDArray[np.float64],
    *,
    min_cluster_size: int,
    cluster_selection_method: Literal["eom", "leaf"],
    cluster_selection_epsilon: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Select HDBSCAN's clusters of a hierarchy: labels, probabilities, persistence of each cluster."""
    with warnings.catch_warnings():
        # hdbscan divides by distances of zero intentionally.
        warnings.simplefilter("ignore")
        from hdbscan._hdbscan_tree import compute_stability, condense_tree, get_clusters

        condensed = condense_tree(hierarchy, min_cluster_size)
        labels, probabilities, persistence = get_clusters(
            condensed,
            compute_stability(condensed),
            cluster_selection_method,
            cluster_selection_epsilon=float(cluster_selection_epsilon),
        )
    return np.asarray(labels, np.int32), np.asarray(probabilities, np.float32), np.asarray(persistence, np.float32)


def clusters_at(hierarchy: NDArray[np.float64], eps: float, *, min_cluster_size: int) -> NDArray[np.int32]:
    """Cut a hierarchy at the distance ``eps``; clusters smaller than ``min_cluster_size`` become noise (-1)."""
    from hdbscan._hdbscan_tree import labelling_at_cut

    labels: Any = labelling_at_cut(hierarchy, eps, min_cluster_size)
    return np.asarray(labels, np.int32)
