"""Kernel density of a layout, and outlines of its clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from latentscale.backends.grouping import members_by_cluster

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Cells along the widest side.
_CELLS = {2: 512, 3: 96}
_BANDWIDTH = {2: 0.01, 3: 0.03}
_SHARE = 0.95


def density(coordinates: NDArray[Any]) -> NDArray[np.float32]:
    """Estimate the documents per unit of area (2-D) or volume (3-D) around each document.

    A Gaussian kernel density estimate on a grid, linearly interpolated; linear in n. The kernel's standard deviation is
    1 % (in 3-D 3 %) of the largest extent of the middle 98 % of the layout, and at least one cell of the grid.

    Parameters
    ----------
    coordinates : ndarray, shape (n, 2 or 3)

    Returns
    -------
    float32 ndarray, shape (n,)
        Documents per squared (cubed) unit of the coordinates; the document itself counts. 0 if all are at one point.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    points = np.asarray(coordinates, np.float64)
    n, dim = points.shape
    if n == 0:
        return np.empty(0, np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    middle = np.percentile(points, [1, 99], axis=0)
    extent = float((middle[1] - middle[0]).max()) or float((high - low).max())
    if extent == 0:
        return np.zeros(n, np.float32)
    cells = _CELLS[dim]
    # Square cells; a margin of four standard deviations keeps the whole kernel of every document on the grid.
    cell = max(float((high - low).max()) / (cells - 8), _BANDWIDTH[dim] * extent / 4)
    sigma = max(_BANDWIDTH[dim] * extent / cell, 1.0)
    margin = 4 * sigma + 1
    shape = [min(cells * 4, int(np.ceil(width / cell)) + 1 + 2 * int(margin)) for width in high - low]
    grid_position = (points - low) / cell + int(margin)
    # Multilinear binning, the adjoint of the interpolation below.
    grid = np.zeros(shape)
    base = np.floor(grid_position).astype(np.int64)
    part = grid_position - base
    for corner in np.ndindex(*(2,) * dim):
        share = np.prod(np.where(corner, part, 1.0 - part), axis=1)
        np.add.at(grid, tuple((base + corner).T), share)
    smooth = gaussian_filter(grid, sigma, mode="constant", truncate=4.0)
    return (map_coordinates(smooth, grid_position.T, order=1, mode="nearest") / cell**dim).astype(np.float32)


def largest_piece(points: NDArray[Any]) -> NDArray[np.int64]:
    """Find the members of a cluster that are in its largest connected piece on the map.

    Pieces are connected components of the non-empty cells of a histogram, dilated by one cell: about one cell per
    document of an even square, and at most 64 cells along the longer side.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
        Of one cluster, finite.

    Returns
    -------
    int64 ndarray, shape (m,)
        Ascending; all of them where there are fewer than 16, or all are at one point.
    """
    from scipy.ndimage import label, uniform_filter

    n = len(points)
    if n < 16:
        return np.arange(n)
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    side = float((high - low).max())
    if not side > 0:
        return np.arange(n)
    cells = int(min(64, np.sqrt(n)))
    # A margin of one cell on each side.
    at = np.minimum((points - low) * (cells / side), cells - 1e-6).astype(np.int64) + 1
    counts = np.zeros((cells + 2, cells + 2))
    np.add.at(counts, (at[:, 1], at[:, 0]), 1.0)
    found = label(uniform_filter(counts, 3, mode="constant") > 1e-9, np.ones((3, 3)))
    pieces, count = cast("tuple[NDArray[np.int32], int]", found)
    if count < 2:
        return np.arange(n)
    own = pieces[at[:, 1], at[:, 0]]
    return np.flatnonzero(own == np.argmax(np.bincount(own)))


def hulls(coordinates: NDArray[Any], labels: NDArray[np.int32]) -> list[NDArray[np.float32]]:
    """Compute the convex hull of the 95 % of each cluster's members that are nearest to its median position.

    Parameters
    ----------
    coordinates : ndarray, shape (n, 2)
    labels : int32 ndarray, shape (n,)

    Returns
    -------
    list of float32 ndarray, shape (corners, 2)
        One per cluster id, counter-clockwise, not closed; of shape (0, 2) where the kept members have fewer than three
        distinct positions, or are collinear.
    """
    from scipy.spatial import ConvexHull, QhullError

    points = np.asarray(coordinates, np.float64)
    outlines: list[NDArray[np.float32]] = []
    for positions in members_by_cluster(labels):
        members = points[positions]
        outline = np.empty((0, 2), np.float32)
        if len(members) >= 3:
            away = ((members - np.median(members, axis=0)) ** 2).sum(axis=1)
            kept = members[np.argsort(away, kind="stable")[: max(3, round(_SHARE * len(members)))]]
            if len(np.unique(kept, axis=0)) >= 3:
                try:
                    outline = kept[ConvexHull(kept).vertices].astype(np.float32)
                except QhullError:  # collinear
                    outline = np.empty((0, 2), np.float32)
        outlines.append(outline)
    return outlines
