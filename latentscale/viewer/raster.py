"""Density raster of all documents of a large generation, drawn behind the sample of points that the page loads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.viewer.density import blurred
from latentscale.viewer.rows import parquet_bytes

RASTER_CELLS = 256
# Below this number, all or nearly all documents are drawn on any machine.
RASTER_LEAST = 65_536
# Every fourth of 256 values: the steps are not visible, and the file has a third of the bytes.
_STEP = 4
_CHUNK = 4_000_000


def density_raster(coordinates: NDArray[np.float32], *, origin: tuple[float, float], side: float) -> bytes:
    """Return ``density.parquet``: one column ``value`` (uint8), a row per cell of the root's square, from the lowest y.

    A value is ``log(1 + count)`` of a cell after a Gaussian filter (sigma of two cells), in 63 steps of 4 up to the
    densest cell.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, 2)
        Those of the generation, n at least 1.
    origin, side
        Lowest corner and edge of the square, in units of the map.
    """
    counts = np.zeros(RASTER_CELLS**2, np.int64)
    for start in range(0, len(coordinates), _CHUNK):
        block = coordinates[start : start + _CHUNK].astype(np.float64)
        cells = np.clip((block - origin) * (RASTER_CELLS / side), 0, RASTER_CELLS - 1).astype(np.int64)
        counts += np.bincount(cells[:, 1] * RASTER_CELLS + cells[:, 0], minlength=RASTER_CELLS**2)
    spread = blurred(blurred(counts.reshape(RASTER_CELLS, -1).astype(np.float32)).T).T
    values = np.log1p(spread) * (63 / np.log1p(spread.max()))
    return parquet_bytes(pa.table({"value": values.round().astype(np.uint8).ravel() * np.uint8(_STEP)}))
