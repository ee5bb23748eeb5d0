"""Compare the neighbourhoods of an embedding with those of its layout, on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.faithfulness import fixed_sample, score
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.backends.results import Faithfulness
from latentscale.backends.torch.device import device_memory, exact_products
from latentscale.errors import ShapeError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_ROWS = 256
_COLUMNS = 65_536


def faithfulness(
    vectors: NDArray[Any], coordinates: NDArray[Any], *, k: int, sample: int, seed: int, device: torch.device
) -> Faithfulness:
    """Compare the neighbourhoods of sampled documents with all documents, as the backend cpu does.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
    coordinates : ndarray, shape (n, 2 or more)

    Raises
    ------
    ShapeError
        If the two are of different numbers of documents.
    """
    import torch

    n = len(vectors)
    if len(coordinates) != n:
        raise ShapeError(f"the embedding has {n:,} documents, the layout {len(coordinates):,}")
    k = min(k, n - 1)
    if k < 1:
        return Faithfulness(trustworthiness=None, preservation=None, k=0, sample=0)
    unit = unit_rows(vectors)
    rows = fixed_sample(n, sample, seed=seed)
    with torch.inference_mode(), exact_products(), device_memory("the measure of the layout", device):
        points = torch.from_numpy(np.array(coordinates, dtype=np.float32)).to(device)
        self_index = torch.from_numpy(rows).to(device)
        neighbors = torch.cat(
            [_nearest(points, self_index[start : start + _ROWS], k) for start in range(0, len(rows), _ROWS)]
        )
        closer = _count_closer(unit, rows, neighbors, device=device).cpu().numpy()
    return score(closer, n=n, k=k)


def _nearest(points: torch.Tensor, rows: torch.Tensor, k: int) -> torch.Tensor:
    """Find the nearest other points of ``rows``: int64, shape (m, k)."""
    import torch

    distances = torch.cdist(points[rows], points, compute_mode="donot_use_mm_for_euclid_dist")
    distances[torch.arange(len(rows), device=rows.device), rows] = torch.inf
    return distances.topk(k, dim=1, largest=False).indices


def _count_closer(
    unit: NDArray[np.float32], rows: NDArray[np.int64], neighbors: torch.Tensor, *, device: torch.device
) -> torch.Tensor:
    """Count, for each of the ``neighbors`` of a row on the map, the documents more similar to the row (same shape)."""
    import torch

    queries = torch.from_numpy(unit[rows]).to(device)
    self_index = torch.from_numpy(rows).to(device)
    limits = torch.full(neighbors.shape, torch.nan, device=device)
    blocks = range(0, len(unit), _COLUMNS)

    def scores(start: int) -> torch.Tensor:
        others = torch.from_numpy(np.array(unit[start : start + _COLUMNS])).to(device)
        return queries @ others.T

    # Limits come from the same products as the scores compared with them, so that duplicates tie exactly.
    for start in blocks:
        block_scores = scores(start)
        in_block = (neighbors >= start) & (neighbors < start + block_scores.shape[1])
        neighbor_scores = block_scores.gather(1, (neighbors - start).clamp(0, block_scores.shape[1] - 1))
        limits = torch.where(in_block, neighbor_scores, limits)
    closer = torch.zeros(neighbors.shape, dtype=torch.int64, device=device)
    for start in blocks:
        block_scores = scores(start)
        in_block = ((self_index >= start) & (self_index < start + block_scores.shape[1])).nonzero().squeeze(1)
        block_scores[in_block, self_index[in_block] - start] = -torch.inf
        for column in range(neighbors.shape[1]):
            closer[:, column] += (block_scores > limits[:, column, None]).sum(1)
    return closer
