"""Points of few dimensions in compact blocks of one size, on a device, and exact Euclidean neighbours by them.

A block is a leaf of a balanced k-d tree (Bentley 1975). Two trees are gone down side by side, all pairs of nodes of a
level at once (the dual-tree search of Gray and Moore 2001, level by level): pairs of nodes whose boxes are too far
apart are left behind. What is left are pairs of blocks of one size, so that many of them are one batched product.

Products are in float32 of differences to a middle nearby, and only find what may be near enough; all that is near
enough is measured again by differences in float64. Neither step looks for the first k of many columns, which takes a
GPU many times longer than to compute them: entries are compared with what is known of their row, and few are left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCK = 64
# Blocks that are asked first, for a distance that the k-th neighbour is within.
_FIRST = 8
# Entries of the largest array, of pairs of points: 2**26 take half a gigabyte with their comparison.
_ENTRIES_ON_GPU, _ENTRIES = 1 << 26, 1 << 22
# Pairs of nodes that are looked at together.
_PAIRS = 1 << 21
# Blocks whose neighbours are sorted together, and how many of these at most.
_RANGE = 1 << 10
_KEPT = 1 << 24
# A hair: rounding of distances between boxes hides no pair.
_HAIR = 2e-6
# Of float32, relative.
_ROUNDING = 2.0**-24
_LARGEST = 3e38


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Points in the order of the leaves of a k-d tree, filled up to blocks of one size.

    Attributes
    ----------
    points : float tensor, shape (blocks * size, d)
        Those that fill up are copies of the first point.
    position : int64 tensor, shape (blocks * size,)
        Position of each among the points that were given; -1 for those that fill up.
    size : int
        Points a block.
    low, high : tuple of float tensor, of shapes (1, d), (2, d), (4, d), … (blocks, d)
        Corners of the boxes of all nodes, by levels.
    """

    points: torch.Tensor
    position: torch.Tensor
    size: int
    low: tuple[torch.Tensor, ...]
    high: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.low[-1])

    @property
    def at_once(self) -> int:
        """Pairs of blocks whose distances fit in the memory that a step may take."""
        most = _ENTRIES_ON_GPU if self.points.device.type == "cuda" else _ENTRIES
        return max(1, most // (self.size * max(self.size, 2 * self.points.shape[1])))

    @property
    def real(self) -> torch.Tensor:
        """Whether there is a point at a place: bool, shape (blocks * size,)."""
        return self.position >= 0

    def by_levels(self, leaves: torch.Tensor, how: str) -> list[torch.Tensor]:
        """The largest (``amax``) or smallest (``amin``) of the values of the blocks below each node, by levels."""
        levels = [leaves]
        while len(levels[-1]) > 1:
            levels.append(getattr(levels[-1].view(-1, 2), how)(1))
        return levels[::-1]

    def gaps(self, level: int, some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Least squared distances of boxes of a level, a hair less than they are; the two broadcast to (m, c)."""
        low, high = self.low[level], self.high[level]
        apart = (low[some] - high[others]).maximum(low[others] - high[some])
        return apart.clamp_(min=0).square_().sum(-1) * (1 - _HAIR)


def in_blocks(points: torch.Tensor) -> Blocks:
    """Put points, float of shape (n, d) with ``n >= 1``, in blocks."""
    import torch

    n, width = points.shape
    levels = max(0, (max(n, 1) - 1) // _BLOCK).bit_length()
    size = -(-n // 2**levels)
    total = size * 2**levels
    filled = torch.cat((points, points[:1].expand(total - n, width)))
    order = torch.arange(total, device=points.device)
    low: list[torch.Tensor] = []
    high: list[torch.Tensor] = []
    for level in range(levels + 1):
        parts = order.view(2**level, -1)
        held = filled[parts]
        low.append(held.amin(1))
        high.append(held.amax(1))
        if level < levels:
            axis = (high[-1] - low[-1]).argmax(1)
            along = held.gather(2, axis[:, None, None].expand(-1, held.shape[1], 1)).squeeze(2)
            order = parts.gather(1, along.argsort(dim=1, stable=True)).reshape(-1)
    position = torch.where(order < n, order, torch.full_like(order, -1))
    return Blocks(points=filled[order], position=position, size=size, low=tuple(low), high=tuple(high))


def close_pairs(
    blocks: Blocks,
    limit: torch.Tensor,
    *,
    nodes: tuple[int, int, int] = (0, 0, 1),
    least: torch.Tensor | None = None,
    part: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All pairs of blocks whose points may be nearer than a limit.

    Parameters
    ----------
    limit : float tensor, shape (blocks,)
        Squared distances that a pair must not exceed; negative for a block that does not ask.
    nodes : tuple of int
        A level, and the first and last (exclusive) of its nodes whose blocks ask.
    least : float tensor, shape (blocks,), optional
        A squared distance that any way to a block is at least as long as; pairs that reach the limit are left out.
    part : int64 tensor, shape (blocks,), optional
        What all points of a block are part of (-1 if of several): pairs of blocks of one part are left out.

    Returns
    -------
    some, others : int64 tensor, shape (m,)
        The block that asks, the one that may answer.
    bound : float tensor, shape (m,)
        Squared.
    """
    import torch

    limits = blocks.by_levels(limit, "amax")
    nearest = None if least is None else blocks.by_levels(least, "amin")
    parts = None if part is None else _of_one(blocks, part)
    device = limit.device
    first, start, stop = nodes
    some = torch.arange(start, stop, device=device).repeat_interleave(2**first)
    others = torch.arange(2**first, device=device).repeat(stop - start)
    bound = torch.empty(0, dtype=limit.dtype, device=device)
    for level in range(first, len(blocks.low)):
        if level > first:
            some = (2 * some[:, None] + torch.tensor((0, 0, 1, 1), device=device)).view(-1)
            others = (2 * others[:, None] + torch.tensor((0, 1, 0, 1), device=device)).view(-1)
        left: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for a, b in zip(some.split(_PAIRS), others.split(_PAIRS), strict=True):
            bound = blocks.gaps(level, a, b)
            if nearest is None:
                near = bound <= limits[level][a]
            else:
                bound = torch.maximum(bound, nearest[level][b])
                near = bound < limits[level][a]
            if parts is not None:
                near &= (parts[level][a] != parts[level][b]) | (parts[level][a] < 0)
            kept = near.nonzero().squeeze(1)
            left.append((a[kept], b[kept], bound[kept]))
        some, others, bound = (torch.cat(one) for one in zip(*left, strict=True))
        if not len(some):
            break
    return some, others, bound


def _of_one(blocks: Blocks, part: torch.Tensor) -> list[torch.Tensor]:
    import torch

    levels = [part]
    while len(levels[-1]) > 1:
        both = levels[-1].view(-1, 2)
        levels.append(torch.where(both[:, 0] == both[:, 1], both[:, 0], torch.full_like(both[:, 0], -1)))
    return levels[::-1]


def nearest_blocks(blocks: Blocks, rows: torch.Tensor, count: int, *, part: torch.Tensor | None = None) -> torch.Tensor:
    """About the ``count`` blocks nearest to each of some: a search that keeps so many nodes a level.

    Parameters
    ----------
    rows : int64 tensor, shape (m,)
    part : int64 tensor, shape (blocks,), optional
        Blocks all of whose points are part of what all points of the asking block are part of come last.

    Returns
    -------
    int64 tensor, shape (m, c)
        ``c`` is at most ``count``, and less where there are fewer blocks.
    """
    import torch

    levels = len(blocks.low) - 1
    parts = None if part is None else _of_one(blocks, part)
    level = min(levels, count.bit_length())
    found = torch.arange(2**level, device=rows.device).expand(len(rows), -1)
    while True:
        own = rows >> (levels - level)
        gap = blocks.gaps(level, own[:, None], found)
        if parts is not None and part is not None:
            gap.masked_fill_((parts[level][found] == part[rows][:, None]) & (part[rows] >= 0)[:, None], torch.inf)
        found = found.gather(1, gap.sort(dim=1, stable=True).indices[:, :count])
        if level == levels:
            return found
        level += 1
        found = (2 * found[:, :, None] + torch.arange(2, device=rows.device)).view(len(rows), -1)


class Products:
    """Rough squared distances of all points of some blocks to those of others, and what may be below a limit.

    Parameters
    ----------
    rows : int64 tensor, shape (m,)
    columns : int64 tensor, shape (m, c)
    """

    def __init__(self, blocks: Blocks, rows: torch.Tensor, columns: torch.Tensor) -> None:
        import torch

        m, width = len(rows), blocks.points.shape[1]
        points = blocks.points.view(len(blocks), blocks.size, width)
        middle = ((blocks.low[-1][rows] + blocks.high[-1][rows]) / 2)[:, None]
        own = (points[rows] - middle).float()
        others = (points[columns].view(m, -1, width) - middle).float()
        self._own = own.square().sum(2)
        length = others.square().sum(2)
        farthest = (self._own.amax(1).sqrt() + length.amax(1).sqrt()).square()
        # Of a product of d + 1 terms and of the differences, with room to spare.
        self._slack = (farthest * (4 * (width + 8) * _ROUNDING))[:, None]
        absent = ~blocks.real.view(len(blocks), -1)[columns].view(m, -1)
        length.masked_fill_(absent, torch.inf)
        left = torch.cat((own.mul_(-2), torch.ones_like(own[:, :, :1])), dim=2)
        # Squared distances less the squared length of the row.
        self._square = torch.bmm(left, torch.cat((others, length[:, :, None]), dim=2).mT)

    def within(self, count: int) -> torch.Tensor:
        """A squared distance that the first ``count`` of each point are within: float32 of shape (m, size)."""
        import torch

        if count > self._square.shape[2]:
            return torch.full_like(self._own, torch.inf)
        nearest = self._square.topk(count, dim=2, largest=False, sorted=False).values.amax(2)
        return (nearest + self._own + 2 * self._slack).clamp_(min=0)

    def below(self, limit: torch.Tensor, apart: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """Flat places, int64, of entries of (m, size, c * size) that may be at most a limit.

        Parameters
        ----------
        limit : float tensor, shape (m, size)
            Squared; negative for a point that asks for nothing.
        apart : tuple of int32 tensor, shapes (m, size) and (m, c * size), optional
            Entries for which both are the same are left out.
        """
        import torch

        room = limit.float() * (1 + 2 * _ROUNDING) + self._slack - self._own
        # A limit may be infinite; what fills up is infinitely far.
        room = torch.where(limit < 0, torch.full_like(room, -torch.inf), room.clamp_(max=_LARGEST))
        near = self._square <= room[:, :, None]
        if apart is not None:
            near &= apart[0][:, :, None] != apart[1][:, None]
        return near.view(-1).nonzero().squeeze(1)


def squares(blocks: Blocks, some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Squared distances between points at places, by differences: copies of a point have exactly 0."""
    import torch

    total = torch.zeros(len(some), dtype=blocks.points.dtype, device=some.device)
    # Column by column: no array of all differences.
    for axis in range(blocks.points.shape[1]):
        along = blocks.points[:, axis]
        total += (along[some] - along[others]).square_()
    return total


def places(blocks: Blocks, flat: torch.Tensor, some: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """From flat places in products of pairs of blocks (int64, shape (m,) both) to the places of both points."""
    size = blocks.size
    pair = flat // (size * size)
    within = flat - pair * (size * size)
    row = within // size
    return some[pair] * size + row, others[pair] * size + (within - row * size)


def nearest_points(blocks: Blocks, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the ``k`` nearest other points of each, exactly, whatever the number of dimensions.

    ``k`` is less than the number of points.

    Returns
    -------
    float tensor, shape (blocks * size, k)
        Distances, ascending, ties by place; infinite for what fills up.
    int64 tensor, shape (blocks * size, k)
        Places of the neighbours in the order of the blocks.
    """
    import torch

    device, size, count = blocks.points.device, blocks.size, len(blocks)
    distance = torch.full((count * size, k), torch.inf, dtype=blocks.points.dtype, device=device)
    found = torch.zeros((count * size, k), dtype=torch.int64, device=device)
    limit = _within(blocks, k)
    level = (max(1, count // _RANGE)).bit_length() - 1
    for node in range(2**level):
        first, last = node * count // 2**level, (node + 1) * count // 2**level
        apart, row, column = _nearest_within(blocks, limit, (level, node, node + 1), k)
        own = torch.arange(first * size, last * size, device=device)
        own = own[blocks.real[own]]
        entry = torch.searchsorted(row, own)[:, None] + torch.arange(k, device=device)
        distance[own] = apart[entry].sqrt()
        found[own] = column[entry]
    return distance, found


def _within(blocks: Blocks, k: int) -> torch.Tensor:
    """A squared distance that the ``k`` nearest others of each point are within; -1 for what fills up."""
    import torch

    size, count = blocks.size, len(blocks)
    asked = min(count, max(_FIRST, -(-4 * (k + 1) // size)))
    limit = torch.empty((count, size), dtype=torch.float32, device=blocks.points.device)
    for rows in torch.arange(count, device=limit.device).split(max(1, blocks.at_once // asked)):
        # The point itself is among them.
        limit[rows] = Products(blocks, rows, nearest_blocks(blocks, rows, asked)).within(k + 1)
    return limit.masked_fill_(~blocks.real.view(count, size), -1.0)


def _nearest_within(
    blocks: Blocks, limit: torch.Tensor, nodes: tuple[int, int, int], k: int
) -> tuple[torch.Tensor, ...]:
    """Squared distances and both places of the ``k`` nearest others of the points of some blocks, in their order.

    Changes ``limit`` where more are within it than can be kept.
    """
    some, others, _ = close_pairs(blocks, limit.amax(1).to(blocks.points.dtype), nodes=nodes)
    order = (some * len(blocks) + others).argsort()
    some, others = some[order], others[order]
    kept: list[tuple[torch.Tensor, ...]] = []
    for a, b in pieces(blocks, some, others):
        flat = Products(blocks, a, b[:, None]).below(limit[a])
        for part in flat.split(_KEPT):
            row, column = places(blocks, part, a, b)
            apart = squares(blocks, row, column)
            # Limits are float32.
            near = ((row != column) & (apart <= limit.view(-1)[row] * (1 + _HAIR))).nonzero().squeeze(1)
            kept.append((apart[near], row[near], column[near]))
            if sum(len(one[0]) for one in kept) > _KEPT:
                kept = [_first_of_rows(kept, k)]
                apart, row, _ = kept[0]
                full = (row[: max(0, len(row) - k + 1)] == row[k - 1 :]).nonzero().squeeze(1) + k - 1
                limit.view(-1)[row[full]] = apart[full].float() * (1 + _HAIR)
    return _first_of_rows(kept, k)


def _first_of_rows(kept: list[tuple[torch.Tensor, ...]], k: int) -> tuple[torch.Tensor, ...]:
    """The ``k`` nearest of each point, by places of the points, by distances, and as they came."""
    import torch

    apart, row, column = (torch.cat(one) for one in zip(*kept, strict=True))
    order = apart.argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    row = row[order]
    first = (torch.arange(len(row), device=row.device) - torch.searchsorted(row, row) < k).nonzero().squeeze(1)
    order = order[first]
    return apart[order], row[first], column[order]


def pieces(blocks: Blocks, *pairs: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Pairs of blocks, as many at once as fit."""
    return zip(*(one.split(blocks.at_once) for one in pairs), strict=True)
