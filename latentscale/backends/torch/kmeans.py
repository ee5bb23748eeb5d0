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
# Largest share of the free memory that the matrix may take.
_RESIDENT_SHARE = 0.6


def lloyd(
    unit: NDArray[np.float32],
    centroids: NDArray[np.float32],
    *,
    rows: NDArray[np.int64] | None = None,
    settled: int = SETTLED,
    device: torch.device,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Run Lloyd's algorithm for spherical K-means (Lloyd 1982, Dhillon and Modha 2001), as the backend cpu does.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file. A matrix that does not fit in the device's memory is copied block by block.
    centroids : float32 ndarray, shape (k, dim)
    rows : int64 ndarray, optional
        Rows to cluster; by default all.
    settled : int
        Stop when at most one row in ``settled`` changes its cluster.

    Returns
    -------
    labels : int32 ndarray, shape (n,) or (len(rows),)
    similarity : float32 ndarray of that shape
        Cosine to the assigned centroid.
    centroids : float32 ndarray, shape (k, dim)
        Of length 1; a centroid without rows is unchanged.

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
        resident = n * unit.shape[1] * 4 <= _RESIDENT_SHARE * free_bytes(device)
        data = block(0, n).to(device) if resident else None

        def load_block(start: int) -> torch.Tensor:
            stop = min(start + _ROWS, n)
            return block(start, stop).to(device) if data is None else data[start:stop]

        centers = torch.from_numpy(np.array(centroids, dtype=np.float32)).to(device)
        labels = torch.full((n,), -1, dtype=torch.int64, device=device)
        similarity = torch.zeros(n, device=device)
        for _ in range(MOST_ITERATIONS):
            changed = torch.zeros((), dtype=torch.int64, device=device)
            total = torch.zeros(centers.shape, dtype=widest_float(device), device=device)
            for start in range(0, n, _ROWS):
                block_rows = load_block(start)
                best = (block_rows @ centers.T).max(1)
                rows_slice = slice(start, start + len(block_rows))
                changed += (best.indices != labels[rows_slice]).sum()
                similarity[rows_slice], labels[rows_slice] = best.values, best.indices
                total.index_add_(0, best.indices, block_rows.to(total.dtype))
            if int(changed) * settled <= n:
                break
            norm = torch.linalg.vector_norm(total, dim=1, keepdim=True)
            moved = (total / torch.where(norm > 0, norm, torch.ones_like(norm))).float()
            centers = torch.where(norm > 0, moved, centers)
        return labels.to(torch.int32).cpu().numpy(), similarity.cpu().numpy(), centers.cpu().numpy()
