"""Nearest fitted documents of other vectors, on the CPU whichever backend a map was computed with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.results import NeighborGraph


def nearest_fitted(
    queries: NDArray[Any],
    vectors: NDArray[np.float32],
    graph: NeighborGraph | None,
    *,
    k: int,
    recall_target: float,
    seed: int,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the ``k`` nearest of ``vectors`` to each query: indices and cosine distances, nearest first, shape (m, k).

    Parameters
    ----------
    queries : ndarray, shape (m, dim)
    vectors : float32 ndarray, shape (n, dim)
        Rows of length 1.
    graph : NeighborGraph or None
        Neighbour graph of ``vectors``, used for large fits; None: each query is compared with all.
    k : int
        Lowered to ``n`` where it is larger.
    """
    from latentscale.backends.cpu.placement_search import neighbors_among

    found = neighbors_among(
        queries,
        vectors,
        k=k,
        graph_indices=graph.indices if graph is not None and graph.k else None,
        recall_target=recall_target,
        seed=seed,
        threads=threads,
    )
    return found.indices, found.distances
