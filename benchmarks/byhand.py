"""The steps of a map written by hand with umap-learn, pynndescent and hdbscan, run in fresh processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import own_cpu_seconds

NEIGHBORS = 15


class Clock:
    """Measures CPU and elapsed seconds of consecutive steps."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}
        self._cpu, self._wall = own_cpu_seconds(), time.perf_counter()

    def step(self, name: str) -> None:
        """End the current step and name it."""
        cpu, wall = own_cpu_seconds(), time.perf_counter()
        self.steps[name] = {"cpu_s": cpu - self._cpu, "wall_s": wall - self._wall}
        self._cpu, self._wall = cpu, wall

    def mean(self) -> dict[str, float]:
        """The mean cost of the steps."""
        return {name: sum(step[name] for step in self.steps.values()) / len(self.steps) for name in ("cpu_s", "wall_s")}


def layouts_and_clusters(vectors: str, coordinates: str | None = None) -> dict[str, Any]:
    """Compute one pynndescent graph, a 2-D and a 5-D layout from it, HDBSCAN, and noise to the nearest centroid.

    This is the efficient way to do it by hand: one graph for both layouts, and no spectral initialisation.
    """
    clock = Clock()
    matrix = np.load(vectors)
    import hdbscan
    import umap
    from umap.umap_ import nearest_neighbors

    clock.step("import")
    knn = nearest_neighbors(matrix, NEIGHBORS, "cosine", {}, False, None)
    clock.step("neighbors")
    settings: dict[str, Any] = {"n_neighbors": NEIGHBORS, "metric": "cosine", "init": "pca", "precomputed_knn": knn}
    plane = umap.UMAP(**settings).fit_transform(matrix)
    clock.step("layout 2-D")
    space = umap.UMAP(n_components=5, min_dist=0.0, **settings).fit_transform(matrix)
    clock.step("layout 5-D")
    labels = hdbscan.HDBSCAN(min_cluster_size=max(5, len(matrix) // 500), min_samples=10).fit_predict(space)
    labels = to_nearest(matrix, labels)
    clock.step("clusters")
    if coordinates is not None:
        np.save(coordinates, np.asarray(plane, np.float32))
        np.save(Path(coordinates).with_suffix(".clusters.npy"), labels)
    return {"steps": clock.steps}


def to_nearest(matrix: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Assign noise to the cluster with the nearest mean direction."""
    count = int(labels.max(initial=-1)) + 1
    if count == 0:
        return labels
    means = np.stack([matrix[labels == cluster].mean(axis=0) for cluster in range(count)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    nearest = labels.copy()
    noise = labels < 0
    nearest[noise] = (matrix[noise] @ means.T).argmax(axis=1)
    return nearest


def save_vectors(workspace: str, path: str) -> dict[str, Any]:
    """Save the vectors of a workspace's last run as one matrix."""
    import latentscale
    from latentscale.storage.vectors import load_vectors

    opened = latentscale.open(workspace)
    embedding = opened.runs[-1]["facts"]["artifacts"]["embed"]
    vectors = load_vectors(opened.store, opened.snapshot, embedding)
    np.save(path, vectors.matrix)
    return {"rows": len(vectors)}
