"""Spherical K-means from given centroids on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentscale.backends.cpu.clustering import MOST_ITERATIONS, SETTLED
from latentscale.backends.torch.device import device_memory, exact_products, free_bytes, repeatable, widest_float

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

_ROWS = 16_384
# Of the free memory, for the matrix.
_SHARE = 0.6


def lloyd(
    unit: NDArray[np.float32],
    centroids: NDArray[np.float32],
    *,
    rows: NDArray[np.int64] | None = None,
    settled: int = SETTLED,
    device: torch.device,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Assign and move in turn (Lloyd 1982, Dhillon and Modha 2001), as the backend cpu does.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file. Where it does not fit in the device's memory it comes block by block.
    centroids : float32 ndarray, shape (k, dim)
    rows : int64 ndarray, optional
        The rows that count; else all.
    settled : int
        It ends when at most one row in so many changes its cluster.

    Returns
    -------
    labels : int32 ndarray, shape (n,) or (len(rows),)
    similarity : float32 ndarray of that shape
        Cosine to the own centroid.
    centroids : float32 ndarray, shape (k, dim)
        Of length 1; one that no row is nearest to stays where it was.

    Raises
    ------
    EnvironmentFailure
        If even a block does not fit in the device's memory.
    """
    import torch

    n = len(unit) if rows is None else len(rows)

    def block(start: int, stop: int) -> torch.Tensor:
        return torch.from_numpy(np.array(unit[start:stop]) if rows is None else unit[rows[start:stop]])

    with torch.inference_mode(), exact_products(), repeatable(True), device_memory("K-means", device):
        resident = n * unit.shape[1] * 4 <= _SHARE * free_bytes(device)
        held = block(0, n).to(device) if resident else None

        def some_rows(start: int) -> torch.Tensor:
            stop = min(start + _ROWS, n)
            return block(start, stop).to(device) if held is None else held[start:stop]

        middle = torch.from_numpy(np.array(centroids, dtype=np.float32)).to(device)
        labels = torch.full((n,), -1, dtype=torch.int64, device=device)
        similarity = torch.zeros(n, device=device)
        for _ in range(MOST_ITERATIONS):
            changed = torch.zeros((), dtype=torch.int64, device=device)
            total = torch.zeros(middle.shape, dtype=widest_float(device), device=device)
            for start in range(0, n, _ROWS):
                some = some_rows(start)
                best = (some @ middle.T).max(1)
                part = slice(start, start + len(some))
                changed += (best.indices != labels[part]).sum()
                similarity[part], labels[part] = best.values, best.indices
                total.index_add_(0, best.indices, some.to(total.dtype))
            if int(changed) * settled <= n:
                break
            length = torch.linalg.vector_norm(total, dim=1, keepdim=True)
            moved = (total / torch.where(length > 0, length, torch.ones_like(length))).float()
            middle = torch.where(length > 0, moved, middle)
        return labels.to(torch.int32).cpu().numpy(), similarity.cpu().numpy(), middle.cpu().numpy()
