"""The nearest neighbours of each document, for "more like this" on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """Documents of this generation that are nearest neighbours of documents in earlier ones, one row per pair.

    Attributes
    ----------
    of : uint8 ndarray, shape (p,)
        Which earlier generation, from 1, as in ``Similar.earlier``.
    places : int64 ndarray, shape (p,)
        The position of the earlier document in its generation.
    rows : int64 ndarray, shape (p,)
        The row of the document of this generation.
    similarity : float32 ndarray, shape (p,)
    """

    of: NDArray[np.uint8]
    places: NDArray[np.int64]
    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """The nearest neighbours of each document of a generation, by cosine similarity.

    Attributes
    ----------
    places : int64 ndarray, shape (n, k)
        Rows of the same generation or, by ``of``, positions in an earlier one; nearest first.
    similarity : float32 ndarray, shape (n, k)
        Cosine of the vectors, in [-1, 1].
    of : uint8 ndarray, shape (n, k), optional
        0 for the same generation, ``i`` for ``earlier[i - 1]``; without it all are of the same.
    earlier : sequence of str
        Maps whose generations are named, by their ids.
    back : Back, optional
    """

    places: NDArray[np.int64]
    similarity: NDArray[np.float32]
    of: NDArray[np.uint8] | None = None
    earlier: Sequence[str] = ()
    back: Back | None = None

    def check(self, n: int) -> None:
        """Raise if the parts do not match.

        Raises
        ------
        ShapeError
            If a shape is another one than for ``n`` documents, or a row is none of them.
        """
        k = self.places.shape[-1]
        if self.places.shape != (n, k) or self.similarity.shape != (n, k):
            raise ShapeError(f"the viewer got neighbours of shape {self.places.shape} for {n:,} documents")
        if self.of is not None and self.of.shape != (n, k):
            raise ShapeError(f"the viewer got the generations of neighbours of shape {self.of.shape}, and needs {n, k}")
        own = self.places if self.of is None else self.places[self.of == 0]
        if ((own < 0) | (own >= n)).any():
            raise ShapeError(f"a neighbour is none of the {n:,} documents of its generation")
