"""Clusters by PLSCAN (Bot, McInnes and Aerts 2025), with the package ``fast-plscan``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.cpu.clustering import all_noise, clamp_min_samples, clustering_by_size
from latentscale.backends.cpu.vectors import finite_layout
from latentscale.backends.results import Clustering


def plscan(
    points: NDArray[Any],
    *,
    min_samples: int,
    min_cluster_size: int,
    threads: int,
    tree: Callable[..., NDArray[np.float64]] | None = None,
) -> Clustering:
    """Cluster points by density, with the ``min_cluster_size`` at which clusters persist most in all.

    The persistence of a leaf of HDBSCAN's tree is the range of ``min_cluster_size`` over which it is a leaf; the size
    with the largest total persistence is chosen.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        Euclidean.
    min_samples : int
        At least 2. Lowered to ``n - 1`` where it is larger, which is noted.
    min_cluster_size : int
        Smallest size that is considered; at least ``min_samples``.
    threads : int
    tree : callable, optional
        ``tree(points, min_samples=..., threads=...)`` returns the minimum spanning tree of mutual reachability:
        float64, shape (n - 1, 3), by ascending weight. By default the package computes it.

    Returns
    -------
    Clustering
        ``details["chosen_min_cluster_size"]`` is the chosen size; ``persistence`` is NaN.

    Raises
    ------
    CorpusError
        If a coordinate is NaN or infinite.
    """
    points = finite_layout(points)
    n = len(points)
    details: dict[str, Any] = {"min_samples": min_samples, "min_cluster_size": min_cluster_size}
    if n < max(min_cluster_size, 4):
        note = (
            f"There are fewer documents ({n:,}) than PLSCAN needs ({max(min_cluster_size, 4)}): all of them are noise."
        )
        return all_noise(n, method="plscan", notes=[note], details=details)
    notes: list[str] = []
    min_samples = details["min_samples"] = clamp_min_samples(min_samples, n, notes)
    if not np.ptp(points, axis=0).any():
        # All distances are zero.
        notes.append("All documents are at one point: they are one cluster.")
        labels, probabilities = np.zeros(n, np.int32), np.ones(n, np.float32)
    else:
        labels, probabilities, size = _fitted(points, min_samples, min_cluster_size, threads=threads, tree=tree)
        details["chosen_min_cluster_size"] = size
        if labels.max(initial=-1) < 0:
            notes.append("PLSCAN found no cluster: all documents are noise; try a smaller min_samples.")
        else:
            notes.append(f"PLSCAN took clusters of {size:,} documents or more, which persist most.")
    return clustering_by_size(
        labels,
        probabilities,
        np.full(int(labels.max(initial=-1)) + 1, np.nan, np.float32),
        method="plscan",
        notes=notes,
        details=details,
    )


def _fitted(
    points: NDArray[np.float64],
    min_samples: int,
    min_cluster_size: int,
    *,
    threads: int,
    tree: Callable[..., NDArray[np.float64]] | None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], int]:
    """Fit PLSCAN: labels, probabilities, and the chosen size."""
    from fast_plscan import PLSCAN

    settings: dict[str, Any] = {
        "min_samples": min_samples,
        "min_cluster_size": float(min_cluster_size),
        "num_threads": threads,
    }
    if tree is None:
        fitted: Any = PLSCAN(**settings).fit(np.asarray(points, np.float32))
    else:
        edges = tree(points, min_samples=min_samples, threads=threads)
        fitted = PLSCAN(metric="precomputed", **settings).fit((edges, len(points)))
    trace = fitted.persistence_trace_.to_numpy()
    # Sizes of the trace are exclusive: a cluster becomes a leaf at the next one.
    size = int(trace["min_size"][int(trace["persistence"].argmax())]) + 1 if len(trace) else min_cluster_size
    labels, probabilities = np.asarray(fitted.labels_, np.int32), np.asarray(fitted.probabilities_, np.float32)
    return labels, probabilities, max(size, min_cluster_size)
