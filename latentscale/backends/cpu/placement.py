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
# The kernel is as wide as the densest core of neighbours: the smallest ball around one that holds this share of them.
_CORE_SHARE = 4 / 15
# Bounds of the kernel's width, in units of ``spread``.
_MIN_WIDTH, _MAX_WIDTH = 0.05, 0.25
_STEPS = 3
# In kernel widths: enough to separate documents with the same neighbours, too little to change a neighbourhood.
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

    As in UMAP's ``transform``, fitted neighbours are weighted by membership strength (McInnes et al. 2018, algorithm 3;
    here its square root). Their weighted mean would lie between groups that are far apart; instead the document goes to
    the mode of its neighbours: three steps of mean shift (Comaniciu and Meer 2002) from the neighbour with the highest
    density of others, with a Cauchy kernel as wide as the densest core. The result is inside the convex hull of the
    neighbours' positions, but for a jitter of a tenth of the width. A document at distance 0 from a fitted one gets its
    position.

    A position depends only on the document's neighbours, its key and the seed, never on the other new documents.

    Parameters
    ----------
    indices : int32 ndarray, shape (m, k)
        Positions of the fitted neighbours, nearest first.
    distances : float32 ndarray, shape (m, k)
        Cosine distances.
    coordinates : float32 ndarray, shape (n, c)
        Coordinates of the fitted documents, in any number of dimensions; may be a mapped file.
    keys : uint64 ndarray, shape (m,)
        A hash of each document's id, which seeds its jitter.
    n_neighbors : int
        Number of neighbours to use; all where there are fewer.
    spread : float
        UMAP's ``spread`` of the fitted map.

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
        block_distances = np.asarray(distances[start:stop, :k], np.float64)
        positions = coordinates[indices[start:stop, :k]].astype(np.float64)
        center, width = _mean_shift(positions, np.sqrt(_membership_strengths(block_distances)), spread=spread)
        is_duplicate = block_distances[:, 0] == 0.0
        center[is_duplicate] = positions[is_duplicate, 0]
        width[is_duplicate] = 0.0
        jitter = np.stack([_uniform(keys[start:stop], seed=seed, stream=axis) for axis in range(c)], axis=1)
        placed[start:stop] = center + _JITTER * width[:, None] * jitter
    return placed


def _mean_shift(
    positions: NDArray[np.float64], weights: NDArray[np.float64], *, spread: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the mode of weighted positions (m, k, c) by mean shift; also returns the width of each kernel."""
    m, k, c = positions.shape
    squared = np.zeros((m, k, k))
    for axis in range(c):
        squared += (positions[:, :, None, axis] - positions[:, None, :, axis]) ** 2
    core = min(k - 1, max(1, round(_CORE_SHARE * k)))
    core_distance = np.sqrt(np.partition(squared, core, axis=2)[:, :, core].min(axis=1))
    width = np.clip(core_distance, _MIN_WIDTH * spread, _MAX_WIDTH * spread)
    squared_width = (width**2)[:, None]
    support = (weights[:, None, :] / (1.0 + squared / squared_width[:, :, None])).sum(axis=2)
    center = positions[np.arange(m), support.argmax(axis=1)]
    for _ in range(_STEPS):
        kernel = weights / (1.0 + ((positions - center[:, None]) ** 2).sum(axis=2) / squared_width) ** 2
        # Neighbour by neighbour: numpy may reduce an axis in another order for other shapes.
        kernel_sum, sums = np.zeros(m), np.zeros((m, c))
        for j in range(k):
            kernel_sum += kernel[:, j]
            sums += kernel[:, j, None] * positions[:, j]
        center = sums / kernel_sum[:, None]
    return center, width


def _membership_strengths(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """UMAP's membership strengths in numpy, as ``neighbor_kernels.membership_strengths`` computes them."""
    m, k = distances.shape
    target = np.log2(k + 1)
    positive = np.where(distances > 0, distances, np.inf).min(axis=1)
    excess = np.maximum(distances - np.where(np.isfinite(positive), positive, 0.0)[:, None], 0.0)
    low, high, sigma = np.zeros(m), np.full(m, np.inf), np.ones(m)
    for _ in range(40):
        is_above = np.exp(-excess / sigma[:, None]).sum(axis=1) > target
        high = np.where(is_above, sigma, high)
        low = np.where(is_above, low, sigma)
        sigma = np.where(np.isfinite(high), (low + high) / 2.0, sigma * 2.0)
    sigma = np.maximum(sigma, 1e-3 * distances.mean(axis=1) + 1e-12)
    return np.exp(-excess / sigma[:, None])


def _uniform(keys: NDArray[np.uint64], *, seed: int, stream: int) -> NDArray[np.float64]:
    """Hash each key to a number in [-1, 1) (splitmix64, Steele et al. 2014)."""
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
    """Assign new documents to clusters by a weighted vote of their fitted neighbours.

    Votes are weighted by UMAP's membership strength; noise is one of the labels. Ties go to the label of the nearest
    neighbour. A document at distance 0 from a fitted one gets its cluster and probability.

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
        By cluster id; rows of unused ids are ignored.
    sizes : int ndarray, shape (n_clusters,)
        Number of fitted members; 0 for an unused id.

    Returns
    -------
    cluster : int32 ndarray, shape (m,)
        -1 for noise.
    nearest_cluster : int32 ndarray, shape (m,)
        The same where that is not -1, else the cluster with the nearest centroid by cosine; -1 if there is none.
    probability : float32 ndarray, shape (m,)
        The cluster's share of the votes, times the weighted mean probability of the neighbours that voted for it; 0 for
        noise.

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
    labels = np.full(m, -1, np.int32)
    probabilities = np.zeros(m, np.float32)
    for start, stop in blocks(m if indices.shape[1] else 0, _ROWS_AT_ONCE):
        neighbors = indices[start:stop]
        votes = _membership_strengths(np.asarray(distances[start:stop], np.float64))
        block_labels, block_probabilities = _majority_vote(cluster[neighbors], votes, probability[neighbors])
        # A duplicate of a fitted document is in its cluster, whatever its other neighbours are.
        is_duplicate = distances[start:stop, 0] == 0.0
        block_labels[is_duplicate], block_probabilities[is_duplicate] = (
            cluster[neighbors[is_duplicate, 0]],
            probability[neighbors[is_duplicate, 0]],
        )
        labels[start:stop], probabilities[start:stop] = block_labels, block_probabilities
    nearest = labels.copy()
    noise = np.flatnonzero(labels < 0)
    used_ids = np.flatnonzero(np.asarray(sizes) > 0)
    if len(noise) and len(used_ids):
        with one_blas_thread():
            for start, stop in blocks(len(noise), _ROWS_AT_ONCE):
                rows = noise[start:stop]
                # In double precision, so that how BLAS splits the product does not decide near ties.
                block_labels = unit_rows(vectors[rows], what="the new documents").astype(np.float64)
                scores = block_labels @ centroids[used_ids].astype(np.float64).T
                nearest[rows] = used_ids[scores.argmax(axis=1)]
    return labels, nearest, probabilities


def _majority_vote(
    labels: NDArray[np.int32], votes: NDArray[np.float64], probability: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The label with the most votes in each row, ties to the nearest neighbour's; and its weighted share."""
    m, k = labels.shape
    rows = np.arange(m)
    tally = np.zeros((m, k))
    for j in range(k):
        tally += np.where(labels == labels[:, j, None], votes[:, j, None], 0.0)
    first = tally.argmax(axis=1)
    winner = labels[rows, first]
    total, agreement = np.zeros(m), np.zeros(m)
    for j in range(k):
        total += votes[:, j]
        agreement += np.where(labels[:, j] == winner, votes[:, j] * probability[:, j], 0.0)
    return winner, np.where(winner >= 0, agreement / total, 0.0).astype(np.float32)
