"""The backend ``torch``: neighbours, layouts, clusters and quality figures; the rest is inherited from ``cpu``."""

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

    from latentscale.backends.shown import PreviewCallback
    from latentscale.backends.torch.fuzzy import Edges
    from latentscale.machine import Place, Replicas


class TorchBackend(CpuBackend):
    """Computes with torch, usually on a GPU; see :class:`latentscale.backends.protocol.Backend`.

    Parameters
    ----------
    device : str, optional
        torch's name; by default the first GPU of this process.
    others : sequence of str, optional
        Further devices of its kind for the neighbour search; without ``device``, all GPUs of this process.
    """

    name: ClassVar[str] = "torch"
    stages: ClassVar[frozenset[str]] = frozenset({"neighbors", "project", "cluster"})
    libraries: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "neighbors": ("torch",),
        "project": ("torch",),
        "cluster": ("torch", "hdbscan"),
    }
    gpus: ClassVar[float] = 1.0
    # HDBSCAN of fewer documents takes the CPU some seconds.
    auto_from: ClassVar[Mapping[str, int | None]] = {"cluster": 100_000}
    # Determinism costs a GPU 40 % more time, whatever the number of documents.
    deterministic_documents: ClassVar[int] = 5_000_000

    def __init__(self, device: str | None = None, others: Sequence[str] = ()) -> None:
        super().__init__()
        self._named = device
        self._others = others

    @classmethod
    def missing(cls, place: Place) -> str | None:
        """Check that torch is installed; a GPU is not required."""
        return None if "torch" in place.packages else "torch is not installed: pip install 'latentscale[torch]'"

    @classmethod
    def unfit(cls, place: Place) -> str | None:
        """Without a GPU the backend cpu is many times faster."""
        return None if place.gpus else "there is no GPU"

    @cached_property
    def device(self) -> torch.device:
        """The device that computes everything but the neighbour search."""
        from latentscale.backends.torch.device import open_device

        return open_device(self._named)

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """All devices of the neighbour search; :attr:`device` is the first."""
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
        """Search by blocked matrix products, for any number of documents."""
        from latentscale.backends.torch.neighbors import nearest_neighbors
        from latentscale.errors import ConfigError

        if method not in ("auto", "exact"):
            raise ConfigError(
                f"the backend torch has no search {method!r}",
                where="neighbors.method",
                hint="Use auto or exact: on a GPU it is faster than an approximate one on CPUs.",
            )
        return nearest_neighbors(vectors, k=k, recall_target=recall_target, seed=seed, devices=self.devices)

    def neighbors_of_workers(self, vectors: NDArray[Any], *, k: int, replicas: Replicas) -> NeighborGraph:
        """Search exactly, with one shard of the vectors per worker of a Ray cluster."""
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
        preview: PreviewCallback | None = None,
    ) -> Layout:
        """Run UMAP with a dozen batches of edges per epoch, and densMAP's term if ``density_weight`` is positive."""
        from latentscale.backends.cpu.density import density_report
        from latentscale.backends.torch.layout import BATCHES, layout

        edges = self._edges(graph, n_neighbors, deterministic=deterministic)
        coordinates, correlation = layout(
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
        density_details, notes = density_report(correlation) if density_weight > 0 else ({}, [])
        return Layout(
            coordinates=coordinates,
            deterministic=deterministic,
            backend=self.name,
            notes=notes,
            details={"batches": BATCHES, "device": str(self.device), **density_details},
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
        cached = self._fuzzy
        if cached is None or cached[0] is not graph or cached[1] != n_neighbors:
            with (
                torch.inference_mode(),
                exact_products(),
                repeatable(deterministic),
                device_memory("the fuzzy set", self.device),
            ):
                edges = fuzzy_edges(graph, n_neighbors=n_neighbors, device=self.device)
            self._fuzzy = cached = (graph, n_neighbors, edges)
        return cached[2]

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
        """Compute the spanning tree on the device, and its clusters by the package ``hdbscan``."""
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
        """Run DBSCAN* on the same spanning tree."""
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
        """Run spherical K-means: initialization as in the backend cpu, Lloyd's algorithm on the device."""
        from latentscale.backends.cpu.clustering import kmeans
        from latentscale.backends.torch.kmeans import lloyd

        improve = partial(lloyd, device=self.device)
        return self._made_here(kmeans(vectors, n_clusters=n_clusters, seed=seed, threads=threads, lloyd=improve))

    def _made_here(self, found: Clustering) -> Clustering:
        return replace(found, backend=self.name, details=found.details | {"device": str(self.device)})

    def faithfulness(
        self, vectors: NDArray[Any], coordinates: NDArray[Any], *, k: int, sample: int, seed: int, threads: int
    ) -> Faithfulness:
        """Measure by products of the sampled documents with all."""
        from latentscale.backends.torch.faithfulness import faithfulness

        return faithfulness(vectors, coordinates, k=k, sample=sample, seed=seed, device=self.device)
