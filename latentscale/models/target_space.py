"""Vector space of a static model: principal components of the teacher's vectors of passages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpace:
    """Projection of the teacher's space: centred, reduced and partly whitened.

    Attributes
    ----------
    mean : float64 ndarray, shape (teacher dim,)
    matrix : float64 ndarray, shape (teacher dim, dims)
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def fit(cls, vectors: NDArray[np.floating[Any]], *, dims: int, whitening: float) -> Self:
        """Compute the leading principal components of the teacher's vectors.

        Parameters
        ----------
        vectors : float ndarray, shape (n_passages, teacher dim)
            Unit vectors.
        dims : int
        whitening : float
            Components are divided by their standard deviation to this power: 0 is PCA, 1 full whitening.
        """
        mean = vectors.mean(axis=0, dtype=np.float64)
        covariance = np.zeros((len(mean), len(mean)))
        for start in range(0, len(vectors), 65_536):
            part = vectors[start : start + 65_536].astype(np.float64) - mean
            covariance += part.T @ part
        values, components = np.linalg.eigh(covariance / max(1, len(vectors)))
        first = np.argsort(-values)[:dims]
        deviations = np.sqrt(np.maximum(values[first], 1e-12))
        return cls(mean=mean, matrix=components[:, first] / deviations**whitening)

    def __call__(
        self, vectors: NDArray[np.floating[Any]], *, about: NDArray[np.floating[Any]] | None = None
    ) -> NDArray[np.float32]:
        """Map unit vectors of shape (n, teacher dim) to (n, dims).

        Parameters
        ----------
        about : float ndarray, shape (teacher dim,), optional
            Subtracted instead of the passages' mean, for texts of another kind.
        """
        mean = np.asarray(self.mean if about is None else about, dtype=np.float32)
        matrix = self.matrix.astype(np.float32)
        mapped = np.empty((len(vectors), self.matrix.shape[1]), dtype=np.float32)
        for start in range(0, len(vectors), 65_536):
            part = vectors[start : start + 65_536].astype(np.float32)
            mapped[start : start + len(part)] = (part - mean) @ matrix
        return mapped
