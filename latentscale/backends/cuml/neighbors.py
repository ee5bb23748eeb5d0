"""Neighbours of many documents by cuVS, batched from the host's memory, and measured again."""

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

# Candidates more than asked for: the row itself, and what is there twice.
_SPARE = 8
_DEGREE = 32
# Of the free memory, for the rows of a part and their graph while it descends.
_SHARE = 0.5
# More rows than this need no search by descent.
_LEAST = 1_000


def descended_neighbors(
    vectors: NDArray[Any], *, k: int, recall_target: float, seed: int, device: torch.device
) -> NeighborGraph | None:
    """Find about the ``k`` nearest other documents of each; None where the recall stays below the target.

    The rows are searched in as many parts as fit on the card one after the other. What is found is measured again in
    float64 and sorted; where the recall on a sample is too low, the search is repeated once, wider.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
        As for the backend cpu; a mapped file is fine.
    """
    unit = unit_rows(vectors)
    n = len(unit)
    k = max(0, min(k, n - 1))
    if n < _LEAST or k == 0:
        return None
    tried: list[dict[str, Any]] = []
    for wider in (1, 2):
        descent = _descent(unit, k, wider=wider, free=free_bytes(device))
        found = calls.all_neighbors(unit, k=min(n, k + 1 + _SPARE), descent=descent)
        indices, distances, recall = measured_again(unit, found, k=k, seed=seed, device=device)
        tried.append(descent.as_details() | {"recall": round(recall, 4)})
        if recall >= recall_target:
            details = {"reason": "more documents than all pairs are compared of", "by": "cuVS", "tried": tried}
            return NeighborGraph(
                indices=indices,
                distances=distances,
                recall=recall,
                method="nn_descent",
                details=details,
                backend="cuml",
            )
    return None


def _descent(unit: NDArray[np.float32], k: int, *, wider: int, free: float) -> calls.Descent:
    degree = wider * max(_DEGREE, 16 * math.ceil((k + 1 + _SPARE) / 16))
    overlap = 1 + wider
    # A row takes its values and, while it descends, a graph of twice the degree: position, distance, and both again.
    needed = len(unit) * (4.0 * unit.shape[1] + 2 * degree * 16.0)
    if needed <= _SHARE * free:
        return calls.Descent(parts=1, overlap=1, degree=degree)
    return calls.Descent(
        parts=max(overlap + 1, math.ceil(overlap * needed / (_SHARE * free))), overlap=overlap, degree=degree
    )
