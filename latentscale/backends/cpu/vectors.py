"""Validate and normalize vectors and layouts; float32 unit rows are passed through without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.parallel import blocks
from latentscale.errors import CorpusError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_ROWS = 8192
# A row that was divided by its length in double precision and rounded to float32 is nearer to 1 than this, and
# 1 - x·x stays below what the neighbour search takes for zero.
_TOLERANCE = 2.5e-7


def unit_rows(vectors: NDArray[Any], *, what: str = "the embedding") -> NDArray[np.float32]:
    """Return ``vectors`` (n, dim) as float32 rows of length 1.

    A C-contiguous float32 array whose rows have length 1 or 0 is returned as it is, a mapped file included: it is read
    once, in blocks, and not copied. Everything else is copied (4 bytes per value) and normalized. Rows of zeros stay
    zero: their cosine distance to everything is 1.

    Returns
    -------
    float32 ndarray, shape (n, dim)
        May be ``vectors`` itself: do not write to it.

    Raises
    ------
    ShapeError
        If it is not a matrix with at least one column.
    CorpusError
        If a value is NaN or infinite.
    """
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ShapeError(f"{what} must have the shape (documents, dimensions), it has {vectors.shape}")
    ranges = blocks(len(vectors), _BLOCK_ROWS)
    whole = vectors.dtype == np.float32 and vectors.flags.c_contiguous
    if whole and all(_are_unit(_lengths(vectors[start:stop], start, what=what)) for start, stop in ranges):
        return np.asarray(vectors)
    unit = np.empty(vectors.shape, np.float32)
    for start, stop in ranges:
        rows = unit[start:stop]
        rows[:] = vectors[start:stop]
        lengths = _lengths(rows, start, what=what)
        rows /= np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]
    return unit


def _are_unit(lengths: NDArray[np.float64]) -> bool:
    return bool(((np.abs(lengths - 1.0) <= _TOLERANCE) | (lengths == 0.0)).all())


def _lengths(rows: NDArray[np.float32], start: int, *, what: str) -> NDArray[np.float64]:
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if not np.isfinite(lengths).all():
        position = start + int(np.flatnonzero(~np.isfinite(lengths))[0])
        raise CorpusError(
            f"{what} has a value that is not a number (NaN or infinite)",
            where=f"document at position {position:,}",
            hint="Leave such documents out, or embed them again.",
        )
    return lengths


def finite_layout(points: NDArray[Any]) -> NDArray[np.float64]:
    """Return the points of a layout (n, d) as a C-contiguous float64 array.

    Raises
    ------
    CorpusError
        If a coordinate is NaN or infinite.
    """
    points = np.ascontiguousarray(points, np.float64)
    check_finite(points)
    return points


def check_finite(points: NDArray[Any]) -> None:
    """Check that all coordinates are finite.

    Raises
    ------
    CorpusError
        If one is NaN or infinite.
    """
    if not np.isfinite(points).all():
        raise CorpusError("the layout has coordinates that are not numbers (NaN or infinite)")
