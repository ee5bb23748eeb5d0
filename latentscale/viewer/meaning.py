"""The data for semantic search on the page: document vectors, and the token table of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.token_table import TokenTable
from latentscale.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """The vectors of a generation's documents, in the order of its rows.

    Attributes
    ----------
    vectors : float32 ndarray, shape (n, d)
        Unit-length rows; may be memory-mapped.
    queries : float32 ndarray, shape (q, d)
        Vectors of texts other than the documents, for measuring the recall of the search; unit-length rows.
    tokens : TokenTable, optional
        By default the page uses the table of an earlier generation with the same model.
    """

    vectors: NDArray[np.float32]
    queries: NDArray[np.float32]
    tokens: TokenTable | None = None

    def check(self, n: int) -> None:
        """Raise if the parts do not match.

        Raises
        ------
        ShapeError
            If there are not ``n`` vectors, or those of queries or tokens are of another width.
        """
        d = self.vectors.shape[-1]
        if self.vectors.shape != (n, d):
            raise ShapeError(f"the viewer got vectors of shape {self.vectors.shape} for {n:,} documents")
        for name, matrix in (("queries", self.queries), ("tokens", self.tokens and self.tokens.vectors)):
            if matrix is not None and matrix.shape[1:] != (d,):
                raise ShapeError(f"vectors of {name} have the shape {matrix.shape}, those of documents {d} values")
