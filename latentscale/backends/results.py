"""Results of the numerical backends: plain arrays, with a record of how they were computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborGraph:
    """The nearest other documents of every document, by cosine distance.

    Attributes
    ----------
    indices : int32 ndarray, shape (n, k)
        Positions, nearest first, ties by position; without the row itself and repetitions. At most ``n - 1``.
    distances : float32 ndarray, shape (n, k)
        Cosine distances in [0, 2]; exactly 0 for identical vectors.
    recall : float or None
        Share of the true 15 (or ``k``, if smaller) nearest that were found, on a sample; 1.0 for an exact search,
        None for fewer than two documents.
    method : {"exact", "pynndescent", "nn_descent"}
        The search that was used.
    notes : list of str
        Notes for the user, in sentences.
    details : dict
        The reason for the method, the settings of the search, its attempts, the size of the recall sample.
    backend : str
        What computed it.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    recall: float | None
    method: str
    notes: list[str] = field(default_factory=list[str])
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    backend: str = "cpu"

    def __len__(self) -> int:
        return int(self.indices.shape[0])

    @property
    def k(self) -> int:
        """Number of neighbours per document."""
        return int(self.indices.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """A cluster for every document.

    Attributes
    ----------
    labels : int32 ndarray, shape (n,)
        Cluster ids from 0 by falling size (ties: the cluster with the first member); -1 is noise.
    probabilities : float32 ndarray, shape (n,)
        Strength of the membership, in [0, 1]; 0 for noise.
    persistence : float32 ndarray, shape (n_clusters,)
        HDBSCAN's stability of each cluster in [0, 1]; NaN where the method has none.
    method : str
        What computed it.
    notes : list of str
        Notes for the user, in sentences.
    details : dict
        The effective settings, and intermediate results.
    backend : str
        What computed it.
    """

    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    persistence: NDArray[np.float32]
    method: str
    notes: list[str] = field(default_factory=list[str])
    details: dict[str, Any] = field(default_factory=dict[str, Any])
    backend: str = "cpu"

    @property
    def n_clusters(self) -> int:
        """Number of clusters, without noise."""
        return int(self.persistence.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Coordinates of every document.

    Attributes
    ----------
    coordinates : float32 ndarray, shape (n, n_components)
        Unitless.
    deterministic : bool
        Whether the same call is reproducible to the bit on this kind of machine.
    backend : str
        What computed it.
    notes : list of str
        Notes for the user, in sentences.
    details : dict
        The effective settings.
    """

    coordinates: NDArray[np.float32]
    deterministic: bool
    backend: str = "cpu"
    notes: list[str] = field(default_factory=list[str])
    details: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Positions of new documents on a fitted map, whose points do not move.

    Attributes
    ----------
    indices : int32 ndarray, shape (m, k)
        Positions of their fitted neighbours, nearest first.
    coordinates : float32 ndarray, shape (m, 2)
    cluster, nearest_cluster : int32 ndarray, shape (m,)
        -1 is noise; ``nearest_cluster`` is then the cluster with the nearest centroid.
    probability : float32 ndarray, shape (m,)
    neighbor_distance : float32 ndarray, shape (m,)
        Mean cosine distance to the 15 nearest fitted documents; with n < 16 of them to the n - 1 nearest (as many
        neighbours as each of them has), but at least one.
    outlier_score : float32 ndarray, shape (m,)
        Share of the fitted documents with a smaller such distance, in [0, 1]; 0 where a single one was fitted.
    recall : float or None
        Of the search for the neighbours, on a sample.
    method : str
        The search that was used.
    nearest : int32 ndarray, shape (m, w), or None
        Positions of further nearest fitted documents, for lists of similar documents; ``w >= k``.
    nearest_distances : float32 ndarray, shape (m, w), or None
        Their cosine distances.
    backend : str
        What computed it.
    notes : list of str
    details : dict
    """

    indices: NDArray[np.int32]
    coordinates: NDArray[np.float32]
    cluster: NDArray[np.int32]
    nearest_cluster: NDArray[np.int32]
    probability: NDArray[np.float32]
    neighbor_distance: NDArray[np.float32]
    outlier_score: NDArray[np.float32]
    recall: float | None
    method: str
    nearest: NDArray[np.int32] | None = None
    nearest_distances: NDArray[np.float32] | None = None
    backend: str = "cpu"
    notes: list[str] = field(default_factory=list[str])
    details: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The parts of a fitted map that are needed to place new documents.

    Attributes
    ----------
    vectors : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file.
    graph : NeighborGraph
        Of these documents.
    coordinates : float32 ndarray, shape (n, 2)
    cluster : int32 ndarray, shape (n,)
    probability : float32 ndarray, shape (n,)
    centroids : float32 ndarray, shape (n_clusters, dim)
    sizes : int ndarray, shape (n_clusters,)
        0 for an unused id.
    """

    vectors: NDArray[np.float32]
    graph: NeighborGraph
    coordinates: NDArray[np.float32]
    cluster: NDArray[np.int32]
    probability: NDArray[np.float32]
    centroids: NDArray[np.float32]
    sizes: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Faithfulness:
    """How well a layout preserves the neighbourhoods of the embedding, on a sample of documents.

    Attributes
    ----------
    trustworthiness : float or None
        Venna and Kaski 2001, in [0, 1]: 1 if all neighbours in the layout are neighbours in the embedding. None where
        it is undefined (fewer than about ``1.5 k`` documents).
    preservation : float or None
        Share of a document's ``k`` nearest in the embedding that are among its ``k`` nearest in the layout.
    k : int
        Number of neighbours.
    sample : int
        Number of sampled documents.
    """

    trustworthiness: float | None
    preservation: float | None
    k: int
    sample: int
