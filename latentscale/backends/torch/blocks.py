"""Points in equal-sized leaves of a k-d tree ("blocks") on a device, and exact Euclidean neighbours by them.

A block is a leaf of a balanced k-d tree (Bentley 1975) of points of few dimensions. Searches descend two trees at once,
level by level (the dual-tree search of Gray and Moore 2001), and prune pairs of nodes whose boxes are too far apart.
The remaining pairs of blocks have equal sizes, so many of them are one batched matrix product.

Products are in float32, of differences to a nearby center, and only select candidates, which are then measured in
float64 by differences. Neither step is a ``topk`` over many columns, which takes a GPU many times longer than the
products: entries are compared with a bound for their row, and few pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Largest number of points in a block.
_BLOCK = 64
# Nearest blocks that give the first bound of the distance of the k-th neighbour.
_FIRST = 8
# Entries of the largest array of pairs of points: 2**26 take half a gigabyte with their comparison.
_ENTRIES_ON_GPU, _ENTRIES = 1 << 26, 1 << 22
# Pairs of nodes that are compared at once.
_PAIRS = 1 << 21
# Blocks whose neighbours are sorted at once, and the largest number of candidates kept for them.
_RANGE = 1 << 10
_KEPT = 1 << 24
# Relative margin by which bounds are loosened, so that rounding prunes no pair that counts.
_MARGIN = 2e-6
# Unit roundoff of float32.
_ROUNDING = 2.0**-24
_LARGEST = 3e38


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Points in the order of the leaves of a k-d tree, padded to blocks of one size; a place in this order is a slot.

    Attributes
    ----------
    points : float tensor, shape (blocks * size, d)
        Padding repeats the first point.
    position : int64 tensor, shape (blocks * size,)
        Position of each slot's point in the input; -1 for padding.
    size : int
        Slots per block.
    low, high : tuple of float tensor, of shapes (1, d), (2, d), (4, d), … (blocks, d)
        Corners of the bounding boxes of the nodes, one tensor per level.
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
        """Number of pairs of blocks whose products fit in the memory of one step."""
        budget = _ENTRIES_ON_GPU if self.points.device.type == "cuda" else _ENTRIES
        return max(1, budget // (self.size * max(self.size, 2 * self.points.shape[1])))

    @property
    def real(self) -> torch.Tensor:
        """Which slots hold a point, rather than padding: bool, shape (blocks * size,)."""
        return self.position >= 0

    def by_levels(self, values: torch.Tensor, reduce: str) -> list[torch.Tensor]:
        """Reduce values of the blocks (``amax`` or ``amin``) over the subtree of each node: one tensor per level."""
        levels = [values]
        while len(levels[-1]) > 1:
            levels.append(getattr(levels[-1].view(-1, 2), reduce)(1))
        return levels[::-1]

    def box_distances(self, level: int, nodes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Lower bounds of squared distances between boxes of a level; the positions broadcast to (m, c)."""
        low, high = self.low[level], self.high[level]
        gap = (low[nodes] - high[others]).maximum(low[others] - high[nodes])
        return gap.clamp_(min=0).square_().sum(-1) * (1 - _MARGIN)


def in_blocks(points: torch.Tensor) -> Blocks:
    """Build the blocks of points, float of shape (n, d) with ``n >= 1``."""
    import torch

    n, width = points.shape
    levels = max(0, (max(n, 1) - 1) // _BLOCK).bit_length()
    size = -(-n // 2**levels)
    total = size * 2**levels
    padded = torch.cat((points, points[:1].expand(total - n, width)))
    order = torch.arange(total, device=points.device)
    low: list[torch.Tensor] = []
    high: list[torch.Tensor] = []
    for level in range(levels + 1):
        node_order = order.view(2**level, -1)
        node_points = padded[node_order]
        low.append(node_points.amin(1))
        high.append(node_points.amax(1))
        if level < levels:
            axis = (high[-1] - low[-1]).argmax(1)
            coordinate = node_points.gather(2, axis[:, None, None].expand(-1, node_points.shape[1], 1)).squeeze(2)
            order = node_order.gather(1, coordinate.argsort(dim=1, stable=True)).reshape(-1)
    position = torch.where(order < n, order, torch.full_like(order, -1))
    return Blocks(points=padded[order], position=position, size=size, low=tuple(low), high=tuple(high))


def close_pairs(
    blocks: Blocks,
    limit: torch.Tensor,
    *,
    nodes: tuple[int, int, int] = (0, 0, 1),
    lower_bound: torch.Tensor | None = None,
    component: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find all pairs of blocks that may hold points nearer than a limit.

    Parameters
    ----------
    limit : float tensor, shape (blocks,)
        Squared distances that a pair must not exceed; negative for a block that is no query.
    nodes : tuple of int
        A level, and the range ``start, stop`` of its nodes whose blocks are queries.
    lower_bound : float tensor, shape (blocks,), optional
        Squared; no edge to a point of the block is shorter. With it, pairs whose bound reaches the limit are pruned.
    component : int64 tensor, shape (blocks,), optional
        The component of all points of a block (-1 if of several): pairs of blocks of one component are pruned.

    Returns
    -------
    queries, others : int64 tensor, shape (m,)
    bound : float tensor, shape (m,)
        Lower bound of their squared distances.
    """
    import torch

    limits = blocks.by_levels(limit, "amax")
    lower_bounds = None if lower_bound is None else blocks.by_levels(lower_bound, "amin")
    components = None if component is None else _node_components(component)
    device = limit.device
    first, start, stop = nodes
    queries = torch.arange(start, stop, device=device).repeat_interleave(2**first)
    others = torch.arange(2**first, device=device).repeat(stop - start)
    bound = torch.empty(0, dtype=limit.dtype, device=device)
    for level in range(first, len(blocks.low)):
        if level > first:
            queries = (2 * queries[:, None] + torch.tensor((0, 0, 1, 1), device=device)).view(-1)
            others = (2 * others[:, None] + torch.tensor((0, 1, 0, 1), device=device)).view(-1)
        kept_pairs: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for a, b in zip(queries.split(_PAIRS), others.split(_PAIRS), strict=True):
            bound = blocks.box_distances(level, a, b)
            if lower_bounds is None:
                is_near = bound <= limits[level][a]
            else:
                bound = torch.maximum(bound, lower_bounds[level][b])
                is_near = bound < limits[level][a]
            if components is not None:
                is_near &= (components[level][a] != components[level][b]) | (components[level][a] < 0)
            kept = is_near.nonzero().squeeze(1)
            kept_pairs.append((a[kept], b[kept], bound[kept]))
        queries, others, bound = (torch.cat(one) for one in zip(*kept_pairs, strict=True))
        if not len(queries):
            break
    return queries, others, bound


def _node_components(component: torch.Tensor) -> list[torch.Tensor]:
    """The component of all points of each node, -1 if of several; ``component`` has that of each block."""
    import torch

    levels = [component]
    while len(levels[-1]) > 1:
        children = levels[-1].view(-1, 2)
        is_common = children[:, 0] == children[:, 1]
        levels.append(torch.where(is_common, children[:, 0], torch.full_like(children[:, 0], -1)))
    return levels[::-1]


def nearest_blocks(
    blocks: Blocks, rows: torch.Tensor, count: int, *, component: torch.Tensor | None = None
) -> torch.Tensor:
    """Find about the ``count`` nearest blocks of each of some, by a beam search that keeps ``count`` nodes per level.

    Parameters
    ----------
    rows : int64 tensor, shape (m,)
    component : int64 tensor, shape (blocks,), optional
        The component of all points of a block (-1 if of several): blocks of the query's own component come last.

    Returns
    -------
    int64 tensor, shape (m, c)
        ``c`` is at most ``count``, and less where there are fewer blocks.
    """
    import torch

    levels = len(blocks.low) - 1
    components = None if component is None else _node_components(component)
    level = min(levels, count.bit_length())
    nodes = torch.arange(2**level, device=rows.device).expand(len(rows), -1)
    while True:
        ancestor = rows >> (levels - level)
        distance = blocks.box_distances(level, ancestor[:, None], nodes)
        if components is not None and component is not None:
            is_own = (components[level][nodes] == component[rows][:, None]) & (component[rows] >= 0)[:, None]
            distance.masked_fill_(is_own, torch.inf)
        nodes = nodes.gather(1, distance.sort(dim=1, stable=True).indices[:, :count])
        if level == levels:
            return nodes
        level += 1
        nodes = (2 * nodes[:, :, None] + torch.arange(2, device=rows.device)).view(len(rows), -1)


class Products:
    """Squared distances in float32 of all points of some blocks to those of others, with a bound of their error.

    Parameters
    ----------
    rows : int64 tensor, shape (m,)
    columns : int64 tensor, shape (m, c)
    """

    def __init__(self, blocks: Blocks, rows: torch.Tensor, columns: torch.Tensor) -> None:
        import torch

        m, n_dims = len(rows), blocks.points.shape[1]
        points = blocks.points.view(len(blocks), blocks.size, n_dims)
        center = ((blocks.low[-1][rows] + blocks.high[-1][rows]) / 2)[:, None]
        queries = (points[rows] - center).float()
        others = (points[columns].view(m, -1, n_dims) - center).float()
        self._norms = queries.square().sum(2)
        norms = others.square().sum(2)
        farthest = (self._norms.amax(1).sqrt() + norms.amax(1).sqrt()).square()
        # Bound of the rounding of products of d + 1 terms and of the differences.
        self._error = (farthest * (4 * (n_dims + 8) * _ROUNDING))[:, None]
        padding = ~blocks.real.view(len(blocks), -1)[columns].view(m, -1)
        norms.masked_fill_(padding, torch.inf)
        extended = torch.cat((queries.mul_(-2), torch.ones_like(queries[:, :, :1])), dim=2)
        # |a - b|^2 - |a|^2 for each point a of the rows.
        self._partial = torch.bmm(extended, torch.cat((others, norms[:, :, None]), dim=2).mT)

    def within(self, count: int) -> torch.Tensor:
        """Upper bound of the squared distance of the ``count``-th nearest of each point: float32 of shape (m, size)."""
        import torch

        if count > self._partial.shape[2]:
            return torch.full_like(self._norms, torch.inf)
        nearest = self._partial.topk(count, dim=2, largest=False, sorted=False).values.amax(2)
        return (nearest + self._norms + 2 * self._error).clamp_(min=0)

    def below(self, limit: torch.Tensor, components: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """Find pairs that may be within a limit: flat indices, int64, into (m, size, c * size).

        Parameters
        ----------
        limit : float tensor, shape (m, size)
            Squared; negative for a point that is no query.
        components : tuple of int32 tensor, shapes (m, size) and (m, c * size), optional
            Pairs within one component are left out.
        """
        import torch

        bound = limit.float() * (1 + 2 * _ROUNDING) + self._error - self._norms
        # Limits may be infinite, and so is the distance of padding: a finite bound excludes it.
        bound = torch.where(limit < 0, torch.full_like(bound, -torch.inf), bound.clamp_(max=_LARGEST))
        is_near = self._partial <= bound[:, :, None]
        if components is not None:
            is_near &= components[0][:, :, None] != components[1][:, None]
        return is_near.view(-1).nonzero().squeeze(1)


def squared_distances(blocks: Blocks, slots: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Squared distances of pairs of slots, by differences: exactly 0 for duplicates."""
    import torch

    total = torch.zeros(len(slots), dtype=blocks.points.dtype, device=slots.device)
    # Axis by axis: an array of all differences would be d times as large.
    for axis in range(blocks.points.shape[1]):
        coordinate = blocks.points[:, axis]
        total += (coordinate[slots] - coordinate[others]).square_()
    return total


def pair_slots(
    blocks: Blocks, flat: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slots of both points of flat indices into the products of pairs of blocks (int64, shape (m,) both)."""
    size = blocks.size
    pair = flat // (size * size)
    within = flat - pair * (size * size)
    row = within // size
    return rows[pair] * size + row, columns[pair] * size + (within - row * size)


def nearest_points(blocks: Blocks, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the exact ``k`` nearest other points of each, whatever the number of dimensions.

    ``k`` is less than the number of points.

    Returns
    -------
    float tensor, shape (blocks * size, k)
        Distances, ascending, ties by slot; infinite for padding.
    int64 tensor, shape (blocks * size, k)
        Slots of the neighbours.
    """
    import torch

    device, size, count = blocks.points.device, blocks.size, len(blocks)
    distance = torch.full((count * size, k), torch.inf, dtype=blocks.points.dtype, device=device)
    neighbors = torch.zeros((count * size, k), dtype=torch.int64, device=device)
    limit = _within(blocks, k)
    level = (max(1, count // _RANGE)).bit_length() - 1
    for node in range(2**level):
        first, last = node * count // 2**level, (node + 1) * count // 2**level
        squared, row, column = _nearest_within(blocks, limit, (level, node, node + 1), k)
        slots = torch.arange(first * size, last * size, device=device)
        slots = slots[blocks.real[slots]]
        entry = torch.searchsorted(row, slots)[:, None] + torch.arange(k, device=device)
        distance[slots] = squared[entry].sqrt()
        neighbors[slots] = column[entry]
    return distance, neighbors


def _within(blocks: Blocks, k: int) -> torch.Tensor:
    """Upper bound of the squared distance of the ``k``-th nearest other point of each slot; -1 for padding."""
    import torch

    size, count = blocks.size, len(blocks)
    n_blocks = min(count, max(_FIRST, -(-4 * (k + 1) // size)))
    limit = torch.empty((count, size), dtype=torch.float32, device=blocks.points.device)
    for rows in torch.arange(count, device=limit.device).split(max(1, blocks.at_once // n_blocks)):
        # The point itself is among them.
        limit[rows] = Products(blocks, rows, nearest_blocks(blocks, rows, n_blocks)).within(k + 1)
    return limit.masked_fill_(~blocks.real.view(count, size), -1.0)


def _nearest_within(
    blocks: Blocks, limit: torch.Tensor, nodes: tuple[int, int, int], k: int
) -> tuple[torch.Tensor, ...]:
    """Squared distances and both slots of the ``k`` nearest other points of the points of some blocks, by slot.

    Lowers ``limit`` in place where more candidates are within it than can be kept.
    """
    queries, others, _ = close_pairs(blocks, limit.amax(1).to(blocks.points.dtype), nodes=nodes)
    order = (queries * len(blocks) + others).argsort()
    queries, others = queries[order], others[order]
    kept: list[tuple[torch.Tensor, ...]] = []
    for a, b in pieces(blocks, queries, others):
        flat = Products(blocks, a, b[:, None]).below(limit[a])
        for chunk in flat.split(_KEPT):
            row, column = pair_slots(blocks, chunk, a, b)
            squared = squared_distances(blocks, row, column)
            # Limits are rounded to float32.
            is_near = ((row != column) & (squared <= limit.view(-1)[row] * (1 + _MARGIN))).nonzero().squeeze(1)
            kept.append((squared[is_near], row[is_near], column[is_near]))
            if sum(len(one[0]) for one in kept) > _KEPT:
                kept = [_first_of_rows(kept, k)]
                squared, row, _ = kept[0]
                full = (row[: max(0, len(row) - k + 1)] == row[k - 1 :]).nonzero().squeeze(1) + k - 1
                limit.view(-1)[row[full]] = squared[full].float() * (1 + _MARGIN)
    return _first_of_rows(kept, k)


def _first_of_rows(kept: list[tuple[torch.Tensor, ...]], k: int) -> tuple[torch.Tensor, ...]:
    """The ``k`` nearest of each slot, by slot, then by distance; ties stay in the order of their candidates."""
    import torch

    squared, row, column = (torch.cat(one) for one in zip(*kept, strict=True))
    order = squared.argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    row = row[order]
    is_kept = (torch.arange(len(row), device=row.device) - torch.searchsorted(row, row) < k).nonzero().squeeze(1)
    order = order[is_kept]
    return squared[order], row[is_kept], column[order]


def pieces(blocks: Blocks, *pairs: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Split pairs of blocks into chunks that fit in the memory of one step."""
    return zip(*(tensor.split(blocks.at_once) for tensor in pairs), strict=True)
