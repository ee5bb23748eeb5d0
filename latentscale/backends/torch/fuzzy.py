"""UMAP's fuzzy simplicial set (McInnes et al. 2018) as undirected edges on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentscale.backends.torch.device import widest_float

if TYPE_CHECKING:
    import torch

    from latentscale.backends.results import NeighborGraph

_BISECTIONS = 64
_LEAST_SCALE = 1e-3
# A GPU takes denormal weights for 0; so small a one is sampled in no number of epochs.
_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True, slots=True)
class Edges:
    """Pairs of documents.

    Attributes
    ----------
    low, high : int64 tensor, shape (m,)
        ``low < high``, in order, no pair twice.
    weight : float32 tensor, shape (m,)
        In (0, 1].
    documents : int
    """

    low: torch.Tensor
    high: torch.Tensor
    weight: torch.Tensor
    documents: int


def fuzzy_edges(graph: NeighborGraph, *, n_neighbors: int, device: torch.device) -> Edges:
    """Build the fuzzy set from the first neighbours of a graph.

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
    wanted = min(n_neighbors, n) - 1
    wide = widest_float(device)
    indices = torch.from_numpy(np.ascontiguousarray(graph.indices[:, :wanted])).to(device).long()
    distances = torch.from_numpy(np.ascontiguousarray(graph.distances[:, :wanted])).to(device).to(wide)
    weight = _memberships(distances)
    head = torch.arange(n, device=device)[:, None].expand(n, wanted)
    pair = (torch.minimum(head, indices) * n + torch.maximum(head, indices)).reshape(-1)
    pair, order = torch.sort(pair, stable=True)
    weight = weight.reshape(-1)[order]
    name, inverse = torch.unique_consecutive(pair, return_inverse=True)
    # A pair is there once or twice. Of two, a + b - ab, with ab from the sum and the sum of the squares.
    total = torch.zeros(len(name), device=device).index_add_(0, inverse, weight)
    squares = torch.zeros(len(name), device=device).index_add_(0, inverse, weight * weight)
    union = total - (total * total - squares) / 2
    kept = union > _LEAST_WEIGHT
    name, union = name[kept], union[kept]
    return Edges(torch.div(name, n, rounding_mode="floor"), name % n, union, n)


def _memberships(distances: torch.Tensor) -> torch.Tensor:
    """How much each neighbour belongs to a document's neighbourhood (float32, shape of ``distances``)."""
    import torch

    wanted = distances.shape[1]
    infinite = torch.full_like(distances, torch.inf)
    nearest = torch.where(distances > 0, distances, infinite).min(1).values
    nearest = torch.where(torch.isinf(nearest), torch.zeros_like(nearest), nearest)
    beyond = (distances - nearest[:, None]).clamp(min=0)
    target = float(torch.log2(torch.tensor(float(wanted + 1), dtype=torch.float64)))
    low, high = torch.zeros_like(nearest), torch.full_like(nearest, torch.inf)
    scale = torch.ones_like(nearest)
    for _ in range(_BISECTIONS):
        much = torch.exp(-beyond / scale[:, None]).sum(1) > target
        high = torch.where(much, scale, high)
        low = torch.where(much, low, scale)
        scale = torch.where(torch.isinf(high), scale * 2, (low + high) / 2)
    mean = distances.sum(1) / (wanted + 1)
    mean_of_all = distances.sum() / (len(distances) * (wanted + 1))
    scale = torch.maximum(scale, _LEAST_SCALE * torch.where(nearest > 0, mean, mean_of_all.expand_as(mean)))
    strength = torch.exp(-beyond / scale[:, None])
    # Where all neighbours are identical documents the scale may be 0.
    return torch.where(beyond > 0, strength, torch.ones_like(strength)).float()
