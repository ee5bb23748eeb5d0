"""Where all documents of a large generation lie, in a few cells: the shade behind the sample that a page draws."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.viewer.rows import parquet_bytes

RASTER_CELLS = 512
# Fewer documents are drawn whole, or nearly so, on any machine.
RASTER_LEAST = 65_536
_CHUNK = 4_000_000


def density_raster(coordinates: NDArray[np.float32], *, origin: tuple[float, float], side: float) -> bytes:
    """``density.parquet``: one column ``value`` (uint8), a cell of the root's square each, rows from the lowest y on.

    A value is ``log(1 + documents) / log(1 + most documents of a cell)`` times 255, at least 1 where there is any.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, 2)
        Of the generation, n at least 1.
    origin, side
        Lowest corner and edge of the square, in units of the map.
    """
    counts = np.zeros(RASTER_CELLS**2, np.int64)
    for start in range(0, len(coordinates), _CHUNK):
        part = coordinates[start : start + _CHUNK].astype(np.float64)
        cells = np.clip((part - origin) * (RASTER_CELLS / side), 0, RASTER_CELLS - 1).astype(np.int64)
        counts += np.bincount(cells[:, 1] * RASTER_CELLS + cells[:, 0], minlength=RASTER_CELLS**2)
    values = np.log1p(counts) * (255 / np.log1p(counts.max()))
    table = pa.table({"value": np.where(counts > 0, np.maximum(values.round(), 1), 0).astype(np.uint8)})
    return parquet_bytes(table)
