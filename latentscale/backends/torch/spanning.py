"""The exact minimum spanning tree of mutual reachability distances (Campello et al. 2015), on a device.

Borůvka's algorithm: in each round every component adds its lightest edge to another component. Edges to the nearest
neighbours of a point are computed once. A point is compared with others only while its component has no edge as light
as the distance of its last listed neighbour, and then only with blocks whose boxes are nearer than the lightest edge so
far. Duplicates of a point are joined to its first occurrence: among each other they would fill all neighbour lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.torch.blocks import (
    Blocks,
    Products,
    close_pairs,
    in_blocks,
    nearest_blocks,
    nearest_points,
    pair_slots,
    pieces,
    squared_distances,
)
from latentscale.backends.torch.device import device_memory, exact_products, repeatable, widest_float

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

# Nearest neighbours computed beyond the min_samples that core distances need.
_EXTRA_NEIGHBORS = 8
# Slots after each point that are candidates first: they are near in the order of the blocks, and every component gets
# an edge.
_ADJACENT_SLOTS = 4
# Nearest blocks that each block is compared with before the full search.
_FIRST_BLOCKS = 4
# Blocks whose candidate pairs are searched at once.
_BLOCKS_AT_ONCE = 1 << 14
# Edges whose weights are computed at once.
_EDGES_AT_ONCE = 1 << 22


def spanning_tree(points: NDArray[Any], *, min_samples: int, device: torch.device) -> NDArray[np.float64]:
    """Compute the minimum spanning tree under ``max(core(a), core(b), |a - b|)``.

    Parameters
    ----------
    points : ndarray, shape (n, d), n >= 2
        Finite.
    min_samples : int
        The core distance of a point is the distance to its ``min_samples``-th nearest other point; at most ``n - 1``.

    Returns
    -------
    float64 ndarray, shape (n - 1, 3)
        Both ends and the weight of each edge, by ascending weight: bit-identical on every run on this kind of device.

    Raises
    ------
    EnvironmentFailure
        If it does not fit in the device's memory.
    """
    import torch

    with torch.inference_mode(), exact_products(), repeatable(True), device_memory("the spanning tree", device):
        data = torch.from_numpy(np.array(points, dtype=np.float64)).to(widest_float(device)).to(device)
        first, inverse = _distinct(data)
        search = _Search(in_blocks(data[first]), torch.bincount(inverse, minlength=len(first)), min_samples=min_samples)
        edges: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
        weights: list[NDArray[np.float64]] = [np.empty(0)]
        while search.n_components > 1:
            start, end, weight = search.round()
            edges.append(np.stack((start, end), axis=1))
            weights.append(weight)
        position = first[search.blocks.position.clamp(min=0)].cpu().numpy()
        core = torch.empty_like(data[: len(first), 0])
        core[search.blocks.position[search.real]] = search.core[search.real]
        is_duplicate = (first[inverse] != torch.arange(len(data), device=device)).nonzero().squeeze(1)
        duplicate_edges = torch.stack((first[inverse[is_duplicate]], is_duplicate), dim=1).cpu().numpy()
        duplicate_weights = core[inverse[is_duplicate]].double().cpu().numpy()
    all_edges = np.concatenate((position[np.concatenate(edges)], duplicate_edges))
    return _tree(all_edges, np.concatenate((*weights, duplicate_weights)), n=len(points))


def _distinct(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Find duplicate rows, by a lexicographic sort.

    Returns
    -------
    first : int64 tensor, shape (u,)
        Positions of the first occurrence of each distinct point, ascending.
    inverse : int64 tensor, shape (n,)
        For each point, where its first occurrence is in ``first``.
    """
    import torch

    order = torch.arange(len(points), device=points.device)
    for axis in reversed(range(points.shape[1])):
        order = order[points[order, axis].argsort(stable=True)]
    ordered = points[order]
    is_new = torch.ones_like(order)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(1).long()
    # The sorts are stable: the first point of a group is its first occurrence.
    group_first, group = order[is_new.nonzero().squeeze(1)], is_new.cumsum(0) - 1
    first, group_order = group_first.sort()
    rank_of_group = torch.empty_like(first)
    rank_of_group[group_order] = torch.arange(len(first), device=points.device)
    inverse = torch.empty_like(order)
    inverse[order] = rank_of_group[group]
    return first, inverse


class _Search:
    """Components, and the lightest known edge out of each; all by slots in the order of the blocks.

    Parameters
    ----------
    blocks : Blocks
        Of distinct points.
    counts : int64 tensor, shape (n,)
        How often each point occurs, by positions.
    min_samples : int
    """

    def __init__(self, blocks: Blocks, counts: torch.Tensor, *, min_samples: int) -> None:
        import torch

        self.blocks = blocks
        self.real = blocks.real
        n = len(counts)
        k = min(n - 1, min_samples + _EXTRA_NEIGHBORS)
        knn_distances, self.knn_indices = nearest_points(blocks, k)
        core = _core_distances(
            knn_distances, self.knn_indices, counts[blocks.position.clamp(min=0)], min_samples=min_samples
        )
        self.core = torch.where(self.real, core, torch.full_like(core, torch.inf))
        # A lower bound of the weight of an edge to a point that is not among the nearest neighbours.
        all_listed = k == n - 1
        self.unlisted_bound = (
            torch.full_like(core, torch.inf) if all_listed else torch.maximum(self.core, knn_distances[:, -1])
        )
        self.knn_weights = knn_distances
        for rows in self._rows():
            weights = torch.maximum(self.knn_weights[rows], self.core[rows][:, None])
            self.knn_weights[rows] = torch.maximum(weights, self.core[self.knn_indices[rows]])
        self.block_core = self.core.view(len(blocks), -1).amin(1).square()
        # Fill slots have a label of their own, one past the last component.
        component = torch.full_like(blocks.position, n)
        component[self.real] = torch.arange(n, device=component.device)
        self.component, self.n_components = component, n
        self._reset()

    def _rows(self) -> Iterator[slice]:
        """Slices of the slots whose neighbour lists are processed at once."""
        return _slices(*self.knn_indices.shape)

    def _reset(self) -> None:
        """Clear the lightest edges, for the next round."""
        import torch

        # The weight of the lightest edge out of each component, and its ends as one number, start * slots + end: of
        # edges of equal weight the smallest number.
        self.weight = torch.full((self.n_components + 1,), torch.inf, dtype=self.core.dtype, device=self.core.device)
        self.edge = torch.full((self.n_components + 1,), torch.iinfo(torch.int64).max, device=self.core.device)

    def round(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Find the lightest edge out of each component and merge the components along them: both ends and weights."""
        import torch
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        self._take_known()
        self._take_following()
        self._compare()
        n_slots = len(self.component)
        edge, weight = self.edge[:-1], self.weight[:-1]
        start_slot, end_slot = edge // n_slots, edge % n_slots
        start, end = start_slot.cpu().numpy(), end_slot.cpu().numpy()
        ends = self.component[start_slot].cpu().numpy(), self.component[end_slot].cpu().numpy()
        graph = csr_array((np.ones(len(start), np.int8), ends), shape=(self.n_components, self.n_components))
        weights = weight.double().cpu().numpy()
        self.n_components, labels = connected_components(graph, directed=False)
        relabeled = torch.from_numpy(np.append(labels, self.n_components).astype(np.int64)).to(self.component.device)
        self.component = relabeled[self.component]
        self._reset()
        return start, end, weights

    def _take(self, start: torch.Tensor, end: torch.Tensor, weight: torch.Tensor) -> None:
        """Update the lightest edge of each component with candidate edges."""
        import torch

        component = self.component[start]
        lighter = (weight <= self.weight[component]).nonzero().squeeze(1)
        start, end, weight, component = start[lighter], end[lighter], weight[lighter], component[lighter]
        lightest = self.weight.scatter_reduce(0, component, weight, "amin")
        no_edge = torch.full_like(self.edge, torch.iinfo(torch.int64).max)
        self.edge = torch.where(lightest < self.weight, no_edge, self.edge)
        tied = (weight == lightest[component]).nonzero().squeeze(1)
        self.edge.scatter_reduce_(0, component[tied], start[tied] * len(self.component) + end[tied], "amin")
        self.weight = lightest

    def _take_known(self) -> None:
        """Candidates: the edges to nearest neighbours."""
        import torch

        for rows in self._rows():
            neighbors = self.knn_indices[rows]
            is_inner = self.component[neighbors] == self.component[rows][:, None]
            weight, column = self.knn_weights[rows].masked_fill(is_inner, torch.inf).min(1)
            outgoing = (weight < torch.inf).nonzero().squeeze(1)
            self._take(
                outgoing + rows.start, neighbors.gather(1, column[:, None]).squeeze(1)[outgoing], weight[outgoing]
            )

    def _take_following(self) -> None:
        """Candidates: edges between adjacent slots; afterwards no component is without an edge."""
        real = self.real.nonzero().squeeze(1)
        for offset in range(1, _ADJACENT_SLOTS + 1):
            start, end = real[:-offset], real[offset:]
            outgoing = (self.component[start] != self.component[end]).nonzero().squeeze(1)
            start, end = start[outgoing], end[outgoing]
            weight = self._weights(start, end)
            self._take(start, end, weight)
            self._take(end, start, weight)

    def _weights(self, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """Mutual reachability distances of pairs of slots."""
        import torch

        distance = squared_distances(self.blocks, start, end).sqrt_()
        return torch.maximum(torch.maximum(distance, self.core[start]), self.core[end])

    def _limits(self, rows: torch.Tensor) -> torch.Tensor:
        """Squared weight below which an edge of each point of some blocks is of use; -1 where there can be none."""
        import torch

        shape = (len(self.blocks), -1)
        known = self.weight[self.component.view(shape)[rows]]
        return torch.where(self.unlisted_bound.view(shape)[rows] < known, known.square(), torch.full_like(known, -1.0))

    def _compare(self) -> None:
        """Candidates: pairs of points in all pairs of blocks that may hold a lighter edge."""
        import torch

        blocks = self.blocks
        component = self.component.view(len(blocks), -1)
        real = self.real.view(len(blocks), -1)
        lowest = component.masked_fill(~real, self.n_components).amin(1)
        highest = component.masked_fill(~real, -1).amax(1)
        block_component = torch.where(lowest == highest, lowest, torch.full_like(lowest, -1))
        all_blocks = torch.arange(len(blocks), device=component.device)
        unsettled = (self._limits(all_blocks).amax(1) >= 0).nonzero().squeeze(1)
        if not len(unsettled):
            return
        for rows in unsettled.split(max(1, blocks.at_once // _FIRST_BLOCKS)):
            columns = nearest_blocks(blocks, rows, _FIRST_BLOCKS, component=block_component)
            for number in range(columns.shape[1]):
                self._compare_pairs(rows, columns[:, number])
        # Subtree by subtree: all pairs of blocks at once may not fit.
        level = max(1, len(blocks) // _BLOCKS_AT_ONCE).bit_length() - 1
        for node in range(2**level):
            limit = self._limits(all_blocks).amax(1)
            queries, others, bound = close_pairs(
                blocks, limit, nodes=(level, node, node + 1), lower_bound=self.block_core, component=block_component
            )
            # In ascending order: edges found early prune later pairs.
            order = bound.argsort(stable=True)
            for rows, columns, pair_bound in pieces(blocks, queries[order], others[order], bound[order]):
                kept = (pair_bound < self._limits(rows).amax(1)).nonzero().squeeze(1)
                self._compare_pairs(rows[kept], columns[kept])

    def _compare_pairs(self, rows: torch.Tensor, columns: torch.Tensor) -> None:
        """Candidates: pairs of points of each pair of blocks (int64, shape (m,) both)."""
        if not len(rows):
            return
        component = self.component.int().view(len(self.blocks), -1)
        products = Products(self.blocks, rows, columns[:, None])
        entries = products.below(self._limits(rows), (component[rows], component[columns]))
        for chunk in entries.split(_EDGES_AT_ONCE):
            start, end = pair_slots(self.blocks, chunk, rows, columns)
            self._take(start, end, self._weights(start, end))


def _slices(n: int, width: int) -> Iterator[slice]:
    step = max(1, _EDGES_AT_ONCE // max(1, width))
    return (slice(start, start + step) for start in range(0, n, step))


def _core_distances(
    knn_distances: torch.Tensor, knn_indices: torch.Tensor, counts: torch.Tensor, *, min_samples: int
) -> torch.Tensor:
    """Distances within which there are ``min_samples`` other points; a point counts as often as it occurs."""
    import torch

    core = knn_distances.new_zeros(len(knn_distances))
    for rows in _slices(*knn_indices.shape):
        # The point's own duplicates come first, at distance 0.
        distance = torch.cat((torch.zeros_like(core[rows])[:, None], knn_distances[rows]), dim=1)
        n_within = torch.cat((counts[rows][:, None] - 1, counts[knn_indices[rows]]), dim=1).cumsum(1)
        core[rows] = distance.gather(1, (n_within >= min_samples).long().argmax(1, keepdim=True)).squeeze(1)
    return core


def _tree(edges: NDArray[np.int64], weights: NDArray[np.float64], *, n: int) -> NDArray[np.float64]:
    """Drop edges that close a cycle: components that choose among edges of equal weight may add one too many."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    edges = np.sort(edges, axis=1)
    # Two components may have added the same edge.
    _, first = np.unique(edges[:, 0] * n + edges[:, 1], return_index=True)
    order = first[np.argsort(weights[first], kind="stable")]
    edges, weights = edges[order], weights[order]
    # scipy gets ranks as weights: a weight of 0 would be no edge, and ranks are distinct.
    ranks = csr_array((np.arange(1.0, len(edges) + 1), (edges[:, 0], edges[:, 1])), shape=(n, n))
    kept = np.sort(minimum_spanning_tree(ranks).data.astype(np.int64)) - 1
    return np.column_stack((edges[kept].astype(np.float64), weights[kept]))
