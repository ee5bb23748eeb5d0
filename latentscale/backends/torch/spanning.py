"""The minimum spanning tree of mutual reachability (Campello et al. 2015) on a device, exactly.

Borůvka's rounds: each part takes its shortest way to another part. Ways to the nearest neighbours of a point are known
beforehand; a point is compared with others only while its part has no way as short as its farthest known neighbour, and
then only with blocks that may be nearer than the shortest way that is known. Copies of a point hang on the first of
them: they would be each other's neighbours without end.
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
    pieces,
    places,
    squares,
)
from latentscale.backends.torch.device import device_memory, exact_products, repeatable, widest_float

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

# Known neighbours beyond those of the core distance.
_MORE = 8
# Points that follow each other in the order of the blocks are near: a first way out of each part.
_FOLLOWING = 4
# Blocks that each block is compared with before all.
_FIRST = 4
# Blocks whose pairs are looked for at once.
_TOGETHER = 1 << 14
# Ways that are measured at once.
_WAYS = 1 << 22


def spanning_tree(points: NDArray[Any], *, min_samples: int, device: torch.device) -> NDArray[np.float64]:
    """Join all points by the shortest ways, of the lengths ``max(core(a), core(b), |a - b|)``.

    Parameters
    ----------
    points : ndarray, shape (n, d), n >= 2
        Finite.
    min_samples : int
        The core distance of a point is that to its so many-th other point; at most ``n - 1``.

    Returns
    -------
    float64 ndarray, shape (n - 1, 3)
        Positions of both ends and the length, by ascending length: the same bits again on this kind of device.

    Raises
    ------
    EnvironmentFailure
        If it does not fit in the device's memory.
    """
    import torch

    with torch.inference_mode(), exact_products(), repeatable(True), device_memory("the spanning tree", device):
        held = torch.from_numpy(np.array(points, dtype=np.float64)).to(widest_float(device)).to(device)
        first, copy_of = _distinct(held)
        search = _Search(in_blocks(held[first]), torch.bincount(copy_of, minlength=len(first)), min_samples=min_samples)
        ends: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
        lengths: list[NDArray[np.float64]] = [np.empty(0)]
        while search.parts > 1:
            low, high, length = search.round()
            ends.append(np.stack((low, high), axis=1))
            lengths.append(length)
        position = first[search.blocks.position.clamp(min=0)].cpu().numpy()
        core = torch.empty_like(held[: len(first), 0])
        core[search.blocks.position[search.real]] = search.core[search.real]
        further = (first[copy_of] != torch.arange(len(held), device=device)).nonzero().squeeze(1)
        copies = torch.stack((first[copy_of[further]], further), dim=1).cpu().numpy()
        of_copies = core[copy_of[further]].double().cpu().numpy()
    joined = np.concatenate((position[np.concatenate(ends)], copies))
    return _tree(joined, np.concatenate((*lengths, of_copies)), n=len(points))


def _distinct(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the first of all copies of each point, ascending, and for each point which of them it copies."""
    import torch

    order = torch.arange(len(points), device=points.device)
    for axis in reversed(range(points.shape[1])):
        order = order[points[order, axis].argsort(stable=True)]
    held = points[order]
    new = torch.ones_like(order)
    new[1:] = (held[1:] != held[:-1]).any(1).long()
    # Copies follow each other in their own order: the first is the first.
    firsts, number = order[new.nonzero().squeeze(1)], new.cumsum(0) - 1
    first, sorted_by = firsts.sort()
    renamed = torch.empty_like(first)
    renamed[sorted_by] = torch.arange(len(first), device=points.device)
    copy_of = torch.empty_like(order)
    copy_of[order] = renamed[number]
    return first, copy_of


class _Search:
    """Parts of the points so far, and what is known of the ways between them; all by places in the blocks' order.

    Parameters
    ----------
    blocks : Blocks
        Of points without copies.
    copies : int64 tensor, shape (n,)
        How often each is there, by positions.
    min_samples : int
    """

    def __init__(self, blocks: Blocks, copies: torch.Tensor, *, min_samples: int) -> None:
        import torch

        self.blocks = blocks
        self.real = blocks.real
        n = len(copies)
        k = min(n - 1, min_samples + _MORE)
        distance, self.near = nearest_points(blocks, k)
        core = _core_distances(distance, self.near, copies[blocks.position.clamp(min=0)], min_samples=min_samples)
        self.core = torch.where(self.real, core, torch.full_like(core, torch.inf))
        # No other point than the known ones is nearer than this.
        whole = k == n - 1
        self.reach = torch.full_like(core, torch.inf) if whole else torch.maximum(self.core, distance[:, -1])
        self.ways = distance
        for rows in self._rows():
            ways = torch.maximum(self.ways[rows], self.core[rows][:, None])
            self.ways[rows] = torch.maximum(ways, self.core[self.near[rows]])
        self.nearest_core = self.core.view(len(blocks), -1).amin(1).square()
        part = torch.full_like(blocks.position, n)
        part[self.real] = torch.arange(n, device=part.device)
        self.part, self.parts = part, n
        self._start()

    def _rows(self) -> Iterator[slice]:
        """Points whose known neighbours are looked at together."""
        return _slices(*self.near.shape)

    def _start(self) -> None:
        """Forget the ways of the last round."""
        import torch

        # The shortest way out of each part, and its places: one number for both, the smallest of ways of one length.
        self.least = torch.full((self.parts + 1,), torch.inf, dtype=self.core.dtype, device=self.core.device)
        self.way = torch.full((self.parts + 1,), torch.iinfo(torch.int64).max, device=self.core.device)

    def round(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Take the shortest way out of each part, and join the parts: both ends and lengths of the ways."""
        import torch
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        self._take_known()
        self._take_following()
        self._compare()
        total = len(self.part)
        way, length = self.way[:-1], self.least[:-1]
        row, column = way // total, way % total
        low, high = row.cpu().numpy(), column.cpu().numpy()
        ends = self.part[row].cpu().numpy(), self.part[column].cpu().numpy()
        joined = csr_array((np.ones(len(low), np.int8), ends), shape=(self.parts, self.parts))
        lengths = length.double().cpu().numpy()
        self.parts, names = connected_components(joined, directed=False)
        renamed = torch.from_numpy(np.append(names, self.parts).astype(np.int64)).to(self.part.device)
        self.part = renamed[self.part]
        self._start()
        return low, high, lengths

    def _take(self, row: torch.Tensor, column: torch.Tensor, length: torch.Tensor) -> None:
        """Keep the shortest way out of each part, of those that are known and the given ones."""
        import torch

        part = self.part[row]
        better = (length <= self.least[part]).nonzero().squeeze(1)
        row, column, length, part = row[better], column[better], length[better], part[better]
        least = self.least.scatter_reduce(0, part, length, "amin")
        none = torch.full_like(self.way, torch.iinfo(torch.int64).max)
        self.way = torch.where(least < self.least, none, self.way)
        first = (length == least[part]).nonzero().squeeze(1)
        self.way.scatter_reduce_(0, part[first], row[first] * len(self.part) + column[first], "amin")
        self.least = least

    def _take_known(self) -> None:
        import torch

        for rows in self._rows():
            near = self.near[rows]
            inner = self.part[near] == self.part[rows][:, None]
            length, column = self.ways[rows].masked_fill(inner, torch.inf).min(1)
            out = (length < torch.inf).nonzero().squeeze(1)
            self._take(out + rows.start, near.gather(1, column[:, None]).squeeze(1)[out], length[out])

    def _take_following(self) -> None:
        """Points beside each other in the order of the blocks: after this no part is without a way."""
        real = self.real.nonzero().squeeze(1)
        for apart in range(1, _FOLLOWING + 1):
            low, high = real[:-apart], real[apart:]
            out = (self.part[low] != self.part[high]).nonzero().squeeze(1)
            low, high = low[out], high[out]
            length = self._measure(low, high)
            self._take(low, high, length)
            self._take(high, low, length)

    def _measure(self, some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        import torch

        apart = squares(self.blocks, some, others).sqrt_()
        return torch.maximum(torch.maximum(apart, self.core[some]), self.core[others])

    def _limits(self, rows: torch.Tensor) -> torch.Tensor:
        """The squared length that a way from each point of some blocks must be below; -1 where none can be."""
        import torch

        shape = (len(self.blocks), -1)
        known = self.least[self.part.view(shape)[rows]]
        return torch.where(self.reach.view(shape)[rows] < known, known.square(), torch.full_like(known, -1.0))

    def _compare(self) -> None:
        """Look for shorter ways than are known among all pairs of blocks that may hold one."""
        import torch

        blocks = self.blocks
        part = self.part.view(len(blocks), -1)
        real = self.real.view(len(blocks), -1)
        lowest = part.masked_fill(~real, self.parts).amin(1)
        highest = part.masked_fill(~real, -1).amax(1)
        of_one = torch.where(lowest == highest, lowest, torch.full_like(lowest, -1))
        every = torch.arange(len(blocks), device=part.device)
        waiting = (self._limits(every).amax(1) >= 0).nonzero().squeeze(1)
        if not len(waiting):
            return
        for rows in waiting.split(max(1, blocks.at_once // _FIRST)):
            columns = nearest_blocks(blocks, rows, _FIRST, part=of_one)
            for number in range(columns.shape[1]):
                self._compare_pairs(rows, columns[:, number])
        # Parts of the tree one after the other, where all pairs at once may be too many.
        level = max(1, len(blocks) // _TOGETHER).bit_length() - 1
        for node in range(2**level):
            limit = self._limits(every).amax(1)
            some, others, bound = close_pairs(
                blocks, limit, nodes=(level, node, node + 1), least=self.nearest_core, part=of_one
            )
            # The nearest first: what they find leaves fewer of the others.
            order = bound.argsort(stable=True)
            for rows, columns, least in pieces(blocks, some[order], others[order], bound[order]):
                left = (least < self._limits(rows).amax(1)).nonzero().squeeze(1)
                self._compare_pairs(rows[left], columns[left])

    def _compare_pairs(self, rows: torch.Tensor, columns: torch.Tensor) -> None:
        if not len(rows):
            return
        part = self.part.int().view(len(self.blocks), -1)
        products = Products(self.blocks, rows, columns[:, None])
        flat = products.below(self._limits(rows), (part[rows], part[columns]))
        for some in flat.split(_WAYS):
            row, column = places(self.blocks, some, rows, columns)
            self._take(row, column, self._measure(row, column))


def _slices(n: int, width: int) -> Iterator[slice]:
    step = max(1, _WAYS // max(1, width))
    return (slice(start, start + step) for start in range(0, n, step))


def _core_distances(
    distance: torch.Tensor, near: torch.Tensor, copies: torch.Tensor, *, min_samples: int
) -> torch.Tensor:
    """Distances within which there are ``min_samples`` other points, of which each is there so many times."""
    import torch

    core = distance.new_zeros(len(distance))
    for rows in _slices(*near.shape):
        # The copies of the point itself are the first.
        apart = torch.cat((torch.zeros_like(core[rows])[:, None], distance[rows]), dim=1)
        count = torch.cat((copies[rows][:, None] - 1, copies[near[rows]]), dim=1).cumsum(1)
        core[rows] = apart.gather(1, (count >= min_samples).long().argmax(1, keepdim=True)).squeeze(1)
    return core


def _tree(ends: NDArray[np.int64], lengths: NDArray[np.float64], *, n: int) -> NDArray[np.float64]:
    """The ways without those that close a circle: parts that take ways of one length may take one too many."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    ends = np.sort(ends, axis=1)
    # One that two parts took is as long from both ends.
    _, first = np.unique(ends[:, 0] * n + ends[:, 1], return_index=True)
    order = first[np.argsort(lengths[first], kind="stable")]
    ends, lengths = ends[order], lengths[order]
    # Weights are ranks: they are never 0, which would be no edge, and no two are alike.
    ranks = csr_array((np.arange(1.0, len(ends) + 1), (ends[:, 0], ends[:, 1])), shape=(n, n))
    kept = np.sort(minimum_spanning_tree(ranks).data.astype(np.int64)) - 1
    return np.column_stack((ends[kept].astype(np.float64), lengths[kept]))
