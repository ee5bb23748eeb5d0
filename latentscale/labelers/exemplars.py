"""Choose the exemplars of a cluster by facility location over all of its documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.cpu.parallel import one_blas_thread

# Documents per random part in a round; the chosen ones of each part are the candidates of the next round.
_PART = 256
# Documents compared with the candidates at a time.
_BLOCK = 4_096
# Maximum number of similarities kept in memory (128 MB); beyond, they are recomputed for each choice.
_MAX_SIMILARITIES = 1 << 25


def exemplars_of_clusters(
    vectors: Any,
    members: Sequence[NDArray[np.int64]],
    clusters: Sequence[tuple[int, int]],
    parents: Sequence[int | None],
    *,
    k: int,
) -> list[NDArray[np.int64]]:
    """Choose exemplars of each cluster of a tree; those of a coarser cluster are chosen among those of its children.

    Parameters
    ----------
    vectors, k
        As in :func:`choose_exemplars`.
    members : sequence of int64 ndarray
        Matrix positions of the documents of each cluster.
    clusters : sequence of (int, int)
        Layer and number of each cluster, finest layer first.
    parents : sequence of int or None
        Number of each cluster's parent in the next layer.

    Returns
    -------
    list of int64 ndarray
        The exemplars of each cluster, as returned by :func:`choose_exemplars`.
    """
    exemplars: list[NDArray[np.int64]] = []
    exemplars_of_children: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    # The products are small: synchronising BLAS threads would take longer than computing.
    with one_blas_thread():
        for (layer, cluster), parent, cluster_members in zip(clusters, parents, members, strict=True):
            children = exemplars_of_children.get((layer, cluster))
            candidates = None if children is None else np.concatenate(children)
            exemplars.append(choose_exemplars(vectors, cluster_members, k=k, candidates=candidates))
            if parent is not None:
                exemplars_of_children.setdefault((layer + 1, parent), []).append(exemplars[-1])
    return exemplars


def choose_exemplars(
    vectors: Any, members: NDArray[np.int64], *, k: int, candidates: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Choose up to ``k`` members that represent all members: greedy facility location.

    Maximises the sum over all members of the cosine similarity to the nearest chosen one; the greedy solution is within
    1 - 1/e of the optimum (Nemhauser et al. 1978). The candidates of a large cluster are found in rounds: greedily in
    each of several random parts, until few are left (RandGreeDi, Barbosa et al. 2015); the final choice among them is
    evaluated on all members. Members near the cluster's centre, the usual choice, were measured to cover a cluster
    worse than random ones, since they are redundant.

    Parameters
    ----------
    vectors : array-like, shape (n_documents, dim), any float dtype
        May be memory-mapped: rows are read in blocks of some thousands.
    members : int64 ndarray, shape (n_members,)
        Matrix positions of the cluster's documents. Those without a vector (zeros or NaN) are never chosen.
    k : int
        Number of exemplars; fewer are returned if there are fewer distinct vectors.
    candidates : int64 ndarray, optional
        Members to choose from, such as the exemplars of child clusters; by default all.

    Returns
    -------
    int64 ndarray, shape (at most k,)
        Matrix positions in the order of choice; the first is the most central.
    """
    members = np.unique(np.asarray(members, dtype=np.int64))
    pool = members if candidates is None else np.unique(np.asarray(candidates, dtype=np.int64))
    if not len(pool) or k < 1:
        return np.empty(0, dtype=np.int64)
    part_size = max(_PART, 4 * k)
    while len(pool) > part_size:
        # A random order, since the corpus may be sorted by topic.
        shuffled = pool[np.argsort(pool.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15), kind="stable")]
        chosen = [
            _greedy(vectors, candidate_part, candidate_part, k)
            for candidate_part in np.array_split(shuffled, -(-len(shuffled) // part_size))
        ]
        pool = np.sort(np.concatenate(chosen))
    return _greedy(vectors, members, pool, k)


def _greedy(vectors: Any, members: NDArray[np.int64], pool: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Choose greedily from ``pool`` by the gain in coverage of ``members``."""
    pool = np.sort(pool)
    points = _unit(vectors, pool)
    cached = list(_similarities(vectors, members, points)) if len(pool) * len(members) <= _MAX_SIMILARITIES else None
    best = np.zeros(len(members), dtype=np.float32)
    chosen: list[int] = []
    while len(chosen) < min(k, len(pool)):
        gains = np.zeros(len(pool))
        for start, similarity in cached or _similarities(vectors, members, points):
            coverage = best[start : start + similarity.shape[1]]
            gains += np.maximum(similarity, coverage).sum(axis=1) - coverage.sum()
        # Gains are rounded, as the order of near-equal ones differs between CPUs; the first position wins.
        gains = np.round(gains / len(members), 6)
        pick = int(np.argmax(gains))
        if gains[pick] <= 0:
            break
        chosen.append(pick)
        for start, similarity in cached or _similarities(vectors, members, points[pick : pick + 1]):
            coverage = best[start : start + similarity.shape[1]]
            np.maximum(coverage, similarity[pick if cached else 0], out=coverage)
    return pool[chosen]


def _similarities(
    vectors: Any, members: NDArray[np.int64], points: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield cosine similarities of blocks of members to the candidates, clipped at 0 so that all gains are positive."""
    for start in range(0, len(members), _BLOCK):
        similarity = points @ _unit(vectors, members[start : start + _BLOCK]).T
        yield start, np.maximum(similarity, 0.0, out=similarity)


def _unit(vectors: Any, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return unit vectors; zeros for rows without a vector."""
    points = np.asarray(vectors[positions], dtype=np.float32)
    norms = np.linalg.norm(points, axis=1)
    usable = np.isfinite(norms) & (norms > 0)
    if usable.all():
        return points / norms[:, None]
    points[~usable], norms[~usable] = 0.0, 1.0
    return points / norms[:, None]
