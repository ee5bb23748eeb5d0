"""DBSCAN* (without border points): clusters at a single density threshold."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.clustering import all_noise, clamp_min_samples, clustering_by_size
from latentscale.backends.cpu.density_tree import clusters_at
from latentscale.backends.cpu.vectors import finite_layout
from latentscale.backends.results import Clustering

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Default eps: the quantile of merge distances at which nine in ten documents have joined another.
_EPS_QUANTILE = 0.9


def dbscan(
    points: NDArray[Any],
    *,
    eps: float | None,
    min_samples: int,
    min_cluster_size: int,
    hierarchy: Callable[[NDArray[np.float64], int], NDArray[np.float64]] | None = None,
    fit: Callable[..., NDArray[np.int32]] | None = None,
) -> Clustering:
    """Cluster points by DBSCAN* (Campello et al. 2013: DBSCAN of Ester et al. 1996 without border points).

    Cuts HDBSCAN's single-linkage tree (by default that of the package ``hdbscan``) at ``eps``: memory is linear in n
    for any ``eps``.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        A layout, or unit vectors; Euclidean.
    eps : float or None
        Documents with ``min_samples`` others within ``eps`` are core points; core points within ``eps`` of each other
        share a cluster. None: the distance at which nine in ten documents have joined another, reported in a note.
    min_samples : int
        Lowered to ``n - 1`` where it is larger, which is noted.
    min_cluster_size : int
        Smaller clusters are noise.
    hierarchy : callable, optional
        Another implementation of the single-linkage tree of mutual reachability, from points and ``min_samples``.
    fit : callable, optional
        Another implementation that returns labels, from points, ``eps`` and ``min_samples``; used where ``eps`` is
        given.

    Returns
    -------
    Clustering
        ``probabilities`` are 1 in a cluster. ``persistence`` is NaN.

    Raises
    ------
    CorpusError
        If a coordinate is NaN or infinite.
    """
    points = finite_layout(points)
    n = len(points)
    details: dict[str, Any] = {"eps": eps, "min_samples": min_samples, "min_cluster_size": min_cluster_size}
    if n < min_cluster_size or n < 3:
        needed = max(min_cluster_size, 3)
        note = f"There are {n:,} documents, and a cluster by density needs {needed:,}: all of them are noise."
        return all_noise(n, method="dbscan", notes=[note], details=details)
    notes: list[str] = []
    min_samples = details["min_samples"] = clamp_min_samples(min_samples, n, notes)
    if np.ptp(points, axis=0).any():
        if fit is not None and eps is not None:
            labels = _without_small_clusters(
                fit(points, eps=eps, min_samples=max(1, min_samples)), max(2, min_cluster_size)
            )
        else:
            tree = (hierarchy or _hierarchy)(points, max(1, min_samples))
            if eps is None:
                eps = float(np.quantile(tree[:, 2], _EPS_QUANTILE))
                details["eps"] = round(eps, 6)
                notes.append(f"eps is {eps:.3g}, at which nine in ten documents have joined another: set cluster.eps.")
            labels = clusters_at(tree, eps, min_cluster_size=max(2, min_cluster_size))
    else:
        # The tree would divide by the distances, which are all zero.
        notes.append("All documents are at one point: they are one cluster.")
        labels = np.zeros(n, np.int32)
    if labels.max(initial=-1) < 0:
        notes.append(f"DBSCAN found no cluster: all documents are noise; try a larger eps than {eps:.3g}.")
    return clustering_by_size(
        labels,
        (labels >= 0).astype(np.float32),
        np.full(int(labels.max(initial=-1)) + 1, np.nan, np.float32),
        method="dbscan",
        notes=notes,
        details=details,
    )


def _hierarchy(points: NDArray[np.float64], min_samples: int) -> NDArray[np.float64]:
    with warnings.catch_warnings():
        # The package warns about its use of scikit-learn and about intentional divisions by zero distances.
        warnings.simplefilter("ignore")
        from hdbscan import HDBSCAN

        fitted: Any = HDBSCAN(min_cluster_size=2, min_samples=min_samples, core_dist_n_jobs=1).fit(points)
        return np.asarray(fitted.single_linkage_tree_.to_numpy())


def _without_small_clusters(labels: NDArray[np.int32], least: int) -> NDArray[np.int32]:
    """Turn clusters of fewer than ``least`` members into noise, and renumber the others without gaps."""
    is_clustered = labels >= 0
    sizes = np.bincount(labels[is_clustered], minlength=int(labels.max(initial=-1)) + 1)
    ids = np.where(sizes >= least, np.cumsum(sizes >= least) - 1, -1).astype(np.int32)
    relabeled = np.full_like(labels, -1)
    relabeled[is_clustered] = ids[labels[is_clustered]]
    return relabeled
