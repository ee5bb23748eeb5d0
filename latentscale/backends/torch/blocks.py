"""Points of few dimensions in compact blocks of one size, on a device, and exact Euclidean neighbours by them.

A block is a leaf of a balanced k-d tree (Bentley 1975), with its bounding box: two blocks whose boxes are too far apart
are never compared. All leaves have the same size, so that many pairs of blocks are one batched product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BLOCK = 128
# Blocks that answer a block at once.
STEP = 8
# Entries of the largest array, of pairs of points or of boxes.
_ENTRIES_ON_GPU, _ENTRIES = 1 << 26, 1 << 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Points in the order of the leaves of a k-d tree, filled up to blocks of one size.

    Attributes
    ----------
    points : float tensor, shape (blocks, size, d)
        Those that fill up are copies of the first point.
    position : int64 tensor, shape (blocks, size)
        Position of each among the points that were given; -1 for those that fill up.
    low, high : float tensor, shape (blocks, d)
        Corners of the boxes.
    """

    points: torch.Tensor
    position: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def __len__(self) -> int:
        return len(self.points)

    @property
    def size(self) -> int:
        """Points a block."""
        return int(self.points.shape[1])

    @property
    def at_once(self) -> int:
        """Blocks whose distances to :data:`STEP` others, and to all boxes, fit in the memory that a step may take."""
        most = _ENTRIES_ON_GPU if self.points.device.type == "cuda" else _ENTRIES
        width = int(self.points.shape[2])
        return max(1, most // max(self.size * self.size * STEP, STEP * self.size * width, len(self) * width))

    def gaps(self, some: torch.Tensor) -> torch.Tensor:
        """Least distances of the boxes of ``some`` blocks (int64, shape (m,)) to all boxes: shape (m, blocks)."""
        apart = (self.low[None] - self.high[some][:, None]).maximum(self.low[some][:, None] - self.high[None])
        # A hair less than it is, so that rounding hides no pair.
        return apart.clamp_(min=0).square_().sum(2).sqrt_() * (1 - 1e-6)


def in_blocks(points: torch.Tensor) -> Blocks:
    """Put points, float of shape (n, d) with ``n >= 1``, in blocks."""
    import torch

    n, width = points.shape
    levels = max(0, (max(n, 1) - 1) // _BLOCK).bit_length()
    size = -(-n // 2**levels)
    total = size * 2**levels
    filled = torch.cat((points, points[:1].expand(total - n, width)))
    order = torch.arange(total, device=points.device)
    for level in range(levels):
        parts = order.view(2**level, -1)
        held = filled[parts]
        axis = (held.amax(1) - held.amin(1)).argmax(1)
        along = held.gather(2, axis[:, None, None].expand(-1, held.shape[1], 1)).squeeze(2)
        order = parts.gather(1, along.argsort(dim=1, stable=True)).reshape(-1)
    held = filled[order].view(2**levels, size, width)
    position = torch.where(order < n, order, torch.full_like(order, -1)).view(2**levels, size)
    return Blocks(points=held, position=position, low=held.amin(1), high=held.amax(1))


def distances(blocks: Blocks, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Distances of all points of ``rows`` (blocks, shape (m,)) to those of ``columns`` (shape (m, c)).

    Returns
    -------
    float tensor, shape (m, size, c * size)
        Differences are squared, so that copies of a point have a distance of exactly 0.
    """
    import torch

    m, size, width = len(rows), blocks.size, int(blocks.points.shape[2])
    others = blocks.points[columns].view(m, -1, width)
    return torch.cdist(blocks.points[rows].view(m, size, width), others, compute_mode="donot_use_mm_for_euclid_dist")


def nearest_points(blocks: Blocks, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the ``k`` nearest other points of each, exactly, whatever the number of dimensions.

    Returns
    -------
    float tensor, shape (blocks * size, k)
        Distances, ascending; infinite where there are fewer than ``k`` others.
    int64 tensor, shape (blocks * size, k)
        Places of the neighbours in the order of the blocks.
    """
    import torch

    device, size, count = blocks.points.device, blocks.size, len(blocks)
    place = torch.arange(count * size, device=device).view(count, size)
    distance = torch.full((count, size, k), torch.inf, dtype=blocks.points.dtype, device=device)
    found = torch.zeros((count, size, k), dtype=torch.int64, device=device)
    for start in range(0, count, blocks.at_once):
        rows = torch.arange(start, min(start + blocks.at_once, count), device=device)
        gap, near = blocks.gaps(rows).sort(dim=1, stable=True)
        for at in range(0, count, STEP):
            open_rows = gap[:, at] <= distance[rows, :, -1].amax(1)
            rows, gap, near = rows[open_rows], gap[open_rows], near[open_rows]
            if not len(rows):
                break
            columns = near[:, at : at + STEP]
            apart = distances(blocks, rows, columns)
            names = place[columns].view(len(rows), 1, -1)
            barred = (names == place[rows][:, :, None]) | (blocks.position[columns].view(len(rows), 1, -1) < 0)
            apart = torch.cat((distance[rows], apart.masked_fill_(barred, torch.inf)), dim=2)
            names = torch.cat((found[rows], names.expand(-1, size, -1)), dim=2)
            distance[rows], order = apart.topk(k, dim=2, largest=False)
            found[rows] = names.gather(2, order)
    return distance.view(-1, k), found.view(-1, k)
