"""The protocol of numerical backends, which compute the stages of a map that need all documents at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from latentscale.backends.results import Assignment, Clustering, Faithfulness, Fitted, Layout, NeighborGraph

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latentscale.backends.shown import PreviewCallback
    from latentscale.machine import Place

__all__ = ["Assignment", "Backend", "Clustering", "Faithfulness", "Fitted", "Layout", "NeighborGraph"]


class Backend(Protocol):
    """Computes on CPUs or on a GPU; arguments and results are arrays in host memory.

    Attributes
    ----------
    name : str
        As in ``latentscale.registry.BACKENDS``, in settings and in records.
    stages : frozenset of str
        The stages that it computes, of ``neighbors`` (with :meth:`faithfulness`), ``project``, ``cluster`` and
        ``place``. ``auto`` chooses another backend for the rest.
    libraries : mapping of str to tuple of str
        Packages that compute a stage, for display.
    gpus : float
        GPUs per worker, reserved where the backend is chosen by name and ``engine.resources`` has no value.
    auto_from : mapping of str to int or None
        Smallest number of documents for which ``auto`` chooses it for a stage, because it is faster; None: only by
        name. No limit for stages that are not listed.
    deterministic_documents : int
        Largest number of documents for which ``project.mode: auto`` is deterministic.
    """

    name: ClassVar[str]
    stages: ClassVar[frozenset[str]]
    libraries: ClassVar[Mapping[str, tuple[str, ...]]]
    gpus: ClassVar[float]
    auto_from: ClassVar[Mapping[str, int | None]]
    deterministic_documents: ClassVar[int]

    @classmethod
    def missing(cls, place: Place) -> str | None:
        """Return why it cannot run at a place, with the command that would help; None where it can."""
        ...

    @classmethod
    def unfit(cls, place: Place) -> str | None:
        """Return why ``auto`` should not choose it at a place where it can run; None where it should."""
        ...

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
        """Find the ``k`` nearest other documents of each, by cosine distance.

        Parameters
        ----------
        vectors : float32 ndarray, shape (n, dim)
            Unit rows; may be a mapped file, which should not be copied.
        method : str
            ``auto``, ``exact`` or the name of an approximate search of this backend.
        recall_target : float
            Recall that an approximate search must reach, measured on a sample.
        """
        ...

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
        """Lay documents out with UMAP (McInnes et al. 2018) over a neighbour graph.

        Parameters
        ----------
        graph : NeighborGraph
            With at least ``n_neighbors - 1`` neighbours; UMAP counts the document itself.
        vectors : ndarray, shape (n, dim)
            What the graph was built from; for the initial coordinates.
        deterministic : bool
            Be reproducible to the bit on this kind of machine.
        fixed : float32 ndarray, shape (n, c), optional
            The first ``c`` coordinates of each document, which are not moved: only the others are optimised. Passed
            only for a map of three dimensions.
        init : float32 ndarray, shape (n, n_components), optional
            Initial coordinates; by default the first principal components of ``vectors``. Passed only for a layout
            that starts from an earlier one.
        density_weight : float
            Weight of the local densities of the embedding (densMAP, Narayan et al. 2021), on the scale of
            umap-learn's ``dens_lambda``. Passed only where it is above 0; ``details`` then has
            ``density_correlation``, Pearson's correlation of logarithmic local radii in the embedding and the layout.
        preview : callable, optional
            Called with (coordinates, epochs done, epochs) where ``latentscale.backends.shown.is_shown`` is true: after
            each quarter of the epochs but the last. The coordinates are those of a copy that has run the additional
            epochs of ``latentscale.backends.shown.cooling``. Passed only where a preview is requested; it must not
            change the layout.

        Raises
        ------
        ShapeError
            If the graph has too few neighbours, or is of another number of documents.
        """
        ...

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
        """Cluster points, float of shape (n, d), by density (Campello et al. 2015), with Euclidean distances."""
        ...

    def plscan(self, points: NDArray[Any], *, min_samples: int, min_cluster_size: int, threads: int) -> Clustering:
        """Cluster points, float of shape (n, d), by PLSCAN (Bot et al. 2025): leaves of the most persistent size."""
        ...

    def kmeans(self, vectors: NDArray[Any], *, n_clusters: int | None, seed: int, threads: int) -> Clustering:
        """Cluster directions (spherical K-means); None chooses the number by a silhouette curve."""
        ...

    def kmeans_of_layout(self, points: NDArray[Any], *, n_clusters: int | None, seed: int, threads: int) -> Clustering:
        """Cluster points, float of shape (n, d), by K-means with Euclidean distances; None as for ``kmeans``."""
        ...

    def dbscan(
        self, points: NDArray[Any], *, eps: float | None, min_samples: int, min_cluster_size: int, threads: int
    ) -> Clustering:
        """Cluster points by DBSCAN*, with Euclidean distances; None chooses ``eps`` and reports it in a note."""
        ...

    def agglomerative(self, points: NDArray[Any], *, n_clusters: int, seed: int) -> Clustering:
        """Cluster points by Ward's method (Ward 1963), with Euclidean distances; no noise."""
        ...

    def nearest_centroid(
        self, vectors: NDArray[Any], labels: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Assign noise to the nearest centroid by cosine: (cluster of each document, unit centroids)."""
        ...

    def layer_tree(
        self,
        centroids: NDArray[np.float32],
        sizes: NDArray[Any],
        *,
        factor: float,
        max_layers: int,
        counts: Sequence[int] = (),
    ) -> list[NDArray[np.int32]]:
        """Merge clusters into coarser layers by Ward's method: the group of each cluster, for each layer.

        ``counts`` are the requested numbers of groups per layer; without them each layer has about ``factor`` times
        fewer than the one below.
        """
        ...

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
        """Place new documents, unit rows of shape (m, dim), on a fitted map.

        Parameters
        ----------
        keys : uint64 ndarray, shape (m,)
            A hash of each document's id, which seeds the randomness of its position.
        """
        ...

    def faithfulness(
        self, vectors: NDArray[Any], coordinates: NDArray[Any], *, k: int, sample: int, seed: int, threads: int
    ) -> Faithfulness:
        """Measure trustworthiness and preservation at ``k`` of a layout, on a sample, against all documents."""
        ...
