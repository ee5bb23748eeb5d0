"""The backend that lays out and clusters with cuML, and searches many vectors with cuVS; all else as torch's."""

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

# Up to here all pairs are compared, by torch: 24.6 s for a million on an H100, four times as long for twice as many.
EXACT_DOCUMENTS = 2_000_000
SEARCH = "nn_descent"
# cuML's own limit.
_MOST_SAMPLES = 1_023
# The driver that a wheel of a CUDA version needs.
_PACKAGES = {"cuml-cu13": 580, "cuml-cu12": 525}


class CumlBackend(TorchBackend):
    """Layouts and clusters by density with cuML, graphs of many documents with cuVS.

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
        """A GPU, cuML, cuVS, torch, and a driver that fits; it computes nothing without."""
        if not place.gpus:
            return "there is no GPU"
        package = next((name for name in _PACKAGES if name in place.packages), None)
        if package is None or package.replace("cuml", "cuvs") not in place.packages:
            return "cuML and cuVS are not both installed: pip install 'latentscale[gpu]'"
        lacks = super().missing(place)
        if lacks is not None:
            return lacks
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
        """All pairs by torch up to two million documents; beyond, or where asked for, NN-descent by cuVS."""
        from latentscale.backends.cuml.neighbors import descended_neighbors
        from latentscale.errors import ConfigError

        if method not in ("auto", "exact", SEARCH):
            raise ConfigError(
                f"the backend cuml has no search {method!r}",
                where="neighbors.method",
                hint=f"Use auto, exact or {SEARCH}.",
            )
        if method == SEARCH or (method == "auto" and len(vectors) > EXACT_DOCUMENTS):
            graph = descended_neighbors(vectors, k=k, recall_target=recall_target, seed=seed, device=self.device)
            if graph is not None:
                return graph
            note = [f"{SEARCH} of cuVS did not reach the recall asked for: all pairs were compared."]
        else:
            note = []
        exact = super().neighbors(vectors, k=k, method="exact", recall_target=recall_target, seed=seed, threads=threads)
        return replace(exact, backend=self.name, notes=[*exact.notes, *note])

    def layout(  # pyright: ignore[reportIncompatibleMethodOverride] - cuML tells nothing of a layout on its way
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
        """UMAP over the graph, from our start; torch's for fixed coordinates and densities, which cuML cannot keep."""
        from latentscale.backends.cpu.layout import default_epochs, usable_neighbors
        from latentscale.backends.cuml.layout import laid_out

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
        coordinates = laid_out(
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
        """Cluster by cuML's HDBSCAN over all pairs."""
        from latentscale.backends.cpu.clustering import hdbscan
        from latentscale.backends.cuml import calls
        from latentscale.errors import ConfigError

        least = min_cluster_size if min_samples is None else min_samples
        if min(least, len(points) - 1) > _MOST_SAMPLES:
            raise ConfigError(
                f"cuML takes at most {_MOST_SAMPLES:,} min_samples, not {least:,}",
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
        """DBSCAN without border points, by cuML where ``eps`` is given; else by the spanning tree, which chooses it."""
        from latentscale.backends.cpu.dbscan import dbscan
        from latentscale.backends.cuml import calls

        if eps is None:
            return super().dbscan(
                points, eps=None, min_samples=min_samples, min_cluster_size=min_cluster_size, threads=threads
            )
        found = dbscan(points, eps=eps, min_samples=min_samples, min_cluster_size=min_cluster_size, fit=calls.dbscan)
        return replace(found, backend=self.name, details=found.details | {"by": "cuML"})
