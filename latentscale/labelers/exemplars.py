"""Choose the exemplars of a cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def choose_exemplars(
    vectors: Any, members: NDArray[np.int64], *, k: int, max_candidates: int, seed: int
) -> NDArray[np.int64]:
    """Choose up to ``k`` members that together are near all the others: greedy facility location.

    Maximises the sum, over the members, of the cosine to the nearest chosen one; greedy choice is within 1 - 1/e of the
    best (Nemhauser et al. 1978). The most central member comes first. Members near the centre of the map, the
    usual choice, were measured to cover a cluster worse than random ones, since they all say the same.

    Parameters
    ----------
    vectors : array-like, shape (n_documents, dim), any float dtype
        May be memory-mapped; only the rows of candidates are read.
    members : int64 ndarray, shape (n_members,)
        Matrix positions of the cluster's documents. Those without a vector (zeros or NaN) are never chosen.
    k : int
        Exemplars asked for. Fewer come back where there are fewer distinct vectors.
    max_candidates : int
        Members looked at; a seeded sample where there are more. Memory and time grow with its square.
    seed : int
        Of that sample.

    Returns
    -------
    int64 ndarray, shape (at most k,)
        Positions, in the order of choice.
    """
    members = np.unique(np.asarray(members, dtype=np.int64))
    if len(members) > max_candidates:
        members = np.sort(np.random.default_rng(seed).choice(members, size=max_candidates, replace=False))
    points = np.asarray(vectors[members], dtype=np.float32)
    norms = np.linalg.norm(points, axis=1)
    usable = np.isfinite(norms) & (norms > 0)
    members, points = members[usable], points[usable] / norms[usable, None]
    if len(members) == 0 or k < 1:
        return np.empty(0, dtype=np.int64)

    # Cosine 0 is the floor, so that the first choice, too, is a gain over nothing.
    similarity = np.clip(points @ points.T, 0.0, 1.0)
    best = np.zeros(len(members), dtype=np.float32)
    chosen: list[int] = []
    while len(chosen) < min(k, len(members)):
        gains = np.maximum(similarity, best).sum(axis=1, dtype=np.float64) - best.sum(dtype=np.float64)
        # Rounding hides the order of near-equal gains, which differs between processors; the first position wins.
        pick = int(np.argmax(np.round(gains, 4)))
        if chosen and gains[pick] < 1e-4:
            break
        chosen.append(pick)
        best = np.maximum(best, similarity[pick])
    return members[chosen]
