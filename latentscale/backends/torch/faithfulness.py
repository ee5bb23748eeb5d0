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
        own = torch.from_numpy(rows).to(device)
        near = torch.cat([_nearest(points, own[at : at + _ROWS], k) for at in range(0, len(rows), _ROWS)])
        closer = _count_closer(unit, rows, near, device=device).cpu().numpy()
    return score(closer, n=n, k=k)


def _nearest(points: torch.Tensor, rows: torch.Tensor, k: int) -> torch.Tensor:
    """The nearest other points of some (int64, shape (m, k))."""
    import torch

    apart = torch.cdist(points[rows], points, compute_mode="donot_use_mm_for_euclid_dist")
    apart[torch.arange(len(rows), device=rows.device), rows] = torch.inf
    return apart.topk(k, dim=1, largest=False).indices


def _count_closer(
    unit: NDArray[np.float32], rows: NDArray[np.int64], near: torch.Tensor, *, device: torch.device
) -> torch.Tensor:
    """Count, for each document ``near`` a row, those that are more similar to the row (int64, shape of ``near``)."""
    import torch

    asking = torch.from_numpy(unit[rows]).to(device)
    own = torch.from_numpy(rows).to(device)
    limits = torch.full(near.shape, torch.nan, device=device)
    blocks = range(0, len(unit), _COLUMNS)

    def scores(start: int) -> torch.Tensor:
        others = torch.from_numpy(np.array(unit[start : start + _COLUMNS])).to(device)
        return asking @ others.T

    # The limit comes from the same product as what is compared with it, so that copies of a document tie.
    for start in blocks:
        some = scores(start)
        here = (near >= start) & (near < start + some.shape[1])
        found = some.gather(1, (near - start).clamp(0, some.shape[1] - 1))
        limits = torch.where(here, found, limits)
    closer = torch.zeros(near.shape, dtype=torch.int64, device=device)
    for start in blocks:
        some = scores(start)
        here = ((own >= start) & (own < start + some.shape[1])).nonzero().squeeze(1)
        some[here, own[here] - start] = -torch.inf
        for column in range(near.shape[1]):
            closer[:, column] += (some > limits[:, column, None]).sum(1)
    return closer
