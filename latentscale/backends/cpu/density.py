"""densMAP (Narayan, Berger and Cho 2021): a layout that preserves the local density of the embedding.

UMAP draws dense and sparse regions alike. densMAP measures the local radius of each document, the mean distance to its
neighbours, in the embedding and on the map, and adds the correlation of their logarithms to UMAP's objective. As in
umap-learn (``densmap=True``) this term is active in the last 30 % of the epochs; its steps alternate with UMAP's own.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentscale.backends.results import NeighborGraph

# A CSR graph: indptr, indices, and weights as uint32 fractions of FULL_WEIGHT.
Edges: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint32]]"

# Share of the epochs, at the end of the optimisation, in which the term is active.
SHARE = 0.3
# Calibrates the weight to umap-learn's dens_lambda, by measurement (docs/decisions/0008): umap-learn sums each edge
# twice.
UNIT = 0.25
# Added to the variance of the log radii on the map, which may be near 0 at first.
VARIANCE_SHIFT = 0.1
# Added to radii before the logarithm: those of duplicates are 0.
LEAST_RADIUS = 1e-8


def serves_density(epoch: int, epochs: int) -> bool:
    """Whether the density term is active in an epoch."""
    return epoch + 1 > (1.0 - SHARE) * epochs


def log_radii(fuzzy: Any, graph: NeighborGraph) -> NDArray[np.float64]:
    """Compute the logarithm of the local radius of each document in the embedding.

    Parameters
    ----------
    fuzzy : scipy.sparse.csr_array, shape (n, n)
        The fuzzy simplicial set of ``graph``.

    Returns
    -------
    float64 ndarray, shape (n,)
        Logarithm of the mean squared cosine distance to the neighbours in ``fuzzy``, weighted by membership strength;
        NaN for documents without neighbours.
    """
    from scipy import sparse

    n, k = graph.indices.shape
    squared = sparse.csr_array(
        (
            np.square(graph.distances, dtype=np.float64).ravel(),
            graph.indices.ravel(),
            k * np.arange(n + 1, dtype=np.int64),
        ),
        shape=(n, n),
    )
    # Symmetrized: an edge of the fuzzy set may exist in one direction of the graph only.
    squared = squared.maximum(squared.T.tocsr())
    weights = np.asarray(fuzzy.sum(axis=1), np.float64)
    sums = np.asarray(fuzzy.multiply(squared).sum(axis=1), np.float64)
    radii = np.full(n, np.nan)
    np.divide(sums, weights, out=radii, where=weights > 0)
    return np.log(radii + LEAST_RADIUS)


def density_report(correlation: float | None) -> tuple[dict[str, Any], list[str]]:
    """Return how well densities were preserved: details for the record, and notes for the user."""
    if correlation is None:
        return {"density_correlation": None}, []
    return {"density_correlation": round(correlation, 4)}, [
        f"Densities of the map and of the embedding correlate with {correlation:.2f}."
    ]


class DensityTerm:
    """densMAP's term of the objective: the correlation of local radii of the layout with those of the embedding.

    Parameters
    ----------
    radii : float64 ndarray, shape (n,)
        From :func:`log_radii`.
    edges : tuple of ndarray
        The CSR graph that the layout kernels read.
    pull : float32 ndarray
        Lookup table of attractive forces, from the layout.
    b : float
        Exponent of UMAP's curve.
    weight : float
        Weight of the correlation relative to UMAP's objective: umap-learn's ``dens_lambda``.
    """

    def __init__(
        self, radii: NDArray[np.float64], edges: Edges, pull: NDArray[np.float32], b: float, *, weight: float = 0.0
    ) -> None:
        from latentscale.backends.cpu.layout_kernels import FULL_WEIGHT

        self._edges = edges
        # UMAP's objective is a sum over edges: the correlation, at most 1, is scaled by the sum of their weights.
        self._scale = UNIT * weight * float(edges[2].sum(dtype=np.float64)) / FULL_WEIGHT
        self._curve = (pull, np.float32(b))
        self._has_radius = np.isfinite(radii)
        self._standardized = np.zeros(len(radii))
        known = radii[self._has_radius]
        deviation = float(known.std()) if len(known) else 0.0
        if deviation > 0:
            self._standardized[self._has_radius] = (known - known.mean()) / deviation

    def move(
        self, positions: NDArray[np.float32], pieces: list[tuple[int, int]], pool: Executor, *, epoch: int, alpha: float
    ) -> None:
        """Take one gradient step, in place; ``pieces`` are ranges of documents that run on the pool."""
        from latentscale.backends.cpu.density_kernels import move_by_density

        total, radius = self._map_radii(positions, pieces, pool)
        is_used = self._has_radius & (total > 0)
        n = int(is_used.sum())
        if n < 2:
            return
        logs = np.log(radius[is_used] + LEAST_RADIUS)
        centered = logs - logs.mean()
        variance = float(centered @ centered) / (n - 1) + VARIANCE_SHIFT
        standardized = self._standardized[is_used]
        covariance = float(centered @ standardized) / (n - 1)
        slope = (standardized - covariance * centered / variance) / (np.sqrt(variance) * n)
        influence = np.zeros(len(positions), np.float32)
        inverse = np.zeros(len(positions), np.float32)
        influence[is_used] = self._scale * slope / total[is_used]
        inverse[is_used] = 1.0 / (radius[is_used] + LEAST_RADIUS)

        def step(piece: tuple[int, int]) -> None:
            move_by_density(positions, *piece, *self._edges, epoch, np.float32(alpha), *self._curve, influence, inverse)

        list(pool.map(step, pieces))

    def correlation(
        self, positions: NDArray[np.float32], pieces: list[tuple[int, int]], pool: Executor
    ) -> float | None:
        """Pearson's correlation of the log radii in the embedding and in a layout; None where it is undefined."""
        total, radius = self._map_radii(positions, pieces, pool)
        is_used = self._has_radius & (total > 0)
        if is_used.sum() < 2:
            return None
        logs = np.log(radius[is_used] + LEAST_RADIUS)
        if not logs.std() > 0 or not self._standardized[is_used].std() > 0:
            return None
        return float(np.corrcoef(logs, self._standardized[is_used])[0, 1])

    def _map_radii(
        self, positions: NDArray[np.float32], pieces: list[tuple[int, int]], pool: Executor
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For each document the sum of its similarities on the map, and its local radius there."""
        from latentscale.backends.cpu.density_kernels import map_radii

        total, radius = np.zeros(len(positions)), np.zeros(len(positions))

        def measure(piece: tuple[int, int]) -> None:
            map_radii(positions, *piece, *self._edges, *self._curve, total, radius)

        list(pool.map(measure, pieces))
        return total, radius
