"""Nearest neighbours by NN-descent of cuVS, in batches from host memory, with recomputed distances."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from latentscale.backends.cpu.vectors import unit_rows
from latentscale.backends.cuml import calls
from latentscale.backends.results import NeighborGraph
from latentscale.backends.torch.device import free_bytes
from latentscale.backends.torch.neighbors import measured_again

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

# Candidates beyond k: the row itself and repetitions are dropped.
_EXTRA_CANDIDATES = 8
_DEGREE = 32
# Share of the free memory for the rows of a batch and their intermediate graph.
_MEMORY_SHARE = 0.5
# NN-descent is not used for fewer documents.
_MIN_DOCUMENTS = 1_000


def nn_descent_neighbors(
    vectors: NDArray[Any], *, k: int, recall_target: float, seed: int, device: torch.device
) -> NeighborGraph | None:
    """Find approximately the ``k`` nearest other documents of each; None where recall stays below the target.

    Rows are searched in as many batches as the GPU's memory requires. Distances are recomputed in float64; where the
    recall on a sample is too low, the search is repeated once with a larger graph degree.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
        As for the backend cpu; a mapped file is fine.
    """
    unit = unit_rows(vectors)
    n = len(unit)
    k = max(0, min(k, n - 1))
    if n < _MIN_DOCUMENTS or k == 0:
        return None
    searches: list[dict[str, Any]] = []
    for width_factor in (1, 2):
        descent = _descent_settings(unit, k, width_factor=width_factor, free=free_bytes(device))
        candidates = calls.all_neighbors(unit, k=min(n, k + 1 + _EXTRA_CANDIDATES), descent=descent)
        indices, distances, recall = measured_again(unit, candidates, k=k, seed=seed, device=device)
        searches.append(descent.as_details() | {"recall": round(recall, 4)})
        if recall >= recall_target:
            details = {"reason": "more documents than all pairs are compared of", "by": "cuVS", "tried": searches}
            return NeighborGraph(
                indices=indices,
                distances=distances,
                recall=recall,
                method="nn_descent",
                details=details,
                backend="cuml",
            )
    return None


def _descent_settings(unit: NDArray[np.float32], k: int, *, width_factor: int, free: float) -> calls.Descent:
    degree = width_factor * max(_DEGREE, 16 * math.ceil((k + 1 + _EXTRA_CANDIDATES) / 16))
    overlap = 1 + width_factor
    # A row takes its vector and an intermediate graph of twice the degree: index and distance, double-buffered.
    needed = len(unit) * (4.0 * unit.shape[1] + 2 * degree * 16.0)
    if needed <= _MEMORY_SHARE * free:
        return calls.Descent(parts=1, overlap=1, degree=degree)
    return calls.Descent(
        parts=max(overlap + 1, math.ceil(overlap * needed / (_MEMORY_SHARE * free))), overlap=overlap, degree=degree
    )
