"""Spherical K-means with hundreds or thousands of clusters: most rounds compare with nearby centroids only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentscale.backends.cpu.centroids import assign, moved
from latentscale.backends.cpu.parallel import blocks, one_blas_thread, run_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Centroids in a closure: those nearest to a row's current one, itself included.
CLOSURE_SIZE = 128
_CLOSURE_ROUNDS = 8
_CLUSTERS_AT_ONCE = 16
_ROWS_AT_ONCE = 4096
# k-means|| draws this many candidates per cluster, in about this many rounds.
_OVERSAMPLING, _DRAW_ROUNDS = 2, 20
# Squared distances below this share of the squared norm are rounding errors.
_ROUNDING = 1e-6


def lloyd_with_closures(
    unit: NDArray[np.float32],
    centroids: NDArray[np.float32],
    *,
    rows: NDArray[np.int64] | None,
    settled: int,
    rounds: int,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Run Lloyd's algorithm (1982), comparing rows mostly with the centroids nearest to their current one.

    A row that changes its cluster nearly always moves to a nearby one (cluster closures, Wang et al. 2012), so a round
    over the ``CLOSURE_SIZE`` nearest centroids finds most moves with a fraction of the products. Up to eight such
    rounds follow each full assignment. The last assignment is a full one: labels are the nearest of all centroids.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file, of which blocks are read.
    centroids : float32 ndarray, shape (k, dim)
    rows : int64 ndarray or None
        Rows to cluster; None: all.
    settled : int
        Stop when a full assignment moves at most one row in ``settled``.
    rounds : int
        Largest number of full assignments.

    Returns
    -------
    labels : int32 ndarray, shape (n,) or (len(rows),)
    similarity : float32 ndarray of that shape
        Cosine to the assigned centroid.
    centroids : float32 ndarray, shape (k, dim)
    """
    labels, similarity = assign(unit, centroids, threads=threads, rows=rows)
    for _ in range(rounds - 1):
        centroids = moved(unit, labels, centroids, threads=threads, rows=rows)
        closures = centroid_closures(centroids, threads=threads)
        for _ in range(_CLOSURE_ROUNDS):
            before = labels
            labels = assign_in_closures(unit, centroids, labels, closures, threads=threads, rows=rows)
            if int((labels != before).sum()) * settled <= len(labels):
                break
            centroids = moved(unit, labels, centroids, threads=threads, rows=rows)
        before = labels
        labels, similarity = assign(unit, centroids, threads=threads, rows=rows)
        if int((labels != before).sum()) * settled <= len(labels):
            break
    return labels, similarity, centroids


def centroid_closures(centroids: NDArray[np.float32], *, threads: int) -> NDArray[np.int32]:
    """Find the nearest centroids of each centroid, itself included: int32, shape (k, <= CLOSURE_SIZE), sorted by id."""
    k = len(centroids)
    width = min(CLOSURE_SIZE, k)
    closures = np.empty((k, width), np.int32)

    def run(start: int, stop: int) -> None:
        scores = centroids[start:stop] @ centroids.T
        scores[np.arange(stop - start), np.arange(start, stop)] = np.inf
        closures[start:stop] = np.sort(np.argpartition(scores, k - width, axis=1)[:, k - width :], axis=1)

    run_blocks(run, blocks(k, 256), threads=threads)
    return closures


def assign_in_closures(
    unit: NDArray[np.float32],
    centroids: NDArray[np.float32],
    labels: NDArray[np.int32],
    closures: NDArray[np.int32],
    *,
    threads: int,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int32]:
    """Assign each row to the nearest centroid in the closure of its current one.

    Parameters
    ----------
    labels : int32 ndarray, shape (n,) or (len(rows),)
        Current labels.
    closures : int32 ndarray, shape (k, m)

    Returns
    -------
    int32 ndarray of the shape of ``labels``
    """
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(len(centroids) + 1))
    nearest = np.empty_like(labels)

    def run(first: int, last: int) -> None:
        for cluster in range(first, last):
            closure = closures[cluster]
            closure_centroids = centroids[closure].T
            members = order[starts[cluster] : starts[cluster + 1]]
            for start, stop in blocks(len(members), _ROWS_AT_ONCE):
                chunk = members[start:stop]
                scores = unit[chunk if rows is None else rows[chunk]] @ closure_centroids
                nearest[chunk] = closure[scores.argmax(axis=1)]

    run_blocks(run, blocks(len(centroids), _CLUSTERS_AT_ONCE), threads=threads)
    return nearest


def kmeans_parallel_init(
    points: NDArray[np.float32], rows: NDArray[np.int64], k: int, random: np.random.Generator, *, threads: int
) -> NDArray[np.float32]:
    """Choose ``k`` of the rows as centroids (k-means||, Bahmani et al. 2012).

    ``2 k`` candidates are drawn, a twentieth at a time, with probabilities proportional to the squared distance to the
    nearest earlier candidate. Weighted by the rows nearest to each, they are reduced to ``k`` by greedy k-means++.

    Parameters
    ----------
    points : float32 ndarray, shape (n, d)
    rows : int64 ndarray, shape (m,)
        At least ``k``.

    Returns
    -------
    float32 ndarray, shape (k, d)
        Fewer rows where fewer than ``k`` of the points are distinct.
    """
    from sklearn.cluster import kmeans_plusplus

    n_candidates = min(_OVERSAMPLING * k, len(rows))
    chosen, n_known = [int(random.integers(len(rows)))], 0
    nearest = np.zeros(len(rows), np.int64)
    squared = np.full(len(rows), np.inf)
    while True:
        position, new_squared = _nearest(points, rows, points[rows[chosen[n_known:]]], threads=threads)
        is_nearer = new_squared < squared
        squared[is_nearer], nearest[is_nearer] = new_squared[is_nearer], n_known + position[is_nearer]
        n_draws = min(
            n_candidates - len(chosen),
            max(1, min(len(chosen), n_candidates // _DRAW_ROUNDS)),
            np.count_nonzero(squared),
        )
        if n_draws == 0:
            break
        n_known = len(chosen)
        chosen.extend(random.choice(len(rows), n_draws, replace=False, p=squared / squared.sum()).tolist())
    if len(chosen) <= k:
        return np.ascontiguousarray(points[rows[chosen]])
    with one_blas_thread():
        centers, _ = kmeans_plusplus(
            points[rows[chosen]],
            k,
            sample_weight=np.bincount(nearest, minlength=len(chosen)).astype(np.float64),
            random_state=int(random.integers(2**31)),
        )
    return np.ascontiguousarray(centers, np.float32)


def _nearest(
    points: NDArray[np.float32], rows: NDArray[np.int64], centers: NDArray[np.float32], *, threads: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest of ``centers`` to each row, and the squared Euclidean distance to it, exactly 0 for duplicates."""
    nearest = np.empty(len(rows), np.int64)
    squared = np.empty(len(rows))
    # Centered, as squared norms far from the origin would cancel the differences between points.
    origin = points[rows[:_ROWS_AT_ONCE]].mean(axis=0)
    centers = centers - origin
    center_norms = np.einsum("ij,ij->i", centers, centers)

    def run(start: int, stop: int) -> None:
        chunk = points[rows[start:stop]] - origin
        scores = center_norms - 2.0 * (chunk @ centers.T)
        norms = np.einsum("ij,ij->i", chunk, chunk)
        nearest[start:stop] = scores.argmin(axis=1)
        distances = scores.min(axis=1) + norms
        squared[start:stop] = np.where(distances < _ROUNDING * norms, 0.0, distances)

    run_blocks(run, blocks(len(rows), _ROWS_AT_ONCE), threads=threads)
    return nearest, squared
