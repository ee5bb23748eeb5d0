"""Agglomerative clustering by Ward's method, over centroids of K-means where there are many documents."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.clustering import all_noise, clustering_by_size
from latentscale.backends.cpu.layers import ward_merges
from latentscale.backends.cpu.parallel import blocks, one_blas_thread
from latentscale.backends.cpu.vectors import check_finite
from latentscale.backends.grouping import joined_at_most
from latentscale.backends.identical import first_occurrence
from latentscale.backends.results import Clustering

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAMPLE = 20_000
_ITERATIONS = 20
_ROWS_AT_ONCE = 8_192


def agglomerative(points: NDArray[Any], *, n_clusters: int, seed: int) -> Clustering:
    """Cluster points by Ward's method (Ward 1963), cut at ``n_clusters``.

    Up to 2,000 distinct points, or four per requested cluster, are merged directly. Larger inputs are first reduced to
    that many K-means centroids, each weighted by the points assigned to it.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        A layout, or unit vectors; Euclidean.
    n_clusters : int
        Lowered to the number of distinct points where it is larger, which is reported in a note.

    Returns
    -------
    Clustering
        No noise; ``probabilities`` are 1, ``persistence`` is NaN.

    Raises
    ------
    CorpusError
        If a coordinate is NaN or infinite.
    """
    points = np.ascontiguousarray(points)
    check_finite(points)
    n = len(points)
    details: dict[str, Any] = {"n_clusters": n_clusters, "seed": seed}
    if n == 0:
        return all_noise(0, method="agglomerative", notes=[], details=details)
    notes: list[str] = []
    different, member = np.unique(first_occurrence(points), return_inverse=True)
    centers = points[different].astype(np.float64)
    most = joined_at_most(n_clusters)
    if len(different) > most:
        centers, member = _centroids(points, most, seed=seed)
        details["centroids"] = len(centers)
    if n_clusters > len(centers):
        notes.append(f"{len(centers):,} clusters instead of {n_clusters:,}: there are no more different documents.")
        n_clusters = details["n_clusters"] = len(centers)
    merges = ward_merges(centers, np.bincount(member, minlength=len(centers)).astype(np.float64))
    labels = np.asarray(merges.cut(n_clusters), np.int32)[member]
    return clustering_by_size(
        labels,
        np.ones(n, np.float32),
        np.full(int(labels.max()) + 1, np.nan, np.float32),
        method="agglomerative",
        notes=notes,
        details=details,
    )


def _centroids(points: NDArray[Any], count: int, *, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Fit K-means: non-empty centroids, and the nearest one of each point."""
    from sklearn.cluster import KMeans

    n = len(points)
    chosen = np.sort(np.random.default_rng(seed).choice(n, min(n, max(_SAMPLE, 4 * count)), replace=False))
    # On one thread, so that the clusters do not depend on the number of cores.
    with one_blas_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        starts: Any = 1
        kmeans = KMeans(count, init="random", n_init=starts, max_iter=_ITERATIONS, random_state=seed)
        fitted: Any = kmeans.fit(points[chosen].astype(np.float32))
        nearest = np.concatenate(
            [fitted.predict(points[start:stop].astype(np.float32)) for start, stop in blocks(n, _ROWS_AT_ONCE)]
        )
    used, member = np.unique(nearest, return_inverse=True)
    return np.asarray(fitted.cluster_centers_, np.float64)[used], member.astype(np.int64)
