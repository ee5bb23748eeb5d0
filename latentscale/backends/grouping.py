"""Members of clusters, cluster ids by size, and the number of points for Ward's method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Ward's method needs a matrix of all pairs: 32 MB for the first number of points, half a gigabyte for the second.
_USUALLY_JOINED, _MOSTLY_JOINED = 2_000, 8_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Members of each cluster, in CSR form.

    Attributes
    ----------
    order : int64 ndarray, shape (n,)
        Positions of all documents by cluster, ascending within one; those in no cluster come first.
    starts : int64 ndarray, shape (n_clusters + 1,)
        ``order[starts[c]:starts[c + 1]]`` are the members of cluster ``c``.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, cluster: int) -> NDArray[np.int64]:
        """Positions of the members of a cluster, ascending; none for an id above the highest."""
        if not 0 <= cluster < len(self):
            return self.order[:0]
        return self.order[self.starts[cluster] : self.starts[cluster + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (self[cluster] for cluster in range(len(self)))


def members_by_cluster(membership: NDArray[np.integer]) -> Members:
    """Sort documents by their cluster, once for all clusters: O(n log n) whatever their number.

    Parameters
    ----------
    membership : int ndarray, shape (n,)
        Cluster of each document; negative where there is none.
    """
    order = np.argsort(membership, kind="stable")
    highest = int(membership.max(initial=-1))
    return Members(order=order, starts=np.searchsorted(membership, np.arange(highest + 2), sorter=order))


def ids_by_size(labels: NDArray[np.int32], weights: NDArray[np.float64] | None = None) -> NDArray[np.int32]:
    """Relabel clusters by descending size (or total weight), ties by first member; -1 stays."""
    ids, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    sizes = np.bincount(inverse, weights=weights, minlength=len(ids))
    order = [i for i in np.lexsort((first, -sizes)) if ids[i] >= 0]
    renamed = np.full(len(ids), -1, np.int32)
    renamed[order] = np.arange(len(order), dtype=np.int32)
    return renamed[inverse]


def joined_at_most(n_clusters: int) -> int:
    """Largest number of points that Ward's method merges directly for ``n_clusters``; each pair takes 8 bytes."""
    return max(_USUALLY_JOINED, n_clusters, min(4 * n_clusters, _MOSTLY_JOINED))
