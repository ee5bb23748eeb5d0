"""Density of a map at each document, as one byte for colouring."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BINS = 512
_SAMPLE = 1_000_000
_SIGMA = 2.0
_RADIUS = 8  # four standard deviations


def map_density(coordinates: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Logarithm of a smoothed 2-D histogram of the whole map at each document; uint8, shape (n,), 255 is the densest.

    An update passes the coordinates of all documents, old and new, and uses the rows of the new ones: relative to
    themselves, a few new documents would look as dense as the whole map.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, 2)
        Finite, n at least 1.
    """
    sample = coordinates[:: max(1, len(coordinates) // _SAMPLE)]
    low, high = np.quantile(sample, [0.005, 0.995], axis=0)
    span = np.maximum(high - low, 1e-12)
    bins = np.clip((coordinates - low) / span * _BINS, 0, _BINS - 1).astype(np.int32)
    cell = bins[:, 1] * _BINS + bins[:, 0]
    counts = np.bincount(cell, minlength=_BINS**2).reshape(_BINS, _BINS).astype(np.float32)
    smooth = np.log1p(blurred(blurred(counts).T).T)
    top = float(smooth.max()) or 1.0
    return np.round(smooth.ravel()[cell] * (255 / top)).astype(np.uint8)


def blurred(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply a Gaussian filter along the first axis, zero padded.

    SciPy has one, but importing it takes longer than writing the page of an update.
    """
    steps = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-0.5 * (steps / _SIGMA) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    padded = np.pad(grid, ((_RADIUS, _RADIUS), (0, 0)))
    blurred = np.zeros_like(grid)
    for offset, weight in enumerate(weights):
        blurred += weight * padded[offset : offset + len(grid)]
    return blurred
