"""The exact minimum spanning tree of mutual reachability distances (Campello et al. 2015), on CPUs.

Borůvka's algorithm over a k-d tree, as McInnes and Healy (2017) use it for HDBSCAN: in each round every component adds
its lightest edge to another component. The nearest neighbours of each point, computed once, provide most of these
edges; only leaves whose components may have a lighter one are searched in the tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.parallel import blocks, run_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAF_SIZE = 24
# Nearest neighbours computed beyond the min_samples that core distances need.
_EXTRA_NEIGHBORS = 6
_LEAVES_PER_BLOCK, _POINTS_PER_BLOCK = 256, 65_536


def spanning_tree(points: NDArray[Any], *, min_samples: int, threads: int) -> NDArray[np.float64]:
    """Compute the minimum spanning tree under ``max(core(a), core(b), |a - b|)``.

    Parameters
    ----------
    points : ndarray, shape (n, d), n >= 2
        Finite, of few dimensions.
    min_samples : int
        The core distance of a point is the distance to its ``min_samples``-th nearest other point; from 1 to ``n - 1``.
    threads : int
        The tree does not depend on their number.

    Returns
    -------
    float64 ndarray, shape (n - 1, 3)
        Both ends and the weight of each edge, by ascending weight.
    """
    data = np.ascontiguousarray(points, dtype=np.float64)
    first, inverse = _unique_points(data)
    unique = data[first]
    counts = np.bincount(inverse, minlength=len(first))
    is_duplicate = np.ones(len(data), np.bool_)
    is_duplicate[first] = False
    if len(unique) == 1:
        core, edges, weights = np.zeros(1), np.empty((0, 2), np.int64), np.empty(0)
    else:
        core, edges, weights = _boruvka(unique, counts, min_samples=min_samples, threads=threads)
    # A duplicate is joined to the first of its points: their distance is 0, so the edge weighs their core distance.
    duplicates = np.flatnonzero(is_duplicate)
    edges = np.concatenate((first[edges], np.stack((first[inverse[duplicates]], duplicates), axis=1)))
    weights = np.concatenate((weights, core[inverse[duplicates]]))
    order = np.argsort(weights, kind="stable")
    return np.column_stack((edges[order].astype(np.float64), weights[order]))


def _unique_points(points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find duplicate rows, by hashes of their bits.

    Returns
    -------
    first : int64 ndarray, shape (u,)
        Positions of the first occurrence of each distinct point, ascending.
    inverse : int64 ndarray, shape (n,)
        For each point, where its first occurrence is in ``first``.
    """
    bits = points.view(np.uint64)
    # Odd, so that multiplying modulo 2^64 loses no bits.
    multipliers = np.random.default_rng(0).integers(1, 2**63, bits.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.zeros(len(bits), np.uint64)
    for column, multiplier in zip(bits.T, multipliers, strict=True):
        hashes ^= hashes >> np.uint64(29)
        hashes = (hashes + column) * multiplier
    order = np.argsort(hashes, kind="stable")
    ordered = points[order]
    is_new = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))
    group = np.cumsum(is_new) - 1
    first = order[is_new]
    # From the order of the hashes to that of the points.
    rank = np.argsort(first, kind="stable")
    rank_of_group = np.empty(len(rank), np.int64)
    rank_of_group[rank] = np.arange(len(rank))
    inverse = np.empty(len(points), np.int64)
    inverse[order] = rank_of_group[group]
    return first[rank], inverse


def _boruvka(
    points: NDArray[np.float64], counts: NDArray[np.int64], *, min_samples: int, threads: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Compute the tree of ``n >= 2`` distinct points, each of which occurs ``counts`` times.

    Returns
    -------
    core : float64 ndarray, shape (n,)
        Core distances, in the order of ``points``.
    edges : int64 ndarray, shape (n - 1, 2)
        Positions in ``points``.
    weights : float64 ndarray, shape (n - 1,)
        In the order of ``edges``: that in which they were added.
    """
    from sklearn.neighbors import KDTree

    from latentscale.backends.cpu import spanning_kernels as kernels

    _, order, nodes, bounds = KDTree(points, leaf_size=_LEAF_SIZE).get_arrays()
    order, points = np.asarray(order), points[order]
    node_start = np.ascontiguousarray(nodes["idx_start"], np.int64)
    node_end = np.ascontiguousarray(nodes["idx_end"], np.int64)
    is_leaf = np.ascontiguousarray(nodes["is_leaf"], np.int64) > 0
    lower, upper = np.ascontiguousarray(bounds[0]), np.ascontiguousarray(bounds[1])
    leaves = np.flatnonzero(is_leaf)
    tree = (points, lower, upper, node_start, node_end, is_leaf, leaves)
    n = len(points)

    def for_leaves(run: Any) -> None:
        run_blocks(run, blocks(len(leaves), _LEAVES_PER_BLOCK), threads=threads)

    k = min(n - 1, min_samples + _EXTRA_NEIGHBORS)
    knn_indices, knn_distances = np.full((n, k), -1, np.int32), np.full((n, k), np.inf)
    for_leaves(lambda start, stop: kernels.knn_of_leaves(*tree, start, stop, knn_indices, knn_distances))
    core = _core_distances(knn_indices, knn_distances, counts[order], min_samples)
    # A point outside the list is at least as far as its last neighbour.
    unlisted_bound = np.full(n, np.inf) if k == n - 1 else np.maximum(core, knn_distances[:, -1])
    node_core = np.empty(len(node_start))
    kernels.node_minima(node_start, node_end, is_leaf, core, node_core)
    component, n_components = np.arange(n), n
    node_component, candidate = np.empty(len(node_start), np.int64), np.empty(n, np.int64)
    weight, bound = np.empty(n), np.empty(n)
    edges, weights, n_edges = np.empty((n - 1, 2), np.int64), np.empty(n - 1), 0

    def from_knn(start: int, stop: int) -> None:
        kernels.candidates_from_knn(knn_indices, knn_distances, core, component, start, stop, candidate, weight)

    def from_tree(start: int, stop: int) -> None:
        kernels.candidates_from_tree(
            *tree, start, stop, core, node_core, unlisted_bound, component, node_component, candidate, weight, bound
        )

    while n_components > 1:
        run_blocks(from_knn, blocks(n, _POINTS_PER_BLOCK), threads=threads)
        bound.fill(np.inf)
        kernels.component_bounds(component, weight, bound)
        kernels.update_node_components(node_start, node_end, is_leaf, component, node_component)
        for_leaves(from_tree)
        n_added, n_components = kernels.merge_components(
            component, n_components, candidate, weight, edges[n_edges:], weights[n_edges:]
        )
        n_edges += n_added
    core_of_point = np.empty(n)
    core_of_point[order] = core
    return core_of_point, order[edges], weights


def _core_distances(
    knn_indices: NDArray[np.int32], knn_distances: NDArray[np.float64], counts: NDArray[np.int64], min_samples: int
) -> NDArray[np.float64]:
    """Distances to the ``min_samples``-th other point, duplicates counted; 0 for points with that many duplicates."""
    if counts.max() == 1:
        return knn_distances[:, min_samples - 1].copy()
    n_within = counts[:, None] - 1 + np.cumsum(np.where(knn_indices >= 0, counts[knn_indices], 0), axis=1)
    slot = np.minimum((n_within < min_samples).sum(axis=1), knn_distances.shape[1] - 1)
    core = knn_distances[np.arange(len(knn_distances)), slot]
    core[counts > min_samples] = 0.0
    return core
