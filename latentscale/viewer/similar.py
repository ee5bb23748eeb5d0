"""The nearest neighbours of each document, for "more like this" on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverseNeighbors:
    """Documents of this generation that are nearest neighbours of documents in earlier ones, one row per pair.

    Attributes
    ----------
    generation : uint8 ndarray, shape (p,)
        Generation of the earlier document: ``i`` for ``Similar.earlier[i - 1]``.
    positions : int64 ndarray, shape (p,)
        Position of the earlier document in its generation.
    rows : int64 ndarray, shape (p,)
        Row of the document of this generation.
    similarity : float32 ndarray, shape (p,)
    """

    generation: NDArray[np.uint8]
    positions: NDArray[np.int64]
    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """The nearest neighbours of each document of a generation, by cosine similarity.

    Attributes
    ----------
    neighbors : int64 ndarray, shape (n, k)
        Rows of the same generation or, by ``generation``, positions in an earlier one; nearest first.
    similarity : float32 ndarray, shape (n, k)
        Cosine similarity, in [-1, 1].
    generation : uint8 ndarray, shape (n, k), optional
        0 for the same generation, ``i`` for ``earlier[i - 1]``; by default all are 0.
    earlier : sequence of str
        Ids of the maps with the earlier generations.
    reverse : ReverseNeighbors, optional
    """

    neighbors: NDArray[np.int64]
    similarity: NDArray[np.float32]
    generation: NDArray[np.uint8] | None = None
    earlier: Sequence[str] = ()
    reverse: ReverseNeighbors | None = None

    def check(self, n: int) -> None:
        """Raise if the parts do not match.

        Raises
        ------
        ShapeError
            If a shape does not match ``n`` documents, or a row is out of range.
        """
        k = self.neighbors.shape[-1]
        if self.neighbors.shape != (n, k) or self.similarity.shape != (n, k):
            raise ShapeError(f"the viewer got neighbours of shape {self.neighbors.shape} for {n:,} documents")
        if self.generation is not None and self.generation.shape != (n, k):
            raise ShapeError(
                f"the viewer got generations of neighbours of shape {self.generation.shape}, but needs {n, k}"
            )
        rows = self.neighbors if self.generation is None else self.neighbors[self.generation == 0]
        if ((rows < 0) | (rows >= n)).any():
            raise ShapeError(f"a neighbour is not among the {n:,} documents of its generation")
