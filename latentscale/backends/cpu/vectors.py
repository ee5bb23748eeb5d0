"""Read vectors from memory or a spooled file as unit rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.parallel import blocks
from latentscale.errors import CorpusError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_ROWS = 8192


def unit_rows(vectors: NDArray[Any], *, what: str = "the embedding") -> NDArray[np.float32]:
    """Copy ``vectors`` (n, dim), a file mapped into memory included, as float32 rows of length 1.

    Rows of zeros stay as they are: their cosine distance to everything is 1.

    Raises
    ------
    ShapeError
        If it is not a matrix with at least one column.
    CorpusError
        If a value is NaN or infinite.
    """
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ShapeError(f"{what} must have the shape (documents, dimensions), it has {vectors.shape}")
    unit = np.empty(vectors.shape, np.float32)
    for start, stop in blocks(len(vectors), _BLOCK_ROWS):
        rows = unit[start:stop]
        rows[:] = vectors[start:stop]
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        if not np.isfinite(lengths).all():
            position = start + int(np.flatnonzero(~np.isfinite(lengths))[0])
            raise CorpusError(
                f"{what} has a value that is not a number (NaN or infinite)",
                where=f"document at position {position:,}",
                hint="Leave such documents out, or embed them again.",
            )
        rows /= np.where(lengths > 0, lengths, 1.0).astype(np.float32)[:, None]
    return unit
