"""K-means on a layout, with Euclidean distances; on vectors it is spherical (`clustering.kmeans`)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from latentscale.backends.centers import centers_of, nearest_center
from latentscale.backends.cpu.clustering import MOST_ITERATIONS, SETTLED, fit_kmeans
from latentscale.backends.cpu.vectors import finite_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentscale.backends.results import Clustering


def kmeans_of_layout(points: NDArray[Any], *, n_clusters: int | None, seed: int, threads: int) -> Clustering:
    """Cluster points (K-means, Lloyd 1982), the same bits for any number of threads.

    Initialization, samples and the choice of a number are those of K-means on vectors, with Euclidean distances.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        A layout, or the map's x and y.
    n_clusters : int or None
        None: chosen by a silhouette curve. Lowered to the number of documents where it is larger, which is noted.

    Returns
    -------
    Clustering
        No noise; ``probabilities`` are simplified silhouettes (how much nearer the assigned centre is than the next
        one). ``persistence`` is NaN.

    Raises
    ------
    CorpusError
        If a coordinate is NaN or infinite.
    """
    return fit_kmeans(
        finite_layout(points).astype(np.float32),
        n_clusters=n_clusters,
        seed=seed,
        threads=threads,
        improve=partial(_lloyd, threads=threads),
        pairwise_distances=lambda chosen: cdist(chosen, chosen),
        membership_of=lambda points, _, centers: _simplified_silhouette(points, centers, threads=threads),
    )


def _simplified_silhouette(
    points: NDArray[np.float32], centers: NDArray[np.float32], *, threads: int
) -> NDArray[np.float32]:
    return nearest_center(points, centers.astype(np.float64), threads=threads)[1]


def _lloyd(
    points: NDArray[np.float32],
    centers: NDArray[np.float32],
    *,
    rows: NDArray[np.int64] | None = None,
    settled: int = SETTLED,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Run Lloyd's algorithm: labels, the negative squared distance to the assigned centre, centres."""
    points = points if rows is None else points[rows]
    labels = np.full(len(points), -1, np.int32)
    distances = np.zeros(len(points))
    for _ in range(MOST_ITERATIONS):
        previous = labels
        found = KDTree(centers.astype(np.float64)).query(points, workers=max(1, threads))
        distances, labels = np.asarray(found[0]), np.asarray(found[1]).astype(np.int32)
        if int((labels != previous).sum()) * settled <= len(points):
            break
        means = centers_of(points, labels, len(centers)).astype(np.float32)
        empty = ~np.isfinite(means).all(axis=1)
        means[empty] = centers[empty]
        centers = means
    return labels, (-(distances**2)).astype(np.float32), centers
