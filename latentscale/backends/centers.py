"""Centres of clusters on a layout, and the nearest centre of a position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def centers_of(points: NDArray[Any], labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Compute the mean position of the documents of each cluster.

    Parameters
    ----------
    points : ndarray, shape (n, d)
    labels : int32 ndarray, shape (n,)
        -1 is noise.
    count : int
        Number of clusters.

    Returns
    -------
    float64 ndarray, shape (count, d)
        NaN for a cluster without documents.
    """
    kept = labels >= 0
    members = labels[kept]
    sizes = np.bincount(members, minlength=count).astype(np.float64)
    sums = [np.bincount(members, weights=points[kept, axis], minlength=count) for axis in range(points.shape[1])]
    with np.errstate(invalid="ignore"):
        return np.stack(sums, axis=1) / sizes[:, None]


def nearest_center(
    points: NDArray[Any], centers: NDArray[np.float64], *, threads: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the nearest centre of each point (Euclidean), and its simplified silhouette.

    Parameters
    ----------
    points : ndarray, shape (m, d)
    centers : float64 ndarray, shape (k, d)
        Finite; at least one.

    Returns
    -------
    nearest : int32 ndarray, shape (m,)
    closeness : float32 ndarray, shape (m,)
        Simplified silhouette (Hruschka et al. 2004): one minus the ratio of the distances to the nearest and the second
        nearest centre; 1 if there is only one.
    """
    from scipy.spatial import KDTree

    found = KDTree(centers).query(points, k=min(2, len(centers)), workers=max(1, threads))
    distances, indices = (np.asarray(one).reshape(len(points), -1) for one in found)
    if distances.shape[1] == 1:
        return indices[:, 0].astype(np.int32), np.ones(len(points), np.float32)
    own, other = distances[:, 0], distances[:, 1]
    closeness = 1.0 - own / np.where(other > 0, other, 1.0)
    return indices[:, 0].astype(np.int32), closeness.astype(np.float32)
