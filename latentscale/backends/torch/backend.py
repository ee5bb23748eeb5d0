"""The backend that computes neighbours, layouts, clusters and figures with torch; all else as on processors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from latentscale.backends.cpu.backend import CpuBackend
from latentscale.backends.results import Clustering, Faithfulness, Layout, NeighborGraph

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from latentscale.backends.shown import Shown
    from latentscale.backends.torch.fuzzy import Edges
    from latentscale.machine import Place, Replicas


class TorchBackend(CpuBackend):
    """Neighbours, layouts, clusters and the figures of a map; see :class:`latentscale.backends.protocol.Backend`.

    Parameters
    ----------
    device : str, optional
        As torch names it; by default the first GPU that this process was given.
    others : sequence of str, optional
        Further devices of its kind, which search for neighbours too; without ``device`` all GPUs of this process.
    """

    name: ClassVar[str] = "torch"
    stages: ClassVar[frozenset[str]] = frozenset({"neighbors", "project", "cluster"})
    libraries: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "neighbors": ("torch",),
        "project": ("torch",),
        "cluster": ("torch", "hdbscan"),
    }
    gpus: ClassVar[float] = 1.0
    # HDBSCAN of fewer takes the processors some seconds.
    auto_from: ClassVar[Mapping[str, int | None]] = {"cluster": 100_000}
    # To be repeatable costs a GPU two fifths more, whatever the number.
    deterministic_documents: ClassVar[int] = 5_000_000

    def __init__(self, device: str | None = None, others: Sequence[str] = ()) -> None:
        super().__init__()
        self._named = device
        self._others = others

    @classmethod
    def missing(cls, place: Place) -> str | None:
        """Torch; without a GPU it can compute, slowly."""
        return None if "torch" in place.packages else "torch is not installed: pip install 'latentscale[torch]'"

    @classmethod
    def unfit(cls, place: Place) -> str | None:
        """No GPU: then the backend cpu is many times faster."""
        return None if place.gpus else "there is no GPU"

    @cached_property
    def device(self) -> torch.device:
        """Where it computes."""
        from latentscale.backends.torch.device import open_device

        return open_device(self._named)

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """Those that search for neighbours, the one for all else first."""
        from latentscale.backends.torch.device import further_gpus, open_device

        others = self._others if self._named is not None else further_gpus(self.device)
        return (self.device, *(open_device(name) for name in others))

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
        """By products of blocks, whatever the number of documents."""
        from latentscale.backends.torch.neighbors import nearest_neighbors
        from latentscale.errors import ConfigError

        if method not in ("auto", "exact"):
            raise ConfigError(
                f"the backend torch has no search {method!r}",
                where="neighbors.method",
                hint="Use auto or exact: on a GPU it is faster than an approximate one on processors.",
            )
        return nearest_neighbors(vectors, k=k, recall_target=recall_target, seed=seed, devices=self.devices)

    def neighbors_of_workers(self, vectors: NDArray[Any], *, k: int, replicas: Replicas) -> NeighborGraph:
        """Exact neighbours with a shard of the vectors in each of some workers of a Ray cluster."""
        from latentscale.backends.torch.actors import neighbors_of_actors

        return replace(neighbors_of_actors(vectors, k=k, replicas=replicas), backend=self.name)

    def layout(
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
        preview: Shown | None = None,
    ) -> Layout:
        """UMAP over the graph, a dozen batches of edges an epoch; densMAP by its weight."""
        from latentscale.backends.cpu.density import said_of
        from latentscale.backends.torch.layout import BATCHES, layout

        edges = self._edges(graph, n_neighbors, deterministic=deterministic)
        coordinates, kept = layout(
            edges,
            vectors,
            n_components=n_components,
            min_dist=min_dist,
            spread=spread,
            n_epochs=n_epochs,
            deterministic=deterministic,
            seed=seed,
            negative_sample_rate=negative_sample_rate,
            learning_rate=learning_rate,
            device=self.device,
            progress=progress,
            preview=preview,
            fixed=fixed,
            init=init,
            radii=self._radii(graph, edges, deterministic=deterministic) if density_weight > 0 else None,
            density_weight=density_weight,
        )
        said, notes = said_of(kept) if density_weight > 0 else ({}, [])
        return Layout(
            coordinates=coordinates,
            deterministic=deterministic,
            backend=self.name,
            notes=notes,
            details={"batches": BATCHES, "device": str(self.device), **said},
        )

    def _radii(self, graph: NeighborGraph, edges: Edges | None, *, deterministic: bool) -> torch.Tensor | None:
        import torch

        from latentscale.backends.torch.density import log_radii
        from latentscale.backends.torch.device import device_memory, repeatable

        if edges is None or not len(edges.weight):
            return None
        with torch.inference_mode(), repeatable(deterministic), device_memory("the local radii", self.device):
            return log_radii(graph, edges)

    def _edges(self, graph: NeighborGraph, n_neighbors: int, *, deterministic: bool) -> Edges | None:
        import torch

        from latentscale.backends.cpu.layout import usable_neighbors
        from latentscale.backends.torch.device import device_memory, exact_products, repeatable
        from latentscale.backends.torch.fuzzy import fuzzy_edges

        if usable_neighbors(graph, n_neighbors) < 1:
            return None
        held = self._fuzzy
        if held is None or held[0] is not graph or held[1] != n_neighbors:
            with (
                torch.inference_mode(),
                exact_products(),
                repeatable(deterministic),
                device_memory("the fuzzy set", self.device),
            ):
                edges = fuzzy_edges(graph, n_neighbors=n_neighbors, device=self.device)
            self._fuzzy = held = (graph, n_neighbors, edges)
        return held[2]

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
        """The spanning tree on the device, and the clusters of it by the package ``hdbscan``."""
        from latentscale.backends.cpu.clustering import hdbscan

        found = hdbscan(
            points,
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            cluster_selection_method=cluster_selection_method,
            cluster_selection_epsilon=cluster_selection_epsilon,
            fit=partial(self._stable_clusters, threads=threads),
        )
        return self._made_here(found)

    def _spanning_tree(self, points: NDArray[Any], *, min_samples: int, threads: int) -> NDArray[np.float64]:
        from latentscale.backends.torch.spanning import spanning_tree

        return spanning_tree(points, min_samples=min_samples, device=self.device)

    def dbscan(
        self, points: NDArray[Any], *, eps: float | None, min_samples: int, min_cluster_size: int, threads: int
    ) -> Clustering:
        """DBSCAN without border points, from the same tree."""
        from latentscale.backends.cpu.dbscan import dbscan

        found = dbscan(
            points,
            eps=eps,
            min_samples=min_samples,
            min_cluster_size=min_cluster_size,
            hierarchy=partial(self._hierarchy, threads=threads),
        )
        return self._made_here(found)

    def kmeans(self, vectors: NDArray[Any], *, n_clusters: int | None, seed: int, threads: int) -> Clustering:
        """Spherical K-means from the starts of the backend cpu, improved on the device."""
        from latentscale.backends.cpu.clustering import kmeans
        from latentscale.backends.torch.kmeans import lloyd

        improve = partial(lloyd, device=self.device)
        return self._made_here(kmeans(vectors, n_clusters=n_clusters, seed=seed, threads=threads, lloyd=improve))

    def _made_here(self, found: Clustering) -> Clustering:
        return replace(found, backend=self.name, details=found.details | {"device": str(self.device)})

    def faithfulness(
        self, vectors: NDArray[Any], coordinates: NDArray[Any], *, k: int, sample: int, seed: int, threads: int
    ) -> Faithfulness:
        """By products of the sampled documents with all."""
        from latentscale.backends.torch.faithfulness import faithfulness

        return faithfulness(vectors, coordinates, k=k, sample=sample, seed=seed, device=self.device)
