"""All calls of cuML and cuVS (26.10), with host arrays on both sides; no other module imports them.

Tests compare each call with the signatures of the installed wheels.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentscale.errors import EnvironmentFailure, require

if TYPE_CHECKING:
    from numpy.typing import NDArray

USED_FOR = "the backend cuml"
# Messages of these libraries, and of CUDA below them, for a missing or outdated driver.
_DRIVER = ("InsufficientDriver", "driver version is insufficient", "NoDevice", "NVIDIA driver library")
_MEMORY = ("out_of_memory", "out of memory", "MemoryAllocation")
_DEVICE = ("CUDA error", "cudaError", "CUBLAS", "RAFT failure", "cuda runtime error")


@contextmanager
def gpu_errors(what: str) -> Generator[None]:
    """Translate the errors of the libraries; ``what`` names the computation.

    Raises
    ------
    EnvironmentFailure
        For too little memory, an incompatible driver, or a failed device.
    """
    try:
        yield
    except Exception as error:  # cuVS and the driver loaders raise their own types
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        # Checked first: without a driver, allocations fail as if memory were short.
        if any(sign in reason for sign in _DRIVER):
            raise EnvironmentFailure(
                f"cuML cannot use a GPU for {what}: {reason}",
                hint="nvidia-smi shows the driver; CUDA 13 needs 580 or newer. The backend cpu needs none.",
            ) from error
        if isinstance(error, MemoryError) or any(sign in reason for sign in _MEMORY):
            raise EnvironmentFailure(
                f"{what} does not fit in the memory of the GPU: {reason}",
                hint="Use a GPU with more memory, keep other programs off it, or use the backend torch or cpu.",
            ) from error
        if any(sign in reason for sign in _DEVICE):
            raise EnvironmentFailure(
                f"the GPU failed during {what}: {reason}",
                hint="Run the same command again: finished stages are kept. nvidia-smi shows whether the GPU is there.",
            ) from error
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """Settings of cuVS's batched NN-descent (Dong et al. 2011).

    Attributes
    ----------
    parts : int
        Number of batches of rows: 1, or more than ``overlap``.
    overlap : int
        Number of batches that each row is in.
    degree : int
        Degree of the graph; the intermediate graph has twice as many edges.
    iterations : int
    """

    parts: int
    overlap: int
    degree: int
    iterations: int = 20

    def as_details(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def umap(
    vectors: NDArray[np.float32],
    indices: NDArray[np.int64],
    distances: NDArray[np.float32],
    start: NDArray[np.float32],
    *,
    n_epochs: int,
    min_dist: float,
    spread: float,
    negative_sample_rate: int,
    learning_rate: float,
    random_state: int | None,
) -> NDArray[np.float32]:
    """Run UMAP over a given graph from ``start``, float32 of shape (n, c).

    Parameters
    ----------
    indices : int64 ndarray, shape (n, k)
        The row itself first.
    distances : float32 ndarray, shape (n, k)
    random_state : int or None
        With a seed the result is reproducible to the bit.
    """
    manifold: Any = require("cuml.manifold", extra="gpu", used_for=USED_FOR)
    with gpu_errors("the layout"):
        model = manifold.UMAP(
            n_neighbors=indices.shape[1],
            n_components=start.shape[1],
            metric="cosine",
            n_epochs=n_epochs,
            learning_rate=learning_rate,
            min_dist=min_dist,
            spread=spread,
            negative_sample_rate=negative_sample_rate,
            init=start,
            random_state=random_state,
            precomputed_knn=(indices, distances),
            output_type="numpy",
        )
        return np.asarray(model.fit_transform(vectors), np.float32)


def hdbscan(
    points: NDArray[Any],
    *,
    min_cluster_size: int,
    min_samples: int,
    cluster_selection_method: Literal["eom", "leaf"],
    cluster_selection_epsilon: float,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Run HDBSCAN by brute force: labels, probabilities, persistence of each cluster."""
    cluster: Any = require("cuml.cluster", extra="gpu", used_for=USED_FOR)
    with gpu_errors("HDBSCAN"):
        # With NN-descent a layout of five dimensions gave other clusters, and took longer.
        fitted = cluster.HDBSCAN(
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            cluster_selection_epsilon=cluster_selection_epsilon,
            cluster_selection_method=cluster_selection_method,
            build_algo="brute_force",
            output_type="numpy",
        ).fit(np.ascontiguousarray(points, np.float32))
        return (
            np.asarray(fitted.labels_, np.int32),
            np.asarray(fitted.probabilities_, np.float32),
            np.asarray(fitted.cluster_persistence_, np.float32),
        )


def dbscan(points: NDArray[Any], *, eps: float, min_samples: int) -> NDArray[np.int32]:
    """Run DBSCAN; -1 for points with fewer than ``min_samples`` others within ``eps``, border points included."""
    cluster: Any = require("cuml.cluster", extra="gpu", used_for=USED_FOR)
    with gpu_errors("DBSCAN"):
        # cuML counts the point itself, as scikit-learn does.
        fitted = cluster.DBSCAN(eps=eps, min_samples=min_samples + 1, metric="euclidean", output_type="numpy").fit(
            np.ascontiguousarray(points, np.float32)
        )
        labels = np.full(len(points), -1, np.int32)
        core = np.asarray(fitted.core_sample_indices_, np.int64)
        labels[core] = np.asarray(fitted.labels_, np.int32)[core]
        return labels


def all_neighbors(vectors: NDArray[np.float32], *, k: int, descent: Descent) -> NDArray[np.int64]:
    """Find approximately the ``k`` nearest rows of each, usually with the row itself: int64, shape (n, k)."""
    neighbors: Any = require("cuvs.neighbors", extra="gpu", used_for=USED_FOR)
    indices = np.empty((len(vectors), k), np.int64)
    distances = np.empty((len(vectors), k), np.float32)
    # For unit rows the order is that of cosine distance, for which cuVS returns some negative, unsorted values.
    metric = "sqeuclidean"
    with gpu_errors("the neighbour search"):
        params = neighbors.all_neighbors.AllNeighborsParams(
            algo="nn_descent",
            overlap_factor=descent.overlap,
            n_clusters=descent.parts,
            metric=metric,
            nn_descent_params=neighbors.nn_descent.IndexParams(
                metric=metric,
                graph_degree=descent.degree,
                intermediate_graph_degree=2 * descent.degree,
                max_iterations=descent.iterations,
            ),
        )
        neighbors.all_neighbors.build(
            np.ascontiguousarray(vectors, np.float32), k, params, indices=indices, distances=distances
        )
    return indices
