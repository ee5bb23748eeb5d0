"""Group documents: HDBSCAN on a layout, spherical K-means on vectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.cpu.centroids import assign, means, moved
from latentscale.backends.cpu.many_clusters import NEAR, lloyd_of_many, spread_start
from latentscale.backends.cpu.vectors import finite_layout, unit_rows
from latentscale.backends.grouping import ids_by_size
from latentscale.backends.results import Clustering
from latentscale.errors import ShapeError

__all__ = ["all_noise", "clustering_by_size", "hdbscan", "kmeans", "nearest_centroid"]

DensityFit = Callable[..., tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]]
"""HDBSCAN of points that can be clustered: labels, probabilities, persistence of each cluster."""
# Iterations end here, or when at most one row in a thousand changes its cluster.
MOST_ITERATIONS = 100
SETTLED = 1000
# Above, the centroids near a row's own one are less than half of all.
FEW_CLUSTERS = 2 * NEAR
_SAMPLE = 20_000
# Many clusters start once, on a sample of so many documents each, which need not settle as well: with thousands of
# them starts differ by less than 0.1 % of the objective.
_SAMPLE_OF_ONE = 32
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
        """Labels, similarity to the own centroid, and centroids; of all points, or of ``rows``.

        ``settled``: it ends when at most one row in so many changes its cluster.
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
        Computes it in another way, on at least three points that are not all alike.

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
    used = details["min_samples"] = samples_that_there_are(used, n, notes)
    if not np.ptp(points, axis=0).any():
        # No density to speak of: HDBSCAN would divide by the distances, which are all zero.
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
    labels, probabilities, persistence = (fit or _packaged_hdbscan)(
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


def samples_that_there_are(min_samples: int, n: int, notes: list[str]) -> int:
    """``min_samples``, or ``n - 1`` where it is larger, which is noted."""
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

    ``approximate`` lets its search for the spanning tree end early, which takes less time and may give a tree that is a
    little too long.
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


_packaged_hdbscan = partial(exact_hdbscan, approximate=True)


def kmeans(
    vectors: NDArray[Any],
    *,
    n_clusters: int | None,
    seed: int,
    threads: int,
    lloyd: LloydFit | None = None,
) -> Clustering:
    """Cluster directions (spherical K-means, Dhillon and Modha 2001), the same bits for any number of threads.

    Three K-means++ starts are tried on at most 20,000 documents; the best continues with all of them. More than 256
    clusters start once, on 32 documents for each, and mostly compare a document with the centroids near its own one
    (:mod:`latentscale.backends.cpu.many_clusters`). Labels are the nearest of all centroids in any case.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
    n_clusters : int or None
        None: chosen by the silhouette of a sample over about a dozen candidates, evenly spread on a log scale; the
        curve is in ``details["curve"]``. Lowered to the number of documents where it is larger, which is noted.
    threads : int
        Threads that work at once.
    lloyd : callable, optional
        Improves centroids in another way: ``lloyd(unit, centroids)`` gives labels, similarities and centroids.

    Returns
    -------
    Clustering
        ``probabilities`` are cosine similarities to the own centroid, cut at 0. ``persistence`` is NaN.

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
        apart=_cosine_distances,
        firmness=lambda _, similarity, __: np.maximum(similarity, 0.0),
    )


def fit_kmeans(
    points: NDArray[np.float32],
    *,
    n_clusters: int | None,
    seed: int,
    threads: int,
    improve: LloydFit,
    apart: Callable[[NDArray[np.float32]], NDArray[Any]],
    firmness: Callable[[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]],
) -> Clustering:
    """Fit K-means with the distances of ``improve``; see ``kmeans``.

    Parameters
    ----------
    points : float32 ndarray, shape (n, d)
    improve : callable
        Improves centroids: labels, a score of each point that is larger the nearer its centroid is, centroids.
    apart : callable
        Distances between all pairs of some points.
    firmness : callable
        Probabilities, from points, their scores and the centroids of clusters that have any.
    """
    n = len(points)
    details: dict[str, Any] = {"starts": _STARTS, "max_iterations": MOST_ITERATIONS, "seed": seed}
    if n == 0:
        return all_noise(0, method="kmeans", notes=[], details=details)
    notes: list[str] = []
    random = np.random.default_rng(seed)
    sample = points if n <= _SAMPLE else points[np.sort(random.choice(n, _SAMPLE, replace=False))]
    if n_clusters is None:
        n_clusters, curve = _best_silhouette(sample, random=random, improve=improve, apart=apart)
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
        firmness(points, scores, centroids[occupied]),
        np.full(len(occupied), np.nan, np.float32),
        method="kmeans",
        notes=notes,
        details=details,
    )


def _fit_many(
    points: NDArray[np.float32], k: int, *, random: np.random.Generator, improve: LloydFit, threads: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """One start on some documents for each cluster, then all documents."""
    n, wanted = len(points), max(_SAMPLE, _SAMPLE_OF_ONE * k)
    if n <= 2 * wanted:
        return improve(points, spread_start(points, np.arange(n), k, random, threads=threads))
    rows = np.sort(random.choice(n, wanted, replace=False))
    start = spread_start(points, rows, k, random, threads=threads)
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
    apart: Callable[[NDArray[np.float32]], NDArray[Any]],
) -> tuple[int, list[dict[str, Any]]]:
    """Try candidates from 2 to n / 20 (at most 400) and keep the best mean silhouette of 2,000 documents."""
    from sklearn.metrics import silhouette_score

    n = len(sample)
    most = min(400, n // 20)
    if most < 2:
        return 1, []
    sample = sample if n <= _CURVE_SAMPLE else sample[np.sort(random.choice(n, _CURVE_SAMPLE, replace=False))]
    n = len(sample)
    candidates = np.unique(np.geomspace(2, most, 14).round().astype(int))
    some = np.sort(random.choice(n, min(n, 2000), replace=False))
    distances = apart(sample[some])
    np.fill_diagonal(distances, 0.0)
    curve: list[dict[str, Any]] = []
    for count in candidates:
        start = _kmeans_plusplus(sample, int(count), random)
        labels = improve(sample, start)[0][some]
        different = len(np.unique(labels))
        score = float(silhouette_score(distances, labels, metric="precomputed")) if 1 < different < len(some) else -1.0
        curve.append({"n_clusters": int(count), "silhouette": round(score, 4)})
    return max(curve, key=lambda point: point["silhouette"])["n_clusters"], curve


def _kmeans_plusplus(sample: NDArray[np.float32], k: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Choose ``k`` starting centroids far apart (k-means++, Arthur and Vassilvitskii 2007)."""
    from sklearn.cluster import kmeans_plusplus

    from latentscale.backends.cpu.parallel import one_blas_thread

    with one_blas_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different rows than k: the caller notes empty clusters
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
        return lloyd_of_many(unit, centroids, rows=rows, settled=settled, rounds=MOST_ITERATIONS, threads=threads)
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
    """A clustering with ids by falling size, ties by the first member; probabilities are cut to [0, 1]."""
    renamed = ids_by_size(labels)
    ordered = np.empty_like(persistence)
    kept = labels >= 0
    old, first = np.unique(labels[kept], return_index=True)
    ordered[renamed[kept][first]] = persistence[old]
    return Clustering(
        labels=renamed,
        probabilities=np.clip(probabilities, 0.0, 1.0).astype(np.float32),
        persistence=ordered,
        method=method,
        notes=notes,
        details=details,
    )


def all_noise(n: int, *, method: str, notes: list[str], details: dict[str, Any]) -> Clustering:
    """A clustering without a cluster."""
    return Clustering(
        labels=np.full(n, -1, np.int32),
        probabilities=np.zeros(n, np.float32),
        persistence=np.empty(0, np.float32),
        method=method,
        notes=notes,
        details=details,
    )
