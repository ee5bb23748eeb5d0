"""The initial view of a map: a bounding box that ignores a few outliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 100_000
# Leaving 1 % of the points outside has to enlarge the picture by 3.5 %.
_OUTSIDE_WEIGHT = 3.5
_MAX_OUTSIDE = 0.12


def body_frame(coordinates: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Compute the box (x0, y0, x1, y1) of the initial view of a map.

    Layouts have islands far from the rest, so that the box of all points, or of percentiles, is mostly empty. The frame
    is a local minimum of ``log(sqrt(width * height)) + 3.5 * share outside``, found by moving one side at a time, with
    at most 12 % of the points outside. Layouts without islands lose few points: a uniform square none, a normal
    distribution 5 %.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, 2)
        Finite, n at least 1.
    """
    points = coordinates[:: max(1, len(coordinates) // _SAMPLE)].astype(np.float64)
    min_extent = np.maximum(np.ptp(points, axis=0), 1e-9) * 1e-3
    best, lowest = _trim(points, np.array([points.min(axis=0), points.max(axis=0)]), min_extent)
    for tail in (2.0, 5.0):
        box, cost = _trim(points, np.percentile(points, (tail, 100 - tail), axis=0), min_extent)
        if cost < lowest:
            best, lowest = box, cost
    return float(best[0, 0]), float(best[0, 1]), float(best[1, 0]), float(best[1, 1])


def _trim(
    points: NDArray[np.float64], box: NDArray[np.float64], min_extent: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Move the sides of ``box``, (low, high) by (x, y), one by one until the cost stops falling; return both."""
    box = box.copy()
    cost = np.inf
    for _ in range(12):
        before = cost
        for axis in (0, 1):
            other = points[:, 1 - axis]
            in_other_axis = (other >= box[0, 1 - axis]) & (other <= box[1, 1 - axis])
            line = np.sort(points[in_other_axis, axis])
            if not len(line):
                continue
            across = max(box[1, 1 - axis] - box[0, 1 - axis], min_extent[1 - axis])
            for end in (0, 1):
                fixed = box[1 - end, axis]
                # Each point is a candidate for the side; points beyond it are outside.
                candidates = line if end else line[::-1]
                inside = np.arange(1, len(candidates) + 1) - np.searchsorted(
                    line if end else -line[::-1], _sign(end) * fixed
                )
                width = np.maximum(_sign(end) * (candidates - fixed), min_extent[axis])
                outside = 1 - inside / len(points)
                costs = 0.5 * np.log(width * across) + _OUTSIDE_WEIGHT * outside
                costs[(inside <= 0) | (outside > _MAX_OUTSIDE)] = np.inf
                k = int(np.argmin(costs))
                if np.isfinite(costs[k]) and costs[k] <= cost:
                    box[end, axis], cost = candidates[k], float(costs[k])
        if before - cost < 1e-6:
            break
    return box, cost


def _sign(end: int) -> int:
    return 1 if end else -1
