"""Heights (z) of new documents on a fitted three-dimensional map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_AT_ONCE = 16_384
# The kernel is as wide as the distance to this neighbour.
_CLOSE = 4


def place_heights(
    indices: NDArray[np.int32],
    coordinates: NDArray[np.float32],
    space: NDArray[np.float32],
    *,
    n_neighbors: int,
) -> NDArray[np.float32]:
    """Compute heights of placed documents as the weighted median of the heights of their fitted neighbours.

    The weight is a Cauchy kernel of the distance on the flat map, as wide as the distance to the fourth nearest
    neighbour: neighbours elsewhere on the map have little weight. A document that was placed on a fitted one gets its
    height. The result depends only on the document's own position and neighbours, not on other new documents.

    Parameters
    ----------
    indices : int32 ndarray, shape (m, k)
        Positions of the fitted neighbours, nearest first.
    coordinates : float32 ndarray, shape (m, 2)
        Positions of the new documents on the flat map.
    space : float32 ndarray, shape (n, 3)
        Coordinates of the fitted documents.
    n_neighbors : int
        Number of neighbours to use; all where there are fewer.

    Returns
    -------
    float32 ndarray, shape (m,)

    Raises
    ------
    ShapeError
        If the arrays do not belong together.
    """
    m = len(indices)
    if coordinates.shape != (m, 2) or space.ndim != 2 or space.shape[1] != 3:
        raise ShapeError(
            f"{m:,} documents with neighbours, places of shape {coordinates.shape} and fitted ones of {space.shape} do "
            "not match"
        )
    heights = np.empty(m, np.float32)
    k = min(n_neighbors, indices.shape[1])
    if m and k == 0:
        raise ShapeError("a document without fitted neighbours has no height")
    for start in range(0, m, _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        heights[block] = _heights(space[indices[block, :k]].astype(np.float64), coordinates[block].astype(np.float64))
    return heights


def _heights(neighbors: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[Any]:
    """Weighted medians: ``neighbors`` of shape (m, k, 3), ``at`` of shape (m, 2)."""
    apart = ((neighbors[:, :, :2] - at[:, None]) ** 2).sum(axis=2)
    close = min(_CLOSE, apart.shape[1]) - 1
    width = np.partition(apart, close, axis=1)[:, close]
    weights = 1.0 / (1.0 + apart / np.where(width > 0, width, 1.0)[:, None])
    # At distance 0 from a fitted document only that one counts.
    weights = np.where((apart == 0).any(axis=1, keepdims=True), (apart == 0).astype(np.float64), weights)
    order = np.argsort(neighbors[:, :, 2], axis=1, kind="stable")
    sums = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    middle = (sums < sums[:, -1:] / 2).sum(axis=1)
    chosen = np.take_along_axis(order, middle[:, None], axis=1)
    return np.take_along_axis(neighbors[:, :, 2], chosen, axis=1)[:, 0]
