"""Choose the exemplars of a cluster, by facility location over all of its documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.cpu.parallel import one_blas_thread

# Documents that are compared with each other in one round; those chosen of each part go on to the next.
_PART = 256
# Documents that are compared with the candidates at a time.
_BLOCK = 4_096
# Similarities that are held at once (128 MB); above, they are computed anew for each choice.
_HELD = 1 << 25


def exemplars_of_clusters(
    vectors: Any,
    members: Sequence[NDArray[np.int64]],
    clusters: Sequence[tuple[int, int]],
    parents: Sequence[int | None],
    *,
    k: int,
) -> list[NDArray[np.int64]]:
    """Choose exemplars of each cluster of a tree, of a coarser one among those of the clusters in it.

    Parameters
    ----------
    vectors, k
        As for :func:`choose_exemplars`.
    members : sequence of int64 ndarray
        Of each cluster.
    clusters : sequence of (int, int)
        Layer and number of each; the finest layer comes first.
    parents : sequence of int or None
        Number of the cluster of the next layer in which each lies.

    Returns
    -------
    list of int64 ndarray
        As :func:`choose_exemplars` returns them.
    """
    found: list[NDArray[np.int64]] = []
    below: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    # The products are small: threads of a BLAS would wait for each other longer than they compute.
    with one_blas_thread():
        for (layer, cluster), parent, inside in zip(clusters, parents, members, strict=True):
            children = below.get((layer, cluster))
            candidates = None if children is None else np.concatenate(children)
            found.append(choose_exemplars(vectors, inside, k=k, candidates=candidates))
            if parent is not None:
                below.setdefault((layer + 1, parent), []).append(found[-1])
    return found


def choose_exemplars(
    vectors: Any, members: NDArray[np.int64], *, k: int, candidates: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Choose up to ``k`` members that together are near all the others: greedy facility location.

    Maximises the sum, over all members, of the cosine to the nearest chosen one; greedy choice is within 1 - 1/e of the
    best (Nemhauser et al. 1978). The candidates of a large cluster are found in rounds: greedily in each of its random
    parts, until those chosen in the parts are few (RandGreeDi, Barbosa et al. 2015); the last choice among them is by
    all members. Members near the centre of the map, the usual choice, were measured to cover a cluster worse than
    random ones, since they all say the same.

    Parameters
    ----------
    vectors : array-like, shape (n_documents, dim), any float dtype
        May be memory-mapped: rows are read some thousands at a time.
    members : int64 ndarray, shape (n_members,)
        Matrix positions of the cluster's documents. Those without a vector (zeros or NaN) are never chosen.
    k : int
        Exemplars asked for. Fewer come back where there are fewer distinct vectors.
    candidates : int64 ndarray, optional
        Members to choose from, such as the exemplars of the clusters in a coarser one; by default all.

    Returns
    -------
    int64 ndarray, shape (at most k,)
        Positions, in the order of choice: the first is the most central.
    """
    members = np.unique(np.asarray(members, dtype=np.int64))
    pool = members if candidates is None else np.unique(np.asarray(candidates, dtype=np.int64))
    if not len(pool) or k < 1:
        return np.empty(0, dtype=np.int64)
    part = max(_PART, 4 * k)
    while len(pool) > part:
        # Any order that does not follow the corpus, which may be sorted by its topics.
        mixed = pool[np.argsort(pool.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15), kind="stable")]
        chosen = [_greedy(vectors, one, one, k) for one in np.array_split(mixed, -(-len(mixed) // part))]
        pool = np.sort(np.concatenate(chosen))
    return _greedy(vectors, members, pool, k)


def _greedy(vectors: Any, members: NDArray[np.int64], pool: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Choose from ``pool`` by what each adds for ``members``."""
    pool = np.sort(pool)
    points = _unit(vectors, pool)
    held = list(_similarities(vectors, members, points)) if len(pool) * len(members) <= _HELD else None
    best = np.zeros(len(members), dtype=np.float32)
    chosen: list[int] = []
    while len(chosen) < min(k, len(pool)):
        gains = np.zeros(len(pool))
        for start, similarity in held or _similarities(vectors, members, points):
            before = best[start : start + similarity.shape[1]]
            gains += np.maximum(similarity, before).sum(axis=1) - before.sum()
        # Rounding hides the order of near-equal gains, which differs between processors; the first position wins.
        gains = np.round(gains / len(members), 6)
        pick = int(np.argmax(gains))
        if gains[pick] <= 0:
            break
        chosen.append(pick)
        for start, similarity in held or _similarities(vectors, members, points[pick : pick + 1]):
            before = best[start : start + similarity.shape[1]]
            np.maximum(before, similarity[pick if held else 0], out=before)
    return pool[chosen]


def _similarities(
    vectors: Any, members: NDArray[np.int64], points: NDArray[np.float32]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Cosine of the candidates to some members at a time; 0 is the floor, so that the first choice is a gain, too."""
    for start in range(0, len(members), _BLOCK):
        similarity = points @ _unit(vectors, members[start : start + _BLOCK]).T
        yield start, np.maximum(similarity, 0.0, out=similarity)


def _unit(vectors: Any, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of length 1; of zeros where there is no vector."""
    points = np.asarray(vectors[positions], dtype=np.float32)
    norms = np.linalg.norm(points, axis=1)
    usable = np.isfinite(norms) & (norms > 0)
    if usable.all():
        return points / norms[:, None]
    points[~usable], norms[~usable] = 0.0, 1.0
    return points / norms[:, None]
