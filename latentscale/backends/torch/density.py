"""densMAP's correlation of local densities (Narayan, Berger and Cho 2021) in torch; see ``backends/cpu/density.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentscale.backends.cpu.density import LEAST_RADIUS, UNIT, VARIANCE_SHIFT
from latentscale.backends.torch.device import widest_float

if TYPE_CHECKING:
    import torch

    from latentscale.backends.results import NeighborGraph
    from latentscale.backends.torch.fuzzy import Edges

_FARTHEST_MOVE = 4.0
_TINY = 1e-30


def log_radii(graph: NeighborGraph, edges: Edges) -> torch.Tensor:
    """Logarithms of the local radii of documents in the embedding, float of shape (n,).

    NaN for a document that has no neighbour in ``edges``, the fuzzy set of ``graph``.
    """
    import numpy as np
    import torch

    n, device = edges.documents, edges.weight.device
    indices = torch.from_numpy(np.ascontiguousarray(graph.indices)).to(device).long()
    distances = torch.from_numpy(np.ascontiguousarray(graph.distances)).to(device).to(widest_float(device))
    head = torch.arange(n, device=device)[:, None].expand_as(indices)
    pair = (torch.minimum(head, indices) * n + torch.maximum(head, indices)).reshape(-1)
    names = edges.low * n + edges.high
    place = torch.searchsorted(names, pair).clamp(max=len(names) - 1)
    found = names[place] == pair
    squares = torch.zeros(len(names), dtype=distances.dtype, device=device)
    squares.scatter_reduce_(0, place[found], distances.reshape(-1)[found] ** 2, "amax")
    weight = edges.weight.to(distances.dtype)
    total = _at_both_ends(weight, edges.low, edges.high, n)
    radii = _at_both_ends(weight * squares, edges.low, edges.high, n) / total
    return torch.log(radii + LEAST_RADIUS)


def _at_both_ends(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor, n: int) -> torch.Tensor:
    import torch

    sums = torch.zeros(n, dtype=values.dtype, device=values.device)
    return sums.index_add_(0, low, values).index_add_(0, high, values)


class DensityTerm:
    """The part of a layout's optimisation that brings its local radii near to those of the embedding.

    Parameters
    ----------
    radii : float tensor, shape (n,)
        From :func:`log_radii`.
    low, high : int64 tensor, shape (m,)
        The ends of the edges.
    weight : float tensor, shape (m,)
        Of the edges, at most 1.
    curve : tuple of float
        ``a`` and ``b`` of the layout.
    share : float
        Of the correlation beside UMAP's own aim: umap-learn's ``dens_lambda``.
    """

    def __init__(
        self,
        radii: torch.Tensor,
        low: torch.Tensor,
        high: torch.Tensor,
        weight: torch.Tensor,
        curve: tuple[float, float],
        *,
        share: float,
    ) -> None:
        import torch

        self._low, self._high, self._weight = low, high, weight
        self._curve, self._share = curve, share
        self._counted = torch.isfinite(radii)
        counted = radii[self._counted]
        self._standard = torch.zeros_like(radii)
        deviation = counted.std(correction=0) if len(counted) else torch.zeros(())
        if float(deviation) > 0:
            self._standard[self._counted] = (counted - counted.mean()) / deviation

    def move(self, places: torch.Tensor, sampled: torch.Tensor, *, rate: float, batches: int) -> None:
        """Take one step along the edges ``sampled``, in place."""
        import torch

        total, radius = self._on_the_map(places)
        there = self._counted & (total > 0)
        n = int(there.sum())
        if n < 2:
            return
        standard = self._standard[there]
        logs = torch.log(radius[there] + LEAST_RADIUS)
        apart = logs - logs.mean()
        variance = (apart @ apart) / (n - 1) + VARIANCE_SHIFT
        slope = (standard - (apart @ standard) / (n - 1) * apart / variance) / (torch.sqrt(variance) * n)
        influence, inverse = torch.zeros_like(total), torch.zeros_like(total)
        # Each pair stands for two directed edges, of which UMAP's aim is a sum.
        influence[there] = UNIT * self._share * 2.0 * self._weight.sum() * slope / total[there]
        inverse[there] = 1.0 / (radius[there] + LEAST_RADIUS)
        for batch in sampled.chunk(batches):
            low, high = self._low[batch], self._high[batch]
            phi, falls, square, step = self._alike(places, low, high)
            rest = 1.0 - square * falls
            strength = phi * (
                influence[low] * (rest * inverse[low] + falls) + influence[high] * (rest * inverse[high] + falls)
            )
            strength = strength * 2.0 / self._weight[batch]
            moved = torch.clamp(strength[:, None] * step, -_FARTHEST_MOVE, _FARTHEST_MOVE)
            moved = (2.0 * rate * moved).to(places.dtype)
            places.index_add_(0, low, moved)
            places.index_add_(0, high, -moved)

    def correlation(self, places: torch.Tensor) -> float | None:
        """Pearson's correlation of logarithmic radii in the embedding and in a layout; None where it is undefined."""
        import torch

        total, radius = self._on_the_map(places)
        there = self._counted & (total > 0)
        both = torch.stack((torch.log(radius[there] + LEAST_RADIUS), self._standard[there]))
        if both.shape[1] < 2 or not bool((both.std(dim=1) > 0).all()):
            return None
        return float(torch.corrcoef(both)[0, 1])

    def _on_the_map(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of similarities of each document on the map, and its local radius there."""
        phi, _, square, _ = self._alike(places, self._low, self._high)
        total = _at_both_ends(phi, self._low, self._high, len(places))
        spread = _at_both_ends(phi * square, self._low, self._high, len(places))
        return total, spread / total.clamp(min=_TINY)

    def _alike(
        self, places: torch.Tensor, low: torch.Tensor, high: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Similarity of the ends on the map, how fast its logarithm falls with their squared distance; that; a step."""
        a, b = self._curve
        step = places[low] - places[high]
        square = (step * step).sum(1).to(self._standard.dtype)
        power = a * square.clamp(min=_TINY) ** b
        falls = b * power / (square.clamp(min=_TINY) * (1.0 + power))
        return 1.0 / (1.0 + power), falls, square, step
