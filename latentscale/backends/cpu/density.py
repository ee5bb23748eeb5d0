"""Keep on the map how densely documents lie in the embedding: densMAP (Narayan, Berger and Cho 2021).

UMAP draws dense and sparse regions alike. densMAP measures how far the neighbours of each document are, in the vectors
and on the map (its local radius), and adds to UMAP's aim the correlation of the logarithms of both. As in umap-learn
(``densmap=True``) the last 30 % of the optimisation serve both aims; its steps alternate with UMAP's own.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentscale.backends.results import NeighborGraph

# Where the edges of each document start, their other ends, and their weights as uint32.
Edges: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.uint32]]"

# Of the optimisation, from its end.
SHARE = 0.3
# With it a weight does what umap-learn's dens_lambda of the same number does, by measurement (docs/decisions/0008): its
# sums have each edge twice.
UNIT = 0.25
# Added to the variance of radii on the map, which may be near 0 when the first steps are taken.
VARIANCE_SHIFT = 0.1
# Radii of copies are 0.
LEAST_RADIUS = 1e-8


def serves_density(epoch: int, epochs: int) -> bool:
    """Whether an epoch is one of those that serve both aims."""
    return epoch + 1 > (1.0 - SHARE) * epochs


def log_radii(fuzzy: Any, graph: NeighborGraph) -> NDArray[np.float64]:
    """Logarithms of the local radii of documents in the embedding.

    Parameters
    ----------
    fuzzy : scipy.sparse.csr_array, shape (n, n)
        The fuzzy set of ``graph``.

    Returns
    -------
    float64 ndarray, shape (n,)
        Of the mean squared cosine distance to the neighbours in ``fuzzy``, weighted by their memberships; NaN for a
        document that has none.
    """
    from scipy import sparse

    n, k = graph.indices.shape
    squares = sparse.csr_array(
        (
            np.square(graph.distances, dtype=np.float64).ravel(),
            graph.indices.ravel(),
            k * np.arange(n + 1, dtype=np.int64),
        ),
        shape=(n, n),
    )
    # A document that is a neighbour of another one, which is none of its own, is as far from it.
    squares = squares.maximum(squares.T.tocsr())
    weights = np.asarray(fuzzy.sum(axis=1), np.float64)
    sums = np.asarray(fuzzy.multiply(squares).sum(axis=1), np.float64)
    radii = np.full(n, np.nan)
    np.divide(sums, weights, out=radii, where=weights > 0)
    return np.log(radii + LEAST_RADIUS)


def said_of(correlation: float | None) -> tuple[dict[str, Any], list[str]]:
    """What a layout that was to keep densities says of it: details for the record, and notes."""
    if correlation is None:
        return {"density_correlation": None}, []
    return {"density_correlation": round(correlation, 4)}, [
        f"Densities of the map and of the embedding correlate with {correlation:.2f}."
    ]


class DensityTerm:
    """The part of a layout's optimisation that brings its local radii near to those of the embedding.

    Parameters
    ----------
    radii : float64 ndarray, shape (n,)
        From :func:`log_radii`.
    edges : tuple of ndarray
        As the kernels of the layout read them.
    pull : float32 ndarray
        The layout's table of attractions.
    b : float
        The exponent of its curve.
    weight : float
        Of the correlation beside UMAP's own aim: umap-learn's ``dens_lambda``.
    """

    def __init__(
        self, radii: NDArray[np.float64], edges: Edges, pull: NDArray[np.float32], b: float, *, weight: float = 0.0
    ) -> None:
        from latentscale.backends.cpu.layout_kernels import FULL_WEIGHT

        self._edges = edges
        # The sum of memberships puts the correlation, at most 1, beside UMAP's aim, which is a sum over edges.
        self._scale = UNIT * weight * float(edges[2].sum(dtype=np.float64)) / FULL_WEIGHT
        self._curve = (pull, np.float32(b))
        self._counted = np.isfinite(radii)
        self._standard = np.zeros(len(radii))
        counted = radii[self._counted]
        deviation = float(counted.std()) if len(counted) else 0.0
        if deviation > 0:
            self._standard[self._counted] = (counted - counted.mean()) / deviation

    def move(
        self, positions: NDArray[np.float32], pieces: list[tuple[int, int]], pool: Executor, *, epoch: int, alpha: float
    ) -> None:
        """Take one step, in place, piece by piece of the documents."""
        from latentscale.backends.cpu.density_kernels import move_by_density

        total, radius = self._on_the_map(positions, pieces, pool)
        there = self._counted & (total > 0)
        n = int(there.sum())
        if n < 2:
            return
        logs = np.log(radius[there] + LEAST_RADIUS)
        apart = logs - logs.mean()
        variance = float(apart @ apart) / (n - 1) + VARIANCE_SHIFT
        standard = self._standard[there]
        covariance = float(apart @ standard) / (n - 1)
        slope = (standard - covariance * apart / variance) / (np.sqrt(variance) * n)
        influence = np.zeros(len(positions), np.float32)
        inverse = np.zeros(len(positions), np.float32)
        influence[there] = self._scale * slope / total[there]
        inverse[there] = 1.0 / (radius[there] + LEAST_RADIUS)

        def step(piece: tuple[int, int]) -> None:
            move_by_density(positions, *piece, *self._edges, epoch, np.float32(alpha), *self._curve, influence, inverse)

        list(pool.map(step, pieces))

    def correlation(
        self, positions: NDArray[np.float32], pieces: list[tuple[int, int]], pool: Executor
    ) -> float | None:
        """How well a layout keeps densities: Pearson's correlation of logarithmic radii; None where it is undefined."""
        total, radius = self._on_the_map(positions, pieces, pool)
        there = self._counted & (total > 0)
        if there.sum() < 2:
            return None
        logs = np.log(radius[there] + LEAST_RADIUS)
        if not logs.std() > 0 or not self._standard[there].std() > 0:
            return None
        return float(np.corrcoef(logs, self._standard[there])[0, 1])

    def _on_the_map(
        self, positions: NDArray[np.float32], pieces: list[tuple[int, int]], pool: Executor
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from latentscale.backends.cpu.density_kernels import map_radii

        total, radius = np.zeros(len(positions)), np.zeros(len(positions))

        def measure(piece: tuple[int, int]) -> None:
            map_radii(positions, *piece, *self._edges, *self._curve, total, radius)

        list(pool.map(measure, pieces))
        return total, radius
