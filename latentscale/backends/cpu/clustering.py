"""Cluster documents: HDBSCAN on a layout, spherical K-means on vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.cpu.centroids import assign, means, moved
from latentscale.backends.cpu.closure_kmeans import CLOSURE_SIZE, kmeans_parallel_init, lloyd_with_closures
from latentscale.backends.cpu.vectors import finite_layout, unit_rows
from latentscale.backends.grouping import ids_by_size
from latentscale.backends.results import Clustering
from latentscale.errors import ShapeError

__all__ = ["all_noise", "clustering_by_size", "hdbscan", "kmeans", "nearest_centroid"]

DensityFit = Callable[..., tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]]
"""Computes HDBSCAN: labels, probabilities, and the persistence of each cluster."""
# Iterations stop here, or when at most one row in a thousand changes its cluster.
MOST_ITERATIONS = 100
SETTLED = 1000
# Above, a closure is less than half of all centroids.
FEW_CLUSTERS = 2 * CLOSURE_SIZE
_SAMPLE = 20_000
# Many clusters get a single start, on this many documents per cluster and with a looser stopping rule: with thousands
# of clusters, starts differ by less than 0.1 % of the objective.
_SAMPLE_PER_CLUSTER = 32
_SETTLED_SAMPLE = 100
_STARTS = 3
_CURVE_SAMPLE = 5_000


class LloydFit(Protocol):
    """K-means from given centroids (Lloyd 1982)."""

    def __call__(
        self,
        points: NDArray[np.float32],
        centroids: NDArray[np.float32],
        /,
        *,
        rows: NDArray[np.int64] | None = None,
        settled: int = SETTLED,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Return labels, the similarity to the assigned centroid, and centroids; of all points, or of ``rows``.

        It stops when at most one row in ``settled`` changes its cluster.
        """
        ...


def hdbscan(
    points: NDArray[Any],
    *,
    min_cluster_size: int,
    min_samples: int | None,
    cluster_selection_method: Literal["eom", "leaf"],
    cluster_selection_epsilon: float,
    fit: DensityFit | None = None,
) -> Clustering:
    """Cluster points by density (HDBSCAN*, Campello et al. 2015) with the package ``hdbscan``.

    Parameters
    ----------
    points : ndarray, shape (n, 2 to about 10)
        A layout; Euclidean.
    min_samples : int or None
        None: ``min_cluster_size``. Lowered to ``n - 1`` where it is larger, which is noted.
    fit : callable, optional
        Another implementation, called with at least three points that are not all equal.

    Returns
    -------
    Clustering
        With fewer documents than ``min_cluster_size``, all are noise, and a note says so.

    Raises
    ------
    CorpusError
        If a coordinate is NaN or infinite.
    """
    points = finite_layout(points)
    n = len(points)
    used = min_cluster_size if min_samples is None else min_samples
    details: dict[str, Any] = {
        "min_cluster_size": min_cluster_size,
        "min_samples": used,
        "cluster_selection_method": cluster_selection_method,
        "cluster_selection_epsilon": cluster_selection_epsilon,
    }
    if n < min_cluster_size or n < 3:
        note = f"There are fewer documents ({n:,}) than min_cluster_size={min_cluster_size}: all of them are noise."
        if n >= min_cluster_size:
            note = f"Clusters by density need three documents, there are {n}: all of them are noise."
        return all_noise(n, method="hdbscan", notes=[note], details=details)
    notes: list[str] = []
    used = details["min_samples"] = clamp_min_samples(used, n, notes)
    if not np.ptp(points, axis=0).any():
        # HDBSCAN would divide by the distances, which are all zero.
        one = np.zeros(n, np.int32)
        notes.append("All documents are at one point: they are one cluster.")
        return Clustering(
            labels=one,
            probabilities=np.ones(n, np.float32),
            persistence=np.ones(1, np.float32),
            method="hdbscan",
            notes=notes,
            details=details,
        )
    labels, probabilities, persistence = (fit or _hdbscan_by_package)(
        points,
        min_cluster_size=max(2, min_cluster_size),
        min_samples=max(1, used),
        cluster_selection_method=cluster_selection_method,
        cluster_selection_epsilon=float(cluster_selection_epsilon),
    )
    if labels.max(initial=-1) < 0:
        notes.append("HDBSCAN found no cluster: all documents are noise; try a smaller min_cluster_size.")
    probabilities, persistence = np.nan_to_num(probabilities), np.nan_to_num(persistence)
    return clustering_by_size(labels, probabilities, persistence, method="hdbscan", notes=notes, details=details)


def clamp_min_samples(min_samples: int, n: int, notes: list[str]) -> int:
    """Limit ``min_samples`` to ``n - 1``; a lowered value is reported in ``notes``."""
    if min_samples <= n - 1:
        return min_samples
    notes.append(f"min_samples={min_samples} was lowered to {n - 1}, as there are {n:,} documents.")
    return n - 1


def exact_hdbscan(
    points: NDArray[np.float64],
    *,
    min_cluster_size: int,
    min_samples: int,
    cluster_selection_method: Literal["eom", "leaf"],
    cluster_selection_epsilon: float,
    approximate: bool = False,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Fit the package ``hdbscan``: labels, probabilities and persistence.

    With ``approximate`` the package computes an approximate minimum spanning tree, which takes less time.
    """
    with warnings.catch_warnings():
        # The package warns about its own use of scikit-learn and about intended divisions by distances of zero.
        warnings.simplefilter("ignore")
        from hdbscan import HDBSCAN

        fitted: Any = HDBSCAN(
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            cluster_selection_method=cluster_selection_method,
            cluster_selection_epsilon=cluster_selection_epsilon,
            approx_min_span_tree=approximate,
            core_dist_n_jobs=1,
        ).fit(points)
    return (
        np.asarray(fitted.labels_, np.int32),
        np.asarray(fitted.probabilities_, np.float32),
        np.asarray(fitted.cluster_persistence_, np.float32),
    )


_hdbscan_by_package = partial(exact_hdbscan, approximate=True)


def kmeans(
    vectors: NDArray[Any],
    *,
    n_clusters: int | None,
    seed: int,
    threads: int,
    lloyd: LloydFit | None = None,
) -> Clustering:
    """Cluster directions (spherical K-means, Dhillon and Modha 2001), the same bits for any number of threads.

    Three k-means++ starts are tried on at most 20,000 documents; the best continues with all of them. More than 256
    clusters get a single start, on 32 documents per cluster, and mostly compare a document with the centroids near its
    current one (:mod:`latentscale.backends.cpu.closure_kmeans`). Labels are the nearest of all centroids either way.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
    n_clusters : int or None
        None: chosen by the silhouette of a sample over about a dozen candidates, evenly spread on a log scale; the
        curve is in ``details["curve"]``. Lowered to the number of documents where it is larger, which is noted.
    threads : int
    lloyd : callable, optional
        Another implementation of Lloyd's algorithm.

    Returns
    -------
    Clustering
        ``probabilities`` are cosine similarities to the assigned centroid, clipped at 0. ``persistence`` is NaN.

    Raises
    ------
    CorpusError
        If a value is NaN or infinite.
    """
    return fit_kmeans(
        unit_rows(vectors),
        n_clusters=n_clusters,
        seed=seed,
        threads=threads,
        improve=partial(_lloyd, threads=threads) if lloyd is None else lloyd,
        pairwise_distances=_cosine_distances,
        membership_of=lambda _, similarity, __: np.maximum(similarity, 0.0),
    )


def fit_kmeans(
    points: NDArray[np.float32],
    *,
    n_clusters: int | None,
    seed: int,
    threads: int,
    improve: LloydFit,
    pairwise_distances: Callable[[NDArray[np.float32]], NDArray[Any]],
    membership_of: Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]],
) -> Clustering:
    """Fit K-means with any distance; see :func:`kmeans`.

    Parameters
    ----------
    points : float32 ndarray, shape (n, d)
    improve : callable
        Lloyd's algorithm: returns labels, a score of each point that is larger the nearer its centroid is, centroids.
    pairwise_distances : callable
        Distances of all pairs of points, shape (m, m).
    membership_of : callable
        Computes probabilities from points, their scores and the centroids of non-empty clusters.
    """
    n = len(points)
    details: dict[str, Any] = {"starts": _STARTS, "max_iterations": MOST_ITERATIONS, "seed": seed}
    if n == 0:
        return all_noise(0, method="kmeans", notes=[], details=details)
    notes: list[str] = []
    random = np.random.default_rng(seed)
    sample = points if n <= _SAMPLE else points[np.sort(random.choice(n, _SAMPLE, replace=False))]
    if n_clusters is None:
        n_clusters, curve = _best_silhouette(
            sample, random=random, improve=improve, pairwise_distances=pairwise_distances
        )
        details["curve"] = curve
        if curve and n_clusters == curve[-1]["n_clusters"]:
            notes.append(f"The best silhouette was at the most clusters tried ({n_clusters}); more might be better.")
    if n_clusters > n:
        notes.append(f"n_clusters={n_clusters} was lowered to {n}, the number of documents.")
        n_clusters = n
    details["n_clusters"] = n_clusters
    if n_clusters > FEW_CLUSTERS:
        details["starts"] = 1
        labels, scores, centroids = _fit_many(points, n_clusters, random=random, improve=improve, threads=threads)
    else:
        fits = [improve(sample, _kmeans_plusplus(sample, n_clusters, random)) for _ in range(_STARTS)]
        labels, scores, centroids = max(fits, key=lambda fit: float(fit[1].sum(dtype=np.float64)))
        if sample is not points:
            labels, scores, centroids = improve(points, centroids)
    occupied, labels = np.unique(labels, return_inverse=True)
    if len(occupied) < n_clusters:
        notes.append(f"{len(occupied)} clusters instead of {n_clusters}: there are too few different documents.")
    return clustering_by_size(
        labels.astype(np.int32),
        membership_of(points, scores, centroids[occupied]),
        np.full(len(occupied), np.nan, np.float32),
        method="kmeans",
        notes=notes,
        details=details,
    )


def _fit_many(
    points: NDArray[np.float32], k: int, *, random: np.random.Generator, improve: LloydFit, threads: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Fit a single start on a sample in proportion to ``k``, then continue with all points."""
    n, sample_size = len(points), max(_SAMPLE, _SAMPLE_PER_CLUSTER * k)
    if n <= 2 * sample_size:
        return improve(points, kmeans_parallel_init(points, np.arange(n), k, random, threads=threads))
    rows = np.sort(random.choice(n, sample_size, replace=False))
    start = kmeans_parallel_init(points, rows, k, random, threads=threads)
    return improve(points, improve(points, start, rows=rows, settled=_SETTLED_SAMPLE)[2])


def _cosine_distances(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(1.0 - unit @ unit.T, 0.0, 2.0)


def nearest_centroid(vectors: NDArray[Any], labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Assign noise to the nearest centroid in the embedding space, by cosine; other documents keep their cluster.

    Returns
    -------
    nearest : int32 ndarray, shape (n,)
        Equal to ``labels`` where that is not -1; -1 everywhere if there is no cluster.
    centroids : float32 ndarray, shape (k, dim)
        Mean directions of the members, of length 1; a cluster of zero vectors has a zero centroid.

    Raises
    ------
    ShapeError
        If the two are of different numbers of documents.
    """
    if len(vectors) != len(labels):
        raise ShapeError(f"the embedding has {len(vectors):,} documents, the clustering {len(labels):,}")
    unit = unit_rows(vectors)
    k = int(labels.max(initial=-1)) + 1
    nearest = labels.astype(np.int32).copy()
    if k == 0:
        return nearest, np.zeros((0, unit.shape[1]), np.float32)
    centroids = means(unit, nearest, k, threads=1)
    noise = np.flatnonzero(nearest < 0)
    if len(noise):
        nearest[noise] = assign(unit, centroids, threads=1, rows=noise)[0]
    return nearest, centroids


def _best_silhouette(
    sample: NDArray[np.float32],
    *,
    random: np.random.Generator,
    improve: LloydFit,
    pairwise_distances: Callable[[NDArray[np.float32]], NDArray[Any]],
) -> tuple[int, list[dict[str, Any]]]:
    """Choose the number of clusters, from 2 to n / 20 (at most 400), by the mean silhouette of 2,000 documents."""
    from sklearn.metrics import silhouette_score

    n = len(sample)
    max_clusters = min(400, n // 20)
    if max_clusters < 2:
        return 1, []
    sample = sample if n <= _CURVE_SAMPLE else sample[np.sort(random.choice(n, _CURVE_SAMPLE, replace=False))]
    n = len(sample)
    candidates = np.unique(np.geomspace(2, max_clusters, 14).round().astype(int))
    chosen = np.sort(random.choice(n, min(n, 2000), replace=False))
    distances = pairwise_distances(sample[chosen])
    np.fill_diagonal(distances, 0.0)
    curve: list[dict[str, Any]] = []
    for count in candidates:
        start = _kmeans_plusplus(sample, int(count), random)
        labels = improve(sample, start)[0][chosen]
        n_labels = len(np.unique(labels))
        score = float(silhouette_score(distances, labels, metric="precomputed")) if 1 < n_labels < len(chosen) else -1.0
        curve.append({"n_clusters": int(count), "silhouette": round(score, 4)})
    return max(curve, key=lambda point: point["silhouette"])["n_clusters"], curve


def _kmeans_plusplus(sample: NDArray[np.float32], k: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Choose ``k`` starting centroids by k-means++ (Arthur and Vassilvitskii 2007)."""
    from sklearn.cluster import kmeans_plusplus

    from latentscale.backends.cpu.parallel import one_blas_thread

    with one_blas_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct rows than k: the caller reports empty clusters
        few = sample if len(sample) <= 10_000 else sample[np.sort(random.choice(len(sample), 10_000, replace=False))]
        centers, _ = kmeans_plusplus(few, min(k, len(few)), random_state=int(random.integers(2**31)))
    return np.ascontiguousarray(centers, np.float32)


def _lloyd(
    unit: NDArray[np.float32],
    centroids: NDArray[np.float32],
    *,
    rows: NDArray[np.int64] | None = None,
    settled: int = SETTLED,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    if len(centroids) > FEW_CLUSTERS:
        return lloyd_with_closures(unit, centroids, rows=rows, settled=settled, rounds=MOST_ITERATIONS, threads=threads)
    count = len(unit) if rows is None else len(rows)
    labels = np.full(count, -1, np.int32)
    similarity = np.zeros(count, np.float32)
    for _ in range(MOST_ITERATIONS):
        before = labels
        labels, similarity = assign(unit, centroids, threads=threads, rows=rows)
        if int((labels != before).sum()) * settled <= count:
            break
        centroids = moved(unit, labels, centroids, threads=threads, rows=rows)
    return labels, similarity, centroids


def clustering_by_size(
    labels: NDArray[np.int32],
    probabilities: NDArray[np.float32],
    persistence: NDArray[np.float32],
    *,
    method: str,
    notes: list[str],
    details: dict[str, Any],
) -> Clustering:
    """Build a clustering with ids by descending size, ties by the first member; probabilities are clipped to [0, 1]."""
    new_labels = ids_by_size(labels)
    ordered = np.empty_like(persistence)
    kept = labels >= 0
    old, first = np.unique(labels[kept], return_index=True)
    ordered[new_labels[kept][first]] = persistence[old]
    return Clustering(
        labels=new_labels,
        probabilities=np.clip(probabilities, 0.0, 1.0).astype(np.float32),
        persistence=ordered,
        method=method,
        notes=notes,
        details=details,
    )


def all_noise(n: int, *, method: str, notes: list[str], details: dict[str, Any]) -> Clustering:
    """Build a clustering in which all ``n`` documents are noise."""
    return Clustering(
        labels=np.full(n, -1, np.int32),
        probabilities=np.zeros(n, np.float32),
        persistence=np.empty(0, np.float32),
        method=method,
        notes=notes,
        details=details,
    )
