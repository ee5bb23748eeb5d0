"""Stand-ins for cuML and cuVS at the import boundary, with their signatures; results are those of processors."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np


class UMAP:
    def __init__(
        self,
        *,
        n_neighbors: int = 15,
        n_components: int = 2,
        metric: str = "euclidean",
        n_epochs: int | None = None,
        learning_rate: float = 1.0,
        min_dist: float = 0.1,
        spread: float = 1.0,
        negative_sample_rate: int = 5,
        init: Any = "spectral",
        random_state: int | None = None,
        precomputed_knn: Any = None,
        output_type: str | None = None,
    ) -> None:
        self.given = {name: value for name, value in locals().items() if name != "self"}

    def fit_transform(self, X: Any, y: Any = None) -> Any:  # noqa: N803
        """What cuML refuses is refused; the layout is that of the backend cpu."""
        from latentscale.backends.cpu.backend import CpuBackend
        from latentscale.backends.results import NeighborGraph

        given = self.given
        indices, distances = given["precomputed_knn"]
        assert isinstance(X, np.ndarray)
        assert X.dtype == np.float32
        assert (indices.dtype, distances.dtype) == (np.int64, np.float32)
        assert indices.shape == distances.shape == (len(X), given["n_neighbors"])
        if not (indices[:, 0] == np.arange(len(X))).all():
            raise ValueError("the first column of precomputed_knn must be the row itself")
        if given["init"].shape != (len(X), given["n_components"]):
            raise ValueError("init has another shape")
        assert (given["metric"], given["output_type"]) == ("cosine", "numpy")
        graph = NeighborGraph(
            indices=indices[:, 1:].astype(np.int32), distances=distances[:, 1:], recall=1.0, method="exact"
        )
        made = CpuBackend().layout(
            graph,
            X,
            n_components=given["n_components"],
            n_neighbors=given["n_neighbors"],
            min_dist=given["min_dist"],
            spread=given["spread"],
            n_epochs=given["n_epochs"],
            negative_sample_rate=given["negative_sample_rate"],
            learning_rate=given["learning_rate"],
            deterministic=True,
            seed=given["random_state"] or 0,
            threads=1,
        )
        return made.coordinates


class HDBSCAN:
    def __init__(
        self,
        *,
        min_cluster_size: int = 5,
        min_samples: int | None = None,
        cluster_selection_epsilon: float = 0.0,
        cluster_selection_method: str = "eom",
        build_algo: str = "brute_force",
        output_type: str | None = None,
    ) -> None:
        self.given = {name: value for name, value in locals().items() if name != "self"}

    def fit(self, X: Any, y: Any = None) -> HDBSCAN:  # noqa: N803
        from latentscale.backends.cpu.clustering import exact_hdbscan

        given = dict(self.given)
        assert (given.pop("build_algo"), given.pop("output_type"), X.dtype) == ("brute_force", "numpy", np.float32)
        if not 1 <= given["min_samples"] <= 1023:
            raise ValueError("HDBSCAN requires `1 <= min_samples <= 1023`")
        labels, self.probabilities_, self.cluster_persistence_ = exact_hdbscan(X.astype(np.float64), **given)
        self.labels_ = labels.astype(np.int64)
        return self


class DBSCAN:
    def __init__(
        self, *, eps: float = 0.5, min_samples: int = 5, metric: str = "euclidean", output_type: str | None = None
    ) -> None:
        self.eps, self.min_samples = eps, min_samples

    def fit(self, X: Any, y: Any = None) -> DBSCAN:  # noqa: N803
        from sklearn import cluster

        fitted = cluster.DBSCAN(eps=self.eps, min_samples=self.min_samples).fit(X)
        self.labels_, self.core_sample_indices_ = fitted.labels_.astype(np.int32), fitted.core_sample_indices_
        return self


class IndexParams:
    def __init__(
        self,
        metric: str | None = None,
        *,
        graph_degree: int | None = None,
        intermediate_graph_degree: int | None = None,
        max_iterations: int | None = None,
    ) -> None:
        self.metric, self.graph_degree = metric, graph_degree


class AllNeighborsParams:
    def __init__(
        self,
        algo: str = "nn_descent",
        *,
        overlap_factor: int = 2,
        n_clusters: int = 1,
        metric: str = "sqeuclidean",
        nn_descent_params: IndexParams | None = None,
    ) -> None:
        assert nn_descent_params is not None
        assert nn_descent_params.metric == metric
        assert n_clusters == 1 or n_clusters > overlap_factor
        self.metric, self.n_clusters, self.degree = metric, n_clusters, nn_descent_params.graph_degree


searched: list[AllNeighborsParams] = []
"""The searches since the last clearing."""
lost: list[float] = [0.0]
"""The share of the neighbours that the next searches miss."""


def build(dataset: Any, k: int, params: Any, *, indices: Any = None, distances: Any = None) -> Any:
    """As cuVS: the row itself somewhere, some twice, and distances that are a little wrong."""
    searched.append(params)
    assert dataset.dtype == distances.dtype == np.float32
    assert indices.dtype == np.int64
    assert params.degree >= k
    random = np.random.default_rng(0)
    found = np.argsort(-(dataset @ dataset.T), axis=1, kind="stable")[:, :k]
    # The farthest is given up for a nearer one that is there already.
    found[::3, -1] = found[::3, 2]
    missed = random.random(found.shape) < (lost.pop(0) if lost else 0.0)
    found[missed] = random.integers(0, len(dataset), int(missed.sum()))
    indices[:] = random.permuted(found, axis=1)
    distances[:] = random.random(found.shape)
    return indices, distances


def install(monkeypatch: Any) -> None:
    """Put the stand-ins where the backend imports the libraries from."""
    searched.clear()
    lost[:] = []
    made = {
        "cuml": {},
        "cuml.manifold": {"UMAP": UMAP},
        "cuml.cluster": {"HDBSCAN": HDBSCAN, "DBSCAN": DBSCAN},
        "cuvs": {},
        "cuvs.neighbors": {
            "all_neighbors": types.SimpleNamespace(AllNeighborsParams=AllNeighborsParams, build=build),
            "nn_descent": types.SimpleNamespace(IndexParams=IndexParams),
        },
    }
    for name, attributes in made.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
