"""densMAP's correlation of local densities (Narayan, Berger and Cho 2021) in torch; see ``backends/cpu/density.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentscale.backends.cpu.density import LEAST_RADIUS, UNIT, VARIANCE_SHIFT
from latentscale.backends.torch.device import widest_float

if TYPE_CHECKING:
    import torch

    from latentscale.backends.results import NeighborGraph
    from latentscale.backends.torch.fuzzy import Edges

_MAX_MOVE = 4.0
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
    edge_ids = edges.low * n + edges.high
    edge = torch.searchsorted(edge_ids, pair).clamp(max=len(edge_ids) - 1)
    is_edge = edge_ids[edge] == pair
    squared = torch.zeros(len(edge_ids), dtype=distances.dtype, device=device)
    squared.scatter_reduce_(0, edge[is_edge], distances.reshape(-1)[is_edge] ** 2, "amax")
    weight = edges.weight.to(distances.dtype)
    total = _sum_at_ends(weight, edges.low, edges.high, n)
    radii = _sum_at_ends(weight * squared, edges.low, edges.high, n) / total
    return torch.log(radii + LEAST_RADIUS)


def _sum_at_ends(values: torch.Tensor, low: torch.Tensor, high: torch.Tensor, n: int) -> torch.Tensor:
    """Sum values of edges over both of their ends: shape (n,)."""
    import torch

    sums = torch.zeros(n, dtype=values.dtype, device=values.device)
    return sums.index_add_(0, low, values).index_add_(0, high, values)


class DensityTerm:
    """densMAP's term of the objective: the correlation of local radii of the layout with those of the embedding.

    Parameters
    ----------
    radii : float tensor, shape (n,)
        From :func:`log_radii`.
    low, high : int64 tensor, shape (m,)
        Ends of the edges.
    weight : float tensor, shape (m,)
        Edge weights, at most 1.
    curve : tuple of float
        ``a`` and ``b`` of the layout.
    share : float
        Weight of the correlation relative to UMAP's objective: umap-learn's ``dens_lambda``.
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
        self._has_radius = torch.isfinite(radii)
        known = radii[self._has_radius]
        self._standard = torch.zeros_like(radii)
        deviation = known.std(correction=0) if len(known) else torch.zeros(())
        if float(deviation) > 0:
            self._standard[self._has_radius] = (known - known.mean()) / deviation

    def move(self, positions: torch.Tensor, sampled: torch.Tensor, *, rate: float, batches: int) -> None:
        """Take one gradient step along the edges ``sampled``, in place."""
        import torch

        total, radius = self._map_radii(positions)
        is_used = self._has_radius & (total > 0)
        n = int(is_used.sum())
        if n < 2:
            return
        standard = self._standard[is_used]
        logs = torch.log(radius[is_used] + LEAST_RADIUS)
        centered = logs - logs.mean()
        variance = (centered @ centered) / (n - 1) + VARIANCE_SHIFT
        slope = (standard - (centered @ standard) / (n - 1) * centered / variance) / (torch.sqrt(variance) * n)
        influence, inverse = torch.zeros_like(total), torch.zeros_like(total)
        # UMAP's objective is a sum over directed edges: each pair counts twice.
        influence[is_used] = UNIT * self._share * 2.0 * self._weight.sum() * slope / total[is_used]
        inverse[is_used] = 1.0 / (radius[is_used] + LEAST_RADIUS)
        for batch in sampled.chunk(batches):
            low, high = self._low[batch], self._high[batch]
            phi, decay, squared, step = self._similarities(positions, low, high)
            complement = 1.0 - squared * decay
            strength = phi * (
                influence[low] * (complement * inverse[low] + decay)
                + influence[high] * (complement * inverse[high] + decay)
            )
            strength = strength * 2.0 / self._weight[batch]
            move = torch.clamp(strength[:, None] * step, -_MAX_MOVE, _MAX_MOVE)
            move = (2.0 * rate * move).to(positions.dtype)
            positions.index_add_(0, low, move)
            positions.index_add_(0, high, -move)

    def correlation(self, positions: torch.Tensor) -> float | None:
        """Pearson's correlation of the log radii in the embedding and in a layout; None where it is undefined."""
        import torch

        total, radius = self._map_radii(positions)
        is_used = self._has_radius & (total > 0)
        both = torch.stack((torch.log(radius[is_used] + LEAST_RADIUS), self._standard[is_used]))
        if both.shape[1] < 2 or not bool((both.std(dim=1) > 0).all()):
            return None
        return float(torch.corrcoef(both)[0, 1])

    def _map_radii(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For each document the sum of its similarities on the map, and its local radius there."""
        phi, _, squared, _ = self._similarities(positions, self._low, self._high)
        total = _sum_at_ends(phi, self._low, self._high, len(positions))
        spread = _sum_at_ends(phi * squared, self._low, self._high, len(positions))
        return total, spread / total.clamp(min=_TINY)

    def _similarities(
        self, positions: torch.Tensor, low: torch.Tensor, high: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """For each edge: similarity phi, -d log(phi) / d(squared), squared distance, and difference of its ends."""
        a, b = self._curve
        step = positions[low] - positions[high]
        squared = (step * step).sum(1).to(self._standard.dtype)
        power = a * squared.clamp(min=_TINY) ** b
        decay = b * power / (squared.clamp(min=_TINY) * (1.0 + power))
        return 1.0 / (1.0 + power), decay, squared, step
