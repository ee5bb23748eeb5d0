"""Clusters by PLSCAN (Bot, McInnes and Aerts 2025), with the package ``fast-plscan``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.cpu.clustering import all_noise, clustering_by_size, samples_that_there_are
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

    Of the leaves of HDBSCAN's tree for each ``min_cluster_size``, those are taken whose ranges of sizes over which they
    are leaves have the largest sum.

    Parameters
    ----------
    points : ndarray, shape (n, d)
        Euclidean.
    min_samples : int
        At least 2. Lowered to ``n - 1`` where it is larger, which is noted.
    min_cluster_size : int
        The least that is tried; at least ``min_samples``.
    threads : int
    tree : callable, optional
        ``tree(points, min_samples=..., threads=...)`` is the spanning tree of mutual reachability: float64, shape
        (n - 1, 3), by ascending length. By default the package makes its own.

    Returns
    -------
    Clustering
        ``details["chosen_min_cluster_size"]`` is the size that was taken; ``persistence`` is NaN.

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
    min_samples = details["min_samples"] = samples_that_there_are(min_samples, n, notes)
    if not np.ptp(points, axis=0).any():
        # No density to speak of.
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
    """Labels, probabilities, and the size that was chosen."""
    from fast_plscan import PLSCAN

    settings: dict[str, Any] = {
        "min_samples": min_samples,
        "min_cluster_size": float(min_cluster_size),
        "num_threads": threads,
    }
    if tree is None:
        fitted: Any = PLSCAN(**settings).fit(np.asarray(points, np.float32))
    else:
        ways = tree(points, min_samples=min_samples, threads=threads)
        fitted = PLSCAN(metric="precomputed", **settings).fit((ways, len(points)))
    trace = fitted.persistence_trace_.to_numpy()
    # Its sizes are those up to which clusters are no leaves yet.
    size = int(trace["min_size"][int(trace["persistence"].argmax())]) + 1 if len(trace) else min_cluster_size
    labels, probabilities = np.asarray(fitted.labels_, np.int32), np.asarray(fitted.probabilities_, np.float32)
    return labels, probabilities, max(size, min_cluster_size)
