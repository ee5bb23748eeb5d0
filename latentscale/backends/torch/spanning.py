"""The minimum spanning tree of mutual reachability (Campello et al. 2015) on a device, exactly.

Borůvka's rounds: each part takes its shortest way to another part. Ways to the nearest neighbours of a point are known
beforehand; a point is compared with others only while its part has no way as short as its farthest known neighbour, and
then only with blocks that may be nearer than the shortest way that is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.torch.blocks import STEP, Blocks, distances, in_blocks, nearest_points
from latentscale.backends.torch.device import device_memory, repeatable, widest_float

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

# Known neighbours beyond those of the core distance.
_MORE = 8


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

    with torch.inference_mode(), repeatable(True), device_memory("the spanning tree", device):
        held = torch.from_numpy(np.array(points, dtype=np.float64)).to(widest_float(device)).to(device)
        search = _Search(in_blocks(held), min_samples=min_samples, n=len(points))
        ends: list[NDArray[np.int64]] = []
        lengths: list[NDArray[np.float64]] = []
        while search.parts > 1:
            low, high, length = search.round()
            ends.append(np.stack((low, high), axis=1))
            lengths.append(length)
        position = search.blocks.position.view(-1).cpu().numpy()
    return _tree(position[np.concatenate(ends)], np.concatenate(lengths), n=len(points))


class _Search:
    """Parts of the points so far, and what is known of the ways between them; all by places in the blocks' order."""

    def __init__(self, blocks: Blocks, *, min_samples: int, n: int) -> None:
        import torch

        self.blocks = blocks
        self.real = blocks.position.view(-1) >= 0
        distance, self.near = nearest_points(blocks, min(n - 1, min_samples + _MORE))
        core = distance[:, min_samples - 1]
        self.core = torch.where(self.real, core, torch.full_like(core, torch.inf))
        self.ways = torch.maximum(torch.maximum(distance, self.core[:, None]), self.core[self.near])
        # No other point than the known ones is nearer than this.
        whole = distance.shape[1] == n - 1
        self.reach = torch.full_like(core, torch.inf) if whole else torch.maximum(self.core, distance[:, -1])
        part = torch.full_like(self.near[:, 0], n)
        part[self.real] = torch.arange(n, device=part.device)
        self.part, self.parts = part, n

    def round(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Take the shortest way out of each part, and join the parts: both ends and lengths of the ways."""
        import torch
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        inner = self.part[self.near] == self.part[:, None]
        length, column = self.ways.masked_fill(inner, torch.inf).min(1)
        other = self.near.gather(1, column[:, None]).squeeze(1)
        least = torch.full((self.parts + 1,), torch.inf, dtype=length.dtype, device=length.device)
        least.scatter_reduce_(0, self.part, length, "amin")
        self._compare(length, other, least)
        # Of the ways of one length, that of the first point.
        shortest = (self.real & (length == least[self.part])).nonzero().squeeze(1)
        first = torch.full((self.parts,), len(self.part), device=length.device)
        first.scatter_reduce_(0, self.part[shortest], shortest, "amin")
        low, high = first.cpu().numpy(), other[first].cpu().numpy()
        ends = self.part[first].cpu().numpy(), self.part[other[first]].cpu().numpy()
        joined = csr_array((np.ones(len(low), np.int8), ends), shape=(self.parts, self.parts))
        self.parts, names = connected_components(joined, directed=False)
        renamed = torch.from_numpy(np.append(names, self.parts).astype(np.int64)).to(self.part.device)
        self.part = renamed[self.part]
        return low, high, length[first].double().cpu().numpy()

    def _compare(self, length: torch.Tensor, other: torch.Tensor, least: torch.Tensor) -> None:
        """Look for shorter ways than are known among all pairs of blocks that may hold one; changes all three."""
        import torch

        blocks, device = self.blocks, length.device
        shape = (len(blocks), blocks.size)
        part, core, reach = self.part.view(shape), self.core.view(shape), self.reach.view(shape)
        nearest_core = core.amin(1)
        # A block that fills up is in no part of its own.
        of_one = torch.where(part.amin(1) == part.amax(1), part[:, 0], torch.full_like(part[:, 0], -1))

        def limits(rows: torch.Tensor) -> torch.Tensor:
            """The length that a way from each block must be below."""
            known = least[part[rows]]
            return torch.where(reach[rows] < known, known, torch.full_like(known, -torch.inf)).amax(1)

        waiting = (limits(torch.arange(len(blocks), device=device)) > -torch.inf).nonzero().squeeze(1)
        for rows in waiting.split(blocks.at_once):
            bound = torch.maximum(blocks.gaps(rows), torch.maximum(nearest_core[rows, None], nearest_core[None]))
            same = (of_one[rows, None] == of_one[None]) & (of_one[rows, None] >= 0)
            bound, near = bound.masked_fill_(same, torch.inf).sort(dim=1, stable=True)
            for at in range(0, len(blocks), STEP):
                open_rows = bound[:, at] < limits(rows)
                rows, bound, near = rows[open_rows], bound[open_rows], near[open_rows]
                if not len(rows):
                    break
                columns = near[:, at : at + STEP]
                m = len(rows)
                way = torch.maximum(distances(blocks, rows, columns), core[rows][:, :, None])
                way = torch.maximum(way, core[columns].view(m, 1, -1))
                way.masked_fill_(part[rows][:, :, None] == part[columns].view(m, 1, -1), torch.inf)
                shorter, which = way.min(2)
                places = (columns[:, :, None] * blocks.size + torch.arange(blocks.size, device=device)).view(m, -1)
                own = (rows[:, None] * blocks.size + torch.arange(blocks.size, device=device)).view(-1)
                shorter, which = shorter.view(-1), places.gather(1, which).view(-1)
                better = shorter < length[own]
                own, shorter, which = own[better], shorter[better], which[better]
                length[own], other[own] = shorter, which
                least.scatter_reduce_(0, self.part[own], shorter, "amin")


def _tree(ends: NDArray[np.int64], lengths: NDArray[np.float64], *, n: int) -> NDArray[np.float64]:
    """The ways without those that close a circle: parts that take ways of one length may take one too many."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    ends = np.sort(ends, axis=1)
    order = np.lexsort((lengths, ends[:, 1], ends[:, 0]))
    ends, lengths = ends[order], lengths[order]
    new = np.append(True, (ends[1:] != ends[:-1]).any(axis=1))
    ends, lengths = ends[new], lengths[new]
    order = np.argsort(lengths, kind="stable")
    ends, lengths = ends[order], lengths[order]
    # Weights are ranks: they are never 0, which would be no edge, and no two are alike.
    ranks = csr_array((np.arange(1.0, len(ends) + 1), (ends[:, 0], ends[:, 1])), shape=(n, n))
    kept = np.sort(minimum_spanning_tree(ranks).data.astype(np.int64)) - 1
    return np.column_stack((ends[kept].astype(np.float64), lengths[kept]))
