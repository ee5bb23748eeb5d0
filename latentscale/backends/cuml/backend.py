"""The backend ``cuml``: layouts and clusters by cuML, large neighbour graphs by cuVS; the rest is torch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from latentscale.backends.results import Clustering, Layout, NeighborGraph
from latentscale.backends.torch.backend import TorchBackend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latentscale.machine import Place

# Up to here neighbours are exact, by torch: 24.6 s for a million on an H100, quadratic in the number.
EXACT_DOCUMENTS = 2_000_000
SEARCH = "nn_descent"
# cuML's own limit.
_MAX_SAMPLES = 1_023
# Oldest driver of each wheel.
_PACKAGES = {"cuml-cu13": 580, "cuml-cu12": 525}


class CumlBackend(TorchBackend):
    """Computes with cuML and cuVS on an NVIDIA GPU.

    See :class:`latentscale.backends.protocol.Backend`. Spherical K-means is torch's: cuML's centroids are means, not
    directions.
    """

    name: ClassVar[str] = "cuml"
    libraries: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "neighbors": ("cuvs-cu13", "torch"),
        "project": ("cuml-cu13",),
        "cluster": ("cuml-cu13",),
    }
    # As measured on an H100 (docs/decisions/0017-cuml-backend.md): its layouts are a little worse than torch's.
    auto_from: ClassVar[Mapping[str, int | None]] = {
        "neighbors": EXACT_DOCUMENTS,
        "project": None,
        "cluster": 100_000,
    }

    @classmethod
    def missing(cls, place: Place) -> str | None:
        """Check for a GPU, cuML, cuVS, torch and a recent driver."""
        if not place.gpus:
            return "there is no GPU"
        package = next((name for name in _PACKAGES if name in place.packages), None)
        if package is None or package.replace("cuml", "cuvs") not in place.packages:
            return "cuML and cuVS are not both installed: pip install 'latentscale[gpu]'"
        missing_for_torch = super().missing(place)
        if missing_for_torch is not None:
            return missing_for_torch
        driver = place.gpus[0].driver
        major = driver.partition(".")[0]
        if major.isdigit() and int(major) < _PACKAGES[package]:
            return f"the driver {driver} is too old for {package}: it needs {_PACKAGES[package]} or newer"
        return None

    def neighbors(
        self,
        vectors: NDArray[Any],
        *,
        k: int,
        method: str,
        recall_target: float,
        seed: int,
        threads: int,
    ) -> NeighborGraph:
        """Search exactly by torch up to two million documents; beyond, or on request, by NN-descent of cuVS."""
        from latentscale.backends.cuml.neighbors import nn_descent_neighbors
        from latentscale.errors import ConfigError

        if method not in ("auto", "exact", SEARCH):
            raise ConfigError(
                f"the backend cuml has no search {method!r}",
                where="neighbors.method",
                hint=f"Use auto, exact or {SEARCH}.",
            )
        if method == SEARCH or (method == "auto" and len(vectors) > EXACT_DOCUMENTS):
            graph = nn_descent_neighbors(vectors, k=k, recall_target=recall_target, seed=seed, device=self.device)
            if graph is not None:
                return graph
            note = [f"{SEARCH} of cuVS did not reach the recall asked for: all pairs were compared."]
        else:
            note = []
        exact = super().neighbors(vectors, k=k, method="exact", recall_target=recall_target, seed=seed, threads=threads)
        return replace(exact, backend=self.name, notes=[*exact.notes, *note])

    def layout(  # pyright: ignore[reportIncompatibleMethodOverride] - cuML has no callback, so no preview
        self,
        graph: NeighborGraph,
        vectors: NDArray[Any],
        *,
        n_components: int,
        n_neighbors: int,
        min_dist: float,
        spread: float,
        n_epochs: int | None,
        negative_sample_rate: int,
        learning_rate: float,
        deterministic: bool,
        seed: int,
        threads: int,
        progress: Callable[[int, int], None] | None = None,
        fixed: NDArray[np.float32] | None = None,
        init: NDArray[np.float32] | None = None,
        density_weight: float = 0.0,
    ) -> Layout:
        """Run cuML's UMAP; torch's for fixed coordinates and densMAP, which cuML does not have for a given graph."""
        from latentscale.backends.cpu.layout import default_epochs, usable_neighbors
        from latentscale.backends.cuml.layout import cuml_layout

        usable = usable_neighbors(graph, n_neighbors)
        epochs = default_epochs(len(vectors), n_components) if n_epochs is None else n_epochs
        if fixed is not None or density_weight > 0 or usable < 1 or epochs < 1:
            made = super().layout(
                graph,
                vectors,
                n_components=n_components,
                n_neighbors=n_neighbors,
                min_dist=min_dist,
                spread=spread,
                n_epochs=n_epochs,
                negative_sample_rate=negative_sample_rate,
                learning_rate=learning_rate,
                deterministic=deterministic,
                seed=seed,
                threads=threads,
                progress=progress,
                fixed=fixed,
                init=init,
                density_weight=density_weight,
            )
            return replace(made, details=made.details | {"by": "torch"})
        coordinates = cuml_layout(
            graph,
            vectors,
            usable=usable,
            n_components=n_components,
            n_epochs=epochs,
            min_dist=min_dist,
            spread=spread,
            negative_sample_rate=negative_sample_rate,
            learning_rate=learning_rate,
            deterministic=deterministic,
            seed=seed,
            init=init,
        )
        return Layout(
            coordinates=coordinates,
            deterministic=deterministic,
            backend=self.name,
            details={"n_epochs": epochs, "by": "cuML"},
        )

    def hdbscan(
        self,
        points: NDArray[Any],
        *,
        min_cluster_size: int,
        min_samples: int | None,
        cluster_selection_method: Literal["eom", "leaf"],
        cluster_selection_epsilon: float,
        threads: int,
    ) -> Clustering:
        """Run cuML's HDBSCAN by brute force."""
        from latentscale.backends.cpu.clustering import hdbscan
        from latentscale.backends.cuml import calls
        from latentscale.errors import ConfigError

        needed = min_cluster_size if min_samples is None else min_samples
        if min(needed, len(points) - 1) > _MAX_SAMPLES:
            raise ConfigError(
                f"cuML takes at most {_MAX_SAMPLES:,} min_samples, not {needed:,}",
                where="cluster.min_samples",
                hint="Lower it, or use cluster.backend=torch.",
            )
        found = hdbscan(
            points,
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            cluster_selection_method=cluster_selection_method,
            cluster_selection_epsilon=cluster_selection_epsilon,
            fit=calls.hdbscan,
        )
        return replace(found, backend=self.name, details=found.details | {"by": "cuML"})

    def dbscan(
        self, points: NDArray[Any], *, eps: float | None, min_samples: int, min_cluster_size: int, threads: int
    ) -> Clustering:
        """Run cuML's DBSCAN where ``eps`` is given; else choose it from the spanning tree, by torch."""
        from latentscale.backends.cpu.dbscan import dbscan
        from latentscale.backends.cuml import calls

        if eps is None:
            return super().dbscan(
                points, eps=None, min_samples=min_samples, min_cluster_size=min_cluster_size, threads=threads
            )
        found = dbscan(points, eps=eps, min_samples=min_samples, min_cluster_size=min_cluster_size, fit=calls.dbscan)
        return replace(found, backend=self.name, details=found.details | {"by": "cuML"})
