"""The backend ``cpu``, which runs everywhere: numpy, numba, pynndescent and hdbscan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from latentscale.backends.results import Assignment, Clustering, Faithfulness, Fitted, Layout, NeighborGraph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latentscale.backends.shown import PreviewCallback
    from latentscale.machine import Place

# Number of points from which our own spanning tree is used: for fewer, compiling it takes longer than it saves. With
# more dimensions a k-d tree does not help, and the package has other algorithms.
OWN_TREE, _MOST_DIMENSIONS = 50_000, 16


class CpuBackend:
    """Computes all stages on CPUs; see :class:`latentscale.backends.protocol.Backend`."""

    name: ClassVar[str] = "cpu"
    stages: ClassVar[frozenset[str]] = frozenset({"neighbors", "project", "cluster", "place"})
    libraries: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "neighbors": ("pynndescent",),
        "project": ("numba",),
        "cluster": ("hdbscan",),
        "place": ("numba",),
    }
    gpus: ClassVar[float] = 0.0
    auto_from: ClassVar[Mapping[str, int | None]] = {}
    # Up to here a deterministic layout, which runs on one thread, takes seconds.
    deterministic_documents: ClassVar[int] = 20_000

    def __init__(self) -> None:
        # Cached fuzzy set of the last graph: the map and the layout for its clusters share it.
        self._fuzzy: tuple[NeighborGraph, int, Any] | None = None
        # Cached single-linkage hierarchy of the last points: a search for settings clusters the same points repeatedly.
        self._tree: tuple[NDArray[Any], int, NDArray[np.float64]] | None = None

    @classmethod
    def missing(cls, place: Place) -> str | None:
        """Return None: it runs everywhere."""
        return None

    @classmethod
    def unfit(cls, place: Place) -> str | None:
        """Return None."""
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
        """Search exactly for small sets, by NN-descent (Dong et al. 2011) for larger ones."""
        from latentscale.backends.cpu.neighbors import nearest_neighbors

        return nearest_neighbors(
            vectors,
            k=k,
            method=cast(Literal["auto", "exact", "pynndescent"], method),
            recall_target=recall_target,
            seed=seed,
            threads=threads,
        )

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
        """Run UMAP, on one thread if ``deterministic``; with densMAP's term if ``density_weight`` is positive."""
        from latentscale.backends.cpu.density import density_report, log_radii
        from latentscale.backends.cpu.layout import density_correlation, fuzzy_graph, layout

        if self._fuzzy is None or self._fuzzy[0] is not graph or self._fuzzy[1] != n_neighbors:
            self._fuzzy = (graph, n_neighbors, fuzzy_graph(graph, n_neighbors=n_neighbors))
        fuzzy = self._fuzzy[2]
        radii = log_radii(fuzzy, graph) if density_weight > 0 else None
        coordinates = layout(
            fuzzy,
            vectors,
            n_components=n_components,
            min_dist=min_dist,
            spread=spread,
            n_epochs=n_epochs,
            mode="exact" if deterministic else "fast",
            seed=seed,
            negative_sample_rate=negative_sample_rate,
            learning_rate=learning_rate,
            threads=threads,
            progress=progress,
            preview=preview,
            fixed=fixed,
            init=init,
            radii=radii,
            density_weight=density_weight,
        )
        details, notes = {}, []
        if radii is not None:
            details, notes = density_report(
                density_correlation(fuzzy, radii, coordinates, min_dist=min_dist, spread=spread, threads=threads)
            )
        return Layout(
            coordinates=coordinates, deterministic=deterministic, backend=self.name, notes=notes, details=details
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
        """Run HDBSCAN of the package ``hdbscan``; large layouts with our own spanning tree."""
        from latentscale.backends.cpu.clustering import hdbscan

        return hdbscan(
            points,
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            cluster_selection_method=cluster_selection_method,
            cluster_selection_epsilon=cluster_selection_epsilon,
            fit=partial(self._stable_clusters, threads=threads) if _has_own_tree(points) else None,
        )

    def plscan(self, points: NDArray[Any], *, min_samples: int, min_cluster_size: int, threads: int) -> Clustering:
        """Run PLSCAN of the package ``fast-plscan`` on our own spanning tree."""
        from latentscale.backends.cpu.plscan import plscan

        return plscan(
            points,
            min_samples=min_samples,
            min_cluster_size=min_cluster_size,
            threads=threads,
            tree=self._spanning_tree if _has_few_dimensions(points) else None,
        )

    def _stable_clusters(
        self, points: NDArray[Any], *, min_samples: int, threads: int, **selection: Any
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        from latentscale.backends.cpu.density_tree import stable_clusters

        return stable_clusters(self._hierarchy(points, min_samples, threads=threads), **selection)

    def _hierarchy(self, points: NDArray[Any], min_samples: int, *, threads: int) -> NDArray[np.float64]:
        import numpy as np

        from latentscale.backends.cpu.density_tree import single_linkage

        held = self._tree
        if held is None or held[1] != min_samples or not np.array_equal(held[0], points):
            tree = self._spanning_tree(points, min_samples=min_samples, threads=threads)
            self._tree = held = (points.copy(), min_samples, single_linkage(tree))
        return held[2]

    def _spanning_tree(self, points: NDArray[Any], *, min_samples: int, threads: int) -> NDArray[np.float64]:
        from latentscale.backends.cpu.spanning import spanning_tree

        return spanning_tree(points, min_samples=min_samples, threads=threads)

    def kmeans(self, vectors: NDArray[Any], *, n_clusters: int | None, seed: int, threads: int) -> Clustering:
        """Run spherical K-means, with the same bits for any number of threads."""
        from latentscale.backends.cpu.clustering import kmeans

        return kmeans(vectors, n_clusters=n_clusters, seed=seed, threads=threads)

    def kmeans_of_layout(self, points: NDArray[Any], *, n_clusters: int | None, seed: int, threads: int) -> Clustering:
        """Run K-means with a k-d tree of the centroids, with the same bits for any number of threads."""
        from latentscale.backends.cpu.layout_kmeans import kmeans_of_layout

        return kmeans_of_layout(points, n_clusters=n_clusters, seed=seed, threads=threads)

    def dbscan(
        self, points: NDArray[Any], *, eps: float | None, min_samples: int, min_cluster_size: int, threads: int
    ) -> Clustering:
        """Run DBSCAN* on the spanning tree of HDBSCAN."""
        from latentscale.backends.cpu.dbscan import dbscan

        return dbscan(
            points,
            eps=eps,
            min_samples=min_samples,
            min_cluster_size=min_cluster_size,
            hierarchy=partial(self._hierarchy, threads=threads) if _has_own_tree(points) else None,
        )

    def agglomerative(self, points: NDArray[Any], *, n_clusters: int, seed: int) -> Clustering:
        """Run Ward's method, over centroids of scikit-learn's K-means where there are many documents."""
        from latentscale.backends.cpu.agglomerative import agglomerative

        return agglomerative(points, n_clusters=n_clusters, seed=seed)

    def nearest_centroid(
        self, vectors: NDArray[Any], labels: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Assign by blocked matrix products."""
        from latentscale.backends.cpu.clustering import nearest_centroid

        return nearest_centroid(vectors, labels)

    def layer_tree(
        self,
        centroids: NDArray[np.float32],
        sizes: NDArray[Any],
        *,
        factor: float,
        max_layers: int,
        counts: Sequence[int] = (),
    ) -> list[NDArray[np.int32]]:
        """Merge centroids, weighted by cluster size, by Ward's method."""
        from latentscale.backends.cpu.layers import layer_tree

        return layer_tree(centroids, sizes, factor=factor, max_layers=max_layers, counts=counts)

    def assign(
        self,
        vectors: NDArray[np.float32],
        fitted: Fitted,
        *,
        keys: NDArray[np.uint64],
        n_neighbors: int,
        spread: float,
        recall_target: float,
        seed: int,
        threads: int,
    ) -> Assignment:
        """Search the fitted graph, vote on the cluster, and place each document at the mode of its neighbours."""
        import numpy as np

        from latentscale.backends.cpu.placement import assign_clusters, place
        from latentscale.backends.cpu.placement_search import LISTED, neighbors_among
        from latentscale.backends.outliers import (
            JUDGED_BY,
            distance_quantiles,
            mean_distances,
            outlier_scores,
            small_fit_notes,
        )

        graph = fitted.graph
        used = min(max(n_neighbors, JUDGED_BY), len(fitted.vectors))
        search = neighbors_among(
            vectors,
            fitted.vectors,
            k=max(used, LISTED),
            graph_indices=graph.indices if graph.k else None,
            recall_target=recall_target,
            seed=seed,
            threads=threads,
        )
        indices = np.ascontiguousarray(search.indices[:, :used])
        distances = np.ascontiguousarray(search.distances[:, :used])
        coordinates = place(
            indices,
            distances,
            fitted.coordinates,
            n_neighbors=n_neighbors,
            spread=spread,
            seed=seed,
            keys=keys,
        )
        cluster, nearest, probability = assign_clusters(
            indices,
            distances,
            cluster=fitted.cluster,
            probability=fitted.probability,
            vectors=vectors,
            centroids=fitted.centroids,
            sizes=fitted.sizes,
        )
        # As many neighbours as the fitted documents have; a single fitted document has none, but counts as one.
        width = min(JUDGED_BY, max(graph.k, 1))
        apart = mean_distances(distances[:, :width])
        scores = outlier_scores(apart, distance_quantiles(graph.distances[:, :width]))
        return Assignment(
            indices=indices,
            nearest=search.indices,
            nearest_distances=search.distances,
            coordinates=coordinates,
            cluster=cluster,
            nearest_cluster=nearest,
            probability=probability,
            neighbor_distance=apart,
            outlier_score=scores,
            recall=search.recall,
            method=search.method,
            backend=self.name,
            notes=[*search.notes, *small_fit_notes(len(fitted.vectors))],
            details=search.details,
        )

    def faithfulness(
        self, vectors: NDArray[Any], coordinates: NDArray[Any], *, k: int, sample: int, seed: int, threads: int
    ) -> Faithfulness:
        """Measure by blocked matrix products with the sampled documents."""
        from latentscale.backends.cpu.faithfulness import faithfulness

        return faithfulness(vectors, coordinates, k=k, sample=sample, seed=seed, threads=threads)


def _has_own_tree(points: NDArray[Any]) -> bool:
    return len(points) >= OWN_TREE and _has_few_dimensions(points)


def _has_few_dimensions(points: NDArray[Any]) -> bool:
    return points.ndim == 2 and points.shape[1] <= _MOST_DIMENSIONS
