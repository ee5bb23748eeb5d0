"""Place new documents on a fitted map, and assign clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.parallel import blocks, one_blas_thread
from latentscale.backends.cpu.placement_search import NeighborSearch, neighbors_among
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "NeighborSearch",
    "assign_clusters",
    "neighbors_among",
    "place",
]

_ROWS_AT_ONCE = 2048
# The share of a document's neighbours that must lie together for the kernel to be as wide as they are apart.
_CORE = 4 / 15
# Bounds of the kernel's width, in units of ``spread``.
_NARROWEST, _WIDEST = 0.05, 0.25
_ROUNDS = 3
# A tenth of the kernel: enough that no two lie on one point, too little to change a neighbourhood.
_JITTER = 0.1


def place(
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    coordinates: NDArray[np.float32],
    *,
    keys: NDArray[np.uint64],
    n_neighbors: int,
    spread: float,
    seed: int,
) -> NDArray[np.float32]:
    """Place new documents among fitted ones, which do not move.

    As in UMAP's ``transform`` a document is drawn to its fitted neighbours by their membership strengths (McInnes et
    al. 2018, algorithm 3; here their square roots). Instead of descending from their weighted mean, which lies in
    between where they are apart, it goes where most of them are: from the neighbour with the most of the others
    around it, three steps of mean shift (Comaniciu and Meer 2002) with a Cauchy kernel as wide as the core of the
    neighbours. The result lies within the outline of the neighbours' positions, but for a jitter of a tenth of that
    width. A document at distance 0 from a fitted one is placed on it.

    A place depends on the document's own neighbours, its key and the seed, never on the other new documents.

    Parameters
    ----------
    indices : int32 ndarray, shape (m, k)
        Positions of the fitted neighbours, nearest first.
    distances : float32 ndarray, shape (m, k)
        Cosine distances.
    coordinates : float32 ndarray, shape (n, c)
        Places of the fitted documents, in any number of dimensions; may be a mapped file.
    keys : uint64 ndarray, shape (m,)
        A hash of each document's identity, for its jitter.
    n_neighbors : int
        How many of the neighbours count; all where there are fewer.
    spread : float
        As the map was fitted with.

    Returns
    -------
    float32 ndarray, shape (m, c)

    Raises
    ------
    ShapeError
        If the arrays do not belong together.
    """
    m, c = len(indices), int(coordinates.shape[1])
    if indices.shape != distances.shape or len(keys) != m:
        raise ShapeError(
            f"neighbours of shape {indices.shape}, distances of {distances.shape} and {len(keys):,} keys do not match"
        )
    if m and indices.shape[1] == 0:
        raise ShapeError("a document without fitted neighbours has no position")
    k = min(n_neighbors, indices.shape[1])
    placed = np.empty((m, c), np.float32)
    for start, stop in blocks(m, _ROWS_AT_ONCE):
        some = np.asarray(distances[start:stop, :k], np.float64)
        positions = coordinates[indices[start:stop, :k]].astype(np.float64)
        at, width = _seek(positions, np.sqrt(_strengths(some)), spread=spread)
        same = some[:, 0] == 0.0
        at[same] = positions[same, 0]
        width[same] = 0.0
        jitter = np.stack([_uniform(keys[start:stop], seed=seed, stream=axis) for axis in range(c)], axis=1)
        placed[start:stop] = at + _JITTER * width[:, None] * jitter
    return placed


def _seek(
    positions: NDArray[np.float64], weights: NDArray[np.float64], *, spread: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the densest position by mean shift; also returns the width of the kernel."""
    m, k, c = positions.shape
    apart = np.zeros((m, k, k))
    for axis in range(c):
        apart += (positions[:, :, None, axis] - positions[:, None, :, axis]) ** 2
    core = min(k - 1, max(1, round(_CORE * k)))
    tight = np.sqrt(np.partition(apart, core, axis=2)[:, :, core].min(axis=1))
    width = np.clip(tight, _NARROWEST * spread, _WIDEST * spread)
    square = (width**2)[:, None]
    support = (weights[:, None, :] / (1.0 + apart / square[:, :, None])).sum(axis=2)
    at = positions[np.arange(m), support.argmax(axis=1)]
    for _ in range(_ROUNDS):
        pull = weights / (1.0 + ((positions - at[:, None]) ** 2).sum(axis=2) / square) ** 2
        # One neighbour after the other: a sum over an axis is taken in an order that depends on the other axes.
        total, sums = np.zeros(m), np.zeros((m, c))
        for j in range(k):
            total += pull[:, j]
            sums += pull[:, j, None] * positions[:, j]
        at = sums / total[:, None]
    return at, width


def _strengths(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """UMAP's membership strengths of each row's neighbours, as ``neighbor_kernels.membership_strengths``."""
    m, k = distances.shape
    target = np.log2(k + 1)
    positive = np.where(distances > 0, distances, np.inf).min(axis=1)
    beyond = np.maximum(distances - np.where(np.isfinite(positive), positive, 0.0)[:, None], 0.0)
    low, high, sigma = np.zeros(m), np.full(m, np.inf), np.ones(m)
    for _ in range(40):
        above = np.exp(-beyond / sigma[:, None]).sum(axis=1) > target
        high = np.where(above, sigma, high)
        low = np.where(above, low, sigma)
        sigma = np.where(np.isfinite(high), (low + high) / 2.0, sigma * 2.0)
    sigma = np.maximum(sigma, 1e-3 * distances.mean(axis=1) + 1e-12)
    return np.exp(-beyond / sigma[:, None])


def _uniform(keys: NDArray[np.uint64], *, seed: int, stream: int) -> NDArray[np.float64]:
    """A number in [-1, 1) for each key (splitmix64, Steele et al. 2014)."""
    start = ((seed & 0xFFFFFFFFFFFFFFFF) * 0xD1B54A32D192ED03 + (stream + 1) * 0x9E3779B97F4A7C15) % 2**64
    state = np.asarray(keys, np.uint64) + np.uint64(start)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def assign_clusters(
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    *,
    cluster: NDArray[np.int32],
    probability: NDArray[np.float32],
    vectors: NDArray[Any],
    centroids: NDArray[np.float32],
    sizes: NDArray[Any],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Assign new documents to the cluster of most of their fitted neighbours.

    Neighbours vote with UMAP's membership strengths; noise votes as noise. Of equal votes the nearest one's wins. A
    document at distance 0 from a fitted one has the cluster and the probability of that.

    Parameters
    ----------
    indices, distances : ndarray, shape (m, k)
        From :func:`neighbors_among`; all ``k`` vote.
    cluster : int32 ndarray, shape (n,)
        Of each fitted document; -1 is noise.
    probability : float32 ndarray, shape (n,)
    vectors : ndarray, shape (m, dim)
        Of the new documents.
    centroids : float32 ndarray, shape (n_clusters, dim)
        By cluster id; rows of ids that are not in use hold anything.
    sizes : int ndarray, shape (n_clusters,)
        Fitted members; 0 for an id that is not in use.

    Returns
    -------
    cluster : int32 ndarray, shape (m,)
        -1 for noise.
    nearest_cluster : int32 ndarray, shape (m,)
        The same where that is not -1, else the cluster with the nearest centroid by cosine; -1 if there is none.
    probability : float32 ndarray, shape (m,)
        Share of the votes that went to the cluster, times the mean probability (by vote) of the members that gave
        them; 0 for noise.

    Raises
    ------
    ShapeError
        If the arrays do not belong together.
    """
    m = len(indices)
    if len(vectors) != m or indices.shape != distances.shape:
        raise ShapeError(f"{m:,} documents have neighbours, {len(vectors):,} have vectors")
    if len(cluster) != len(probability) or len(centroids) != len(sizes):
        raise ShapeError("clusters, probabilities, centroids and sizes do not match")
    chosen = np.full(m, -1, np.int32)
    firmness = np.zeros(m, np.float32)
    for start, stop in blocks(m if indices.shape[1] else 0, _ROWS_AT_ONCE):
        near = indices[start:stop]
        votes = _strengths(np.asarray(distances[start:stop], np.float64))
        some, sure = _majority(cluster[near], votes, probability[near])
        # A copy of a fitted document is in its cluster, whatever the others around it are.
        copies = distances[start:stop, 0] == 0.0
        some[copies], sure[copies] = cluster[near[copies, 0]], probability[near[copies, 0]]
        chosen[start:stop], firmness[start:stop] = some, sure
    nearest = chosen.copy()
    lost = np.flatnonzero(chosen < 0)
    used = np.flatnonzero(np.asarray(sizes) > 0)
    if len(lost) and len(used):
        with one_blas_thread():
            for start, stop in blocks(len(lost), _ROWS_AT_ONCE):
                rows = lost[start:stop]
                # In double precision, where how a product is cut does not decide which of two is nearer.
                some = unit_rows(vectors[rows], what="the new documents").astype(np.float64)
                scores = some @ centroids[used].astype(np.float64).T
                nearest[rows] = used[scores.argmax(axis=1)]
    return chosen, nearest, firmness


def _majority(
    labels: NDArray[np.int32], votes: NDArray[np.float64], probability: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The label with the most votes in each row, ties to the one of the nearest; and its share by probability."""
    m, k = labels.shape
    rows = np.arange(m)
    tally = np.zeros((m, k))
    for j in range(k):
        tally += np.where(labels == labels[:, j, None], votes[:, j, None], 0.0)
    first = tally.argmax(axis=1)
    winner = labels[rows, first]
    total, sure = np.zeros(m), np.zeros(m)
    for j in range(k):
        total += votes[:, j]
        sure += np.where(labels[:, j] == winner, votes[:, j] * probability[:, j], 0.0)
    return winner, np.where(winner >= 0, sure / total, 0.0).astype(np.float32)
