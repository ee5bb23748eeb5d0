"""What the numerical backends hand back: plain arrays with how they were made."""

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
        Positions, nearest first, ties by position; never the row itself, never one twice. ``k = min(asked, n - 1)``.
    distances : float32 ndarray, shape (n, k)
        Cosine distances in [0, 2]; exactly 0 for identical vectors.
    recall : float or None
        Share of the true 15 (or ``k``, if smaller) nearest that were found, on a sample; 1.0 for an exact search,
        None for fewer than two documents.
    method : {"exact", "pynndescent"}
        The search that was used.
    notes : list of str
        What the user should be told, in sentences.
    details : dict
        Why this method, the settings of the search, how often it was widened, the size of the recall sample.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    recall: float | None
    method: str
    notes: list[str] = field(default_factory=list[str])
    details: dict[str, Any] = field(default_factory=dict[str, Any])

    def __len__(self) -> int:
        return int(self.indices.shape[0])

    @property
    def k(self) -> int:
        """Neighbours a document."""
        return int(self.indices.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """A cluster for every document.

    Attributes
    ----------
    labels : int32 ndarray, shape (n,)
        Cluster ids from 0 by falling size (ties: the cluster with the first member); -1 is noise.
    probabilities : float32 ndarray, shape (n,)
        How firmly a document belongs to its cluster, in [0, 1]; 0 for noise.
    persistence : float32 ndarray, shape (n_clusters,)
        HDBSCAN's stability of each cluster in [0, 1]; NaN where the method has none.
    method : str
        What computed it.
    notes : list of str
        What the user should be told, in sentences.
    details : dict
        The settings as they were used, and what was tried on the way.
    """

    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]
    persistence: NDArray[np.float32]
    method: str
    notes: list[str] = field(default_factory=list[str])
    details: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def n_clusters(self) -> int:
        """Clusters, noise not counted."""
        return int(self.persistence.shape[0])
