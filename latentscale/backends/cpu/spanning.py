"""The minimum spanning tree of mutual reachability (Campello et al. 2015) on processors, exactly.

Borůvka's rounds over a k-d tree, as McInnes and Healy (2017) have them for HDBSCAN: each part takes its shortest way to
another part. Ways to the nearest points of each point are known beforehand and settle most of them; leaves whose parts
may have a shorter one are compared with the nodes that may hold its other end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.parallel import blocks, run_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Points of a leaf, at least.
_LEAF = 24
# Known neighbours beyond those of the core distance.
_MORE = 6
_LEAVES_AT_ONCE, _POINTS_AT_ONCE = 256, 65_536


def spanning_tree(points: NDArray[Any], *, min_samples: int, threads: int) -> NDArray[np.float64]:
    """Join all points by the shortest ways, of the lengths ``max(core(a), core(b), |a - b|)``.

    Parameters
    ----------
    points : ndarray, shape (n, d), n >= 2
        Finite, of few dimensions.
    min_samples : int
        The core distance of a point is that to its so many-th other point; from 1 to ``n - 1``.
    threads : int
        Threads that work at once; the tree does not depend on them.

    Returns
    -------
    float64 ndarray, shape (n - 1, 3)
        Positions of both ends and the length, by ascending length.
    """
    given = np.ascontiguousarray(points, dtype=np.float64)
    chosen, of = _without_copies(given)
    single = given[chosen]
    counts = np.bincount(of, minlength=len(chosen))
    copies = np.ones(len(given), np.bool_)
    copies[chosen] = False
    if len(single) == 1:
        core, ends, lengths = np.zeros(1), np.empty((0, 2), np.int64), np.empty(0)
    else:
        core, ends, lengths = _tree(single, counts, min_samples=min_samples, threads=threads)
    # A copy is as far from its first one as from its own neighbours.
    at = np.flatnonzero(copies)
    ends = np.concatenate((chosen[ends], np.stack((chosen[of[at]], at), axis=1)))
    lengths = np.concatenate((lengths, core[of[at]]))
    order = np.argsort(lengths, kind="stable")
    return np.column_stack((ends[order].astype(np.float64), lengths[order]))


def _without_copies(points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first of all points that are alike, and of each point which of these it is."""
    bits = points.view(np.uint64)
    odd = np.random.default_rng(0).integers(1, 2**63, bits.shape[1], dtype=np.uint64) | np.uint64(1)
    key = np.zeros(len(bits), np.uint64)
    for column, factor in zip(bits.T, odd, strict=True):
        key ^= key >> np.uint64(29)
        key = (key + column) * factor
    order = np.argsort(key, kind="stable")
    held = points[order]
    new = np.append(True, (held[1:] != held[:-1]).any(axis=1))
    group = np.cumsum(new) - 1
    chosen = order[new]
    # In the order of the points, as the rest is.
    rank = np.argsort(chosen, kind="stable")
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    of = np.empty(len(points), np.int64)
    of[order] = place[group]
    return chosen[rank], of


def _tree(
    points: NDArray[np.float64], counts: NDArray[np.int64], *, min_samples: int, threads: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Core distances, ways and their lengths, of points that all differ; ``counts``: how often there is each."""
    from sklearn.neighbors import KDTree

    from latentscale.backends.cpu import spanning_kernels as kernels

    _, order, nodes, bounds = KDTree(points, leaf_size=_LEAF).get_arrays()
    order, points = np.asarray(order), points[order]
    first = np.ascontiguousarray(nodes["idx_start"], np.int64)
    end = np.ascontiguousarray(nodes["idx_end"], np.int64)
    is_leaf = np.ascontiguousarray(nodes["is_leaf"], np.int64) > 0
    low, high = np.ascontiguousarray(bounds[0]), np.ascontiguousarray(bounds[1])
    leaves = np.flatnonzero(is_leaf)
    tree = (points, low, high, first, end, is_leaf, leaves)
    n = len(points)

    def over_leaves(work: Any) -> None:
        run_blocks(work, blocks(len(leaves), _LEAVES_AT_ONCE), threads=threads)

    k = min(n - 1, min_samples + _MORE)
    near, apart = np.full((n, k), -1, np.int32), np.full((n, k), np.inf)
    over_leaves(lambda start, stop: kernels.nearest_points(*tree, start, stop, near, apart))
    core = _core_distances(near, apart, counts[order], min_samples)
    reach = np.full(n, np.inf) if k == n - 1 else np.maximum(core, apart[:, -1])
    least_core = np.empty(len(first))
    kernels.least_of_nodes(first, end, is_leaf, core, least_core)
    part, parts = np.arange(n), n
    node_part, to, length, least = np.empty(len(first), np.int64), np.empty(n, np.int64), np.empty(n), np.empty(n)
    ends, lengths, done = np.empty((n - 1, 2), np.int64), np.empty(n - 1), 0

    def known(start: int, stop: int) -> None:
        kernels.known_ways(near, apart, core, part, start, stop, to, length)

    def search(start: int, stop: int) -> None:
        kernels.search_ways(*tree, start, stop, core, least_core, reach, part, node_part, to, length, least)

    while parts > 1:
        run_blocks(known, blocks(n, _POINTS_AT_ONCE), threads=threads)
        least.fill(np.inf)
        kernels.least_of_parts(part, length, least)
        kernels.parts_of_nodes(first, end, is_leaf, part, node_part)
        over_leaves(search)
        taken, parts = kernels.join_parts(part, parts, to, length, ends[done:], lengths[done:])
        done += taken
    back = np.empty(n)
    back[order] = core
    return back, order[ends], lengths


def _core_distances(
    near: NDArray[np.int32], apart: NDArray[np.float64], counts: NDArray[np.int64], min_samples: int
) -> NDArray[np.float64]:
    """Distance to the so many-th other point, copies counted; 0 for a point that has as many copies."""
    if counts.max() == 1:
        return apart[:, min_samples - 1].copy()
    seen = counts[:, None] - 1 + np.cumsum(np.where(near >= 0, counts[near], 0), axis=1)
    core = apart[np.arange(len(apart)), np.minimum((seen < min_samples).sum(axis=1), apart.shape[1] - 1)]
    core[counts > min_samples] = 0.0
    return core
