"""Spherical K-means with hundreds or thousands of centroids: most rounds look at those near the own one alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentscale.backends.cpu.centroids import assign, moved
from latentscale.backends.cpu.parallel import blocks, one_blas_thread, run_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Centroids that a row is compared with between two comparisons with all.
NEAR = 128
_NEAR_ROUNDS = 8
_CLUSTERS_AT_ONCE = 16
_ROWS_AT_ONCE = 4096
# Starts are chosen from so many times as many rows, drawn in about so many rounds.
_DRAWN, _DRAWS = 2, 20
# Squared distances below this share of a squared length are rounding.
_ALIKE = 1e-6


def lloyd_of_many(
    unit: NDArray[np.float32],
    centroids: NDArray[np.float32],
    *,
    rows: NDArray[np.int64] | None,
    settled: int,
    rounds: int,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Assign and move in turn (Lloyd 1982), mostly among the ``NEAR`` centroids nearest to a row's own one.

    A centroid that a row goes to is nearly always near the one that it leaves (cluster closures, Wang et al. 2012), so
    that a round among those finds most moves for a fraction of the products. Up to eight such rounds follow each
    comparison with all centroids, and the last one is with all: labels are the nearest centroids.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file, of which blocks are read.
    centroids : float32 ndarray, shape (k, dim)
    rows : int64 ndarray or None
        The rows that count; None: all.
    settled : int
        It ends when a comparison with all centroids moves at most one row in so many.
    rounds : int
        It ends after so many comparisons with all centroids, at the latest.

    Returns
    -------
    labels : int32 ndarray, shape (n,) or (len(rows),)
    similarity : float32 ndarray of that shape
        Cosine to the own centroid.
    centroids : float32 ndarray, shape (k, dim)
        Of which ``labels`` are the nearest.
    """
    labels, similarity = assign(unit, centroids, threads=threads, rows=rows)
    for _ in range(rounds - 1):
        centroids = moved(unit, labels, centroids, threads=threads, rows=rows)
        near = nearest_others(centroids, threads=threads)
        for _ in range(_NEAR_ROUNDS):
            before = labels
            labels = assign_near(unit, centroids, labels, near, threads=threads, rows=rows)
            if int((labels != before).sum()) * settled <= len(labels):
                break
            centroids = moved(unit, labels, centroids, threads=threads, rows=rows)
        before = labels
        labels, similarity = assign(unit, centroids, threads=threads, rows=rows)
        if int((labels != before).sum()) * settled <= len(labels):
            break
    return labels, similarity, centroids


def nearest_others(centroids: NDArray[np.float32], *, threads: int) -> NDArray[np.int32]:
    """The ``NEAR`` centroids nearest to each, itself among them, by rising number: int32, shape (k, at most NEAR)."""
    k = len(centroids)
    width = min(NEAR, k)
    near = np.empty((k, width), np.int32)

    def work(start: int, stop: int) -> None:
        scores = centroids[start:stop] @ centroids.T
        scores[np.arange(stop - start), np.arange(start, stop)] = np.inf
        near[start:stop] = np.sort(np.argpartition(scores, k - width, axis=1)[:, k - width :], axis=1)

    run_blocks(work, blocks(k, 256), threads=threads)
    return near


def assign_near(
    unit: NDArray[np.float32],
    centroids: NDArray[np.float32],
    labels: NDArray[np.int32],
    near: NDArray[np.int32],
    *,
    threads: int,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.int32]:
    """The nearest of the centroids that ``near`` lists for each row's own one; as ``assign``, where it is among them.

    Parameters
    ----------
    labels : int32 ndarray, shape (n,) or (len(rows),)
        The own ones.
    near : int32 ndarray, shape (k, m)

    Returns
    -------
    int32 ndarray of the shape of ``labels``
    """
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], np.arange(len(centroids) + 1))
    found = np.empty_like(labels)

    def work(first: int, last: int) -> None:
        for cluster in range(first, last):
            others = near[cluster]
            choice = centroids[others].T
            members = order[ends[cluster] : ends[cluster + 1]]
            for start, stop in blocks(len(members), _ROWS_AT_ONCE):
                some = members[start:stop]
                scores = unit[some if rows is None else rows[some]] @ choice
                found[some] = others[scores.argmax(axis=1)]

    run_blocks(work, blocks(len(centroids), _CLUSTERS_AT_ONCE), threads=threads)
    return found


def spread_start(
    points: NDArray[np.float32], rows: NDArray[np.int64], k: int, random: np.random.Generator, *, threads: int
) -> NDArray[np.float32]:
    """Choose ``k`` of the rows as centroids (k-means||, Bahmani et al. 2012).

    Twice as many are drawn, a twentieth at a time, with probabilities by the squared distance to those drawn before.
    Of these, weighted by the rows that are nearest to each, ``k`` are chosen by greedy k-means++.

    Parameters
    ----------
    points : float32 ndarray, shape (n, d)
    rows : int64 ndarray, shape (m,)
        At least ``k``.

    Returns
    -------
    float32 ndarray, shape (k, d)
        Fewer where fewer than ``k`` rows are different.
    """
    from sklearn.cluster import kmeans_plusplus

    most = min(_DRAWN * k, len(rows))
    chosen, newest = [int(random.integers(len(rows)))], 0
    nearest = np.zeros(len(rows), np.int64)
    apart = np.full(len(rows), np.inf)
    while True:
        found, distances = _nearest(points, rows, points[rows[chosen[newest:]]], threads=threads)
        nearer = distances < apart
        apart[nearer], nearest[nearer] = distances[nearer], newest + found[nearer]
        wanted = min(most - len(chosen), max(1, min(len(chosen), most // _DRAWS)), np.count_nonzero(apart))
        if wanted == 0:
            break
        newest = len(chosen)
        chosen.extend(random.choice(len(rows), wanted, replace=False, p=apart / apart.sum()).tolist())
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
    """The nearest of ``centers`` to each row, and the squared Euclidean distance to it, 0 where they are alike."""
    found = np.empty(len(rows), np.int64)
    apart = np.empty(len(rows))
    # Of a layout far from the origin, squares would round away what lies between its points.
    origin = points[rows[:_ROWS_AT_ONCE]].mean(axis=0)
    centers = centers - origin
    squares = np.einsum("ij,ij->i", centers, centers)

    def work(start: int, stop: int) -> None:
        some = points[rows[start:stop]] - origin
        scores = squares - 2.0 * (some @ centers.T)
        own = np.einsum("ij,ij->i", some, some)
        found[start:stop] = scores.argmin(axis=1)
        between = scores.min(axis=1) + own
        apart[start:stop] = np.where(between < _ALIKE * own, 0.0, between)

    run_blocks(work, blocks(len(rows), _ROWS_AT_ONCE), threads=threads)
    return found, apart
