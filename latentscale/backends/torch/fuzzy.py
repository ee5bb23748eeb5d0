"""UMAP's fuzzy simplicial set (McInnes et al. 2018) as undirected edges on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentscale.backends.torch.device import widest_float

if TYPE_CHECKING:
    import torch

    from latentscale.backends.results import NeighborGraph

_BISECTIONS = 64
_MIN_SCALE = 1e-3
# GPUs flush denormal weights to 0; an edge this light is never sampled.
_MIN_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Edges:
    """Undirected edges between documents, with their weights.

    Attributes
    ----------
    low, high : int64 tensor, shape (m,)
        Ends of each edge, ``low < high``; sorted and unique.
    weight : float32 tensor, shape (m,)
        In (0, 1].
    documents : int
    """

    low: torch.Tensor
    high: torch.Tensor
    weight: torch.Tensor
    documents: int


def fuzzy_edges(graph: NeighborGraph, *, n_neighbors: int, device: torch.device) -> Edges:
    """Build the symmetric fuzzy set from the first neighbours of a graph.

    Parameters
    ----------
    graph : NeighborGraph
        With ``k >= min(n_neighbors, n) - 1 >= 1``.
    n_neighbors : int
        As in umap-learn, which counts the document itself.
    """
    import numpy as np
    import torch

    n = len(graph)
    k = min(n_neighbors, n) - 1
    dtype = widest_float(device)
    indices = torch.from_numpy(np.ascontiguousarray(graph.indices[:, :k])).to(device).long()
    distances = torch.from_numpy(np.ascontiguousarray(graph.distances[:, :k])).to(device).to(dtype)
    weight = _membership_strengths(distances)
    head = torch.arange(n, device=device)[:, None].expand(n, k)
    pair = (torch.minimum(head, indices) * n + torch.maximum(head, indices)).reshape(-1)
    pair, order = torch.sort(pair, stable=True)
    weight = weight.reshape(-1)[order]
    unique_pair, inverse = torch.unique_consecutive(pair, return_inverse=True)
    # A pair occurs once or twice; the union of two is a + b - ab, with 2ab = (a + b)^2 - (a^2 + b^2).
    total = torch.zeros(len(unique_pair), device=device).index_add_(0, inverse, weight)
    total_squared = torch.zeros(len(unique_pair), device=device).index_add_(0, inverse, weight * weight)
    union = total - (total * total - total_squared) / 2
    kept = union > _MIN_WEIGHT
    unique_pair, union = unique_pair[kept], union[kept]
    return Edges(torch.div(unique_pair, n, rounding_mode="floor"), unique_pair % n, union, n)


def _membership_strengths(distances: torch.Tensor) -> torch.Tensor:
    """UMAP's membership strengths (smooth kNN distances): float32, shape of ``distances``."""
    import torch

    k = distances.shape[1]
    infinite = torch.full_like(distances, torch.inf)
    nearest = torch.where(distances > 0, distances, infinite).min(1).values
    nearest = torch.where(torch.isinf(nearest), torch.zeros_like(nearest), nearest)
    excess = (distances - nearest[:, None]).clamp(min=0)
    target = float(torch.log2(torch.tensor(float(k + 1), dtype=torch.float64)))
    low, high = torch.zeros_like(nearest), torch.full_like(nearest, torch.inf)
    scale = torch.ones_like(nearest)
    for _ in range(_BISECTIONS):
        is_above = torch.exp(-excess / scale[:, None]).sum(1) > target
        high = torch.where(is_above, scale, high)
        low = torch.where(is_above, low, scale)
        scale = torch.where(torch.isinf(high), scale * 2, (low + high) / 2)
    mean = distances.sum(1) / (k + 1)
    mean_of_all = distances.sum() / (len(distances) * (k + 1))
    scale = torch.maximum(scale, _MIN_SCALE * torch.where(nearest > 0, mean, mean_of_all.expand_as(mean)))
    strength = torch.exp(-excess / scale[:, None])
    # Where all neighbours are duplicates the scale may be 0.
    return torch.where(excess > 0, strength, torch.ones_like(strength)).float()
