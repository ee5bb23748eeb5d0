"""Partition a map into an additive quadtree of tiles: each point is in exactly one tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE_POINTS = 16_384
MAX_DEPTH = 16
PAGE_LEVELS = 4
STEPS = 65_536
# Levels of subdivision beyond the 16 bits of a tile's own coordinates: positions in the root tile are then accurate to
# half a pixel at the page's maximum zoom, where the map is 4,000,000 pixels wide. Each level of tiles needs one less.
FINE_LEVELS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A tile: its quadtree cell, and its range of positions.

    Attributes
    ----------
    z, x, y : int
        Depth, and column and row of the cell among ``2**z``; row 0 is at the lowest y.
    first, count : int
        Positions ``first`` to ``first + count`` are this tile's.
    children : int
        Bit ``i`` is set if the child at column ``2x + (i & 1)``, row ``2y + (i >> 1)`` exists.
    """

    z: int
    x: int
    y: int
    first: int
    count: int
    children: int

    @property
    def key(self) -> str:
        return f"{self.z}-{self.x}-{self.y}"

    @property
    def page(self) -> str:
        """The key of the tile at the top of the page that lists this one."""
        levels = self.z % PAGE_LEVELS
        return f"{self.z - levels}-{self.x >> levels}-{self.y >> levels}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pyramid:
    """The tiles of one generation.

    Attributes
    ----------
    origin : tuple of float
        Lowest x and y of the root's square.
    side : float
        Edge of the root's square.
    order : int64 ndarray, shape (n,)
        The row of ``coordinates`` at each position.
    codes : uint32 ndarray, shape (n,)
        The Morton code (Morton 1966) inside the tile, in position order, ascending in each tile: x in the even bits, y
        in the odd ones, each of 16 bits: ``origin + (tile + (x + 0.5) / 65536) * side / 2**z``.
    fine : uint16 ndarray, shape (n,)
        The next ``2 * (FINE_LEVELS - z)`` bits of that code for tiles above depth ``FINE_LEVELS``; 0 for others.
    tiles : tuple of Tile
        By page (a subtree of ``PAGE_LEVELS`` levels), then by depth, then in Morton order.
    """

    origin: tuple[float, float]
    side: float
    order: NDArray[np.int64]
    codes: NDArray[np.uint32]
    fine: NDArray[np.uint16]
    tiles: tuple[Tile, ...]


def build_pyramid(
    coordinates: NDArray[np.float32],
    *,
    row_ids: NDArray[np.int64],
    clusters: NDArray[np.int32],
    tile_points: int = TILE_POINTS,
) -> Pyramid:
    """Assign every point of ``coordinates``, shape (n, 2), to exactly one tile.

    A tile contains the ``tile_points`` points of lowest rank in its cell that are in none of its ancestors. The rank is
    a hash of the row id, so that a tile is a sample of its cell that does not depend on the order of the corpus. A few
    points of every cluster have a lower rank than all others, so that every labelled cluster shows points. All points
    that would be deeper than ``MAX_DEPTH`` (more than 16 × ``tile_points`` at one position) are in the deepest tile.
    """
    n = len(coordinates)
    low = coordinates.min(axis=0).astype(np.float64)
    high = coordinates.max(axis=0).astype(np.float64)
    side = float((high - low).max())
    # Slightly more than the extent, so that the highest point is inside; positive also if all points coincide.
    side = side * (1 + 1e-6) if side > 0 else max(1.0, float(np.abs(high).max()) * 1e-3)
    origin = (high + low) / 2 - side / 2
    cells = _cells(coordinates, origin=origin, side=side)
    codes = _morton(cells)
    rank = _rank(row_ids, clusters=clusters, tile_points=tile_points)

    remaining = np.argsort(codes, kind="stable")
    codes_left = codes[remaining]
    members: list[NDArray[np.int64]] = []
    keys: list[tuple[int, int]] = []
    for z in range(MAX_DEPTH + 1):
        if not len(remaining):
            break
        key = codes_left >> np.uint64(64 - 2 * z) if z else np.zeros(len(codes_left), np.uint64)
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        ends = np.r_[starts[1:], len(key)]
        selected = np.ones(len(remaining), bool)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if end - start > tile_points and z < MAX_DEPTH:
                lowest = np.argpartition(rank[remaining[start:end]], tile_points - 1)[:tile_points]
                selected[start:end] = False
                selected[start + lowest] = True
            members.append(remaining[start:end][selected[start:end]])
            keys.append((z, int(key[start])))
        remaining, codes_left = remaining[~selected], codes_left[~selected]

    # By page, so that points shown together are stored together and a page's positions are one range.
    by_page = sorted(range(len(keys)), key=lambda i: _page_order(*keys[i]))
    keys, members = [keys[i] for i in by_page], [members[i] for i in by_page]
    order = np.concatenate(members)
    existing = set(keys)
    tiles: list[Tile] = []
    first = 0
    tile_codes = np.empty(n, np.uint32)
    fine = np.zeros(n, np.uint16)
    for (z, key), rows in zip(keys, members, strict=True):
        x, y = _unmorton(key, z)
        children = sum(1 << i for i in range(4) if (z + 1, key * 4 + i) in existing)
        # The 32 of the code's 64 bits that follow those of the tile.
        tile_codes[first : first + len(rows)] = (codes[rows] >> np.uint64(32 - 2 * z)) & np.uint64(0xFFFFFFFF)
        if z < FINE_LEVELS:
            # The bits after those, down to the same resolution in all tiles.
            bits = codes[rows] >> np.uint64(32 - 2 * FINE_LEVELS)
            fine[first : first + len(rows)] = bits & np.uint64(4 ** (FINE_LEVELS - z) - 1)
        tiles.append(Tile(z=z, x=x, y=y, first=first, count=len(rows), children=children))
        first += len(rows)
    return Pyramid(
        origin=(float(origin[0]), float(origin[1])),
        side=side,
        order=order,
        codes=tile_codes,
        fine=fine,
        tiles=tuple(tiles),
    )


def _page_order(z: int, key: int) -> tuple[int, int, int, int]:
    levels = z % PAGE_LEVELS
    return z - levels, key >> (2 * levels), z, key


def _cells(coordinates: NDArray[np.float32], *, origin: NDArray[np.float64], side: float) -> NDArray[np.uint64]:
    """Quantise positions in the root's square to steps of 2**-32 of its edge; shape (n, 2)."""
    steps = (coordinates.astype(np.float64) - origin) * (2.0**32 / side)
    return np.clip(steps, 0, 2.0**32 - 1).astype(np.uint64)


def _morton(cells: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Interleave the bits of x (even) and y (odd)."""

    def spread(v: NDArray[np.uint64]) -> NDArray[np.uint64]:
        for shift, mask in (
            (16, 0x0000FFFF0000FFFF),
            (8, 0x00FF00FF00FF00FF),
            (4, 0x0F0F0F0F0F0F0F0F),
            (2, 0x3333333333333333),
            (1, 0x5555555555555555),
        ):
            v = (v | (v << np.uint64(shift))) & np.uint64(mask)
        return v

    return spread(cells[:, 0]) | (spread(cells[:, 1]) << np.uint64(1))


def _unmorton(key: int, depth: int) -> tuple[int, int]:
    x = y = 0
    for bit in range(depth):
        x |= ((key >> (2 * bit)) & 1) << bit
        y |= ((key >> (2 * bit + 1)) & 1) << bit
    return x, y


def _rank(row_ids: NDArray[np.int64], *, clusters: NDArray[np.int32], tile_points: int) -> NDArray[np.float32]:
    """A number in [0, 1) for each point, a hash of its row id; below zero for the first points of each cluster."""
    # SplitMix64 (Steele, Lea and Flood 2014): a full-avalanche mix, so that neighbouring ids are unrelated.
    h = row_ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    rank = ((h ^ (h >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    ids, sizes = np.unique(clusters[clusters >= 0], return_counts=True)
    if not len(ids):
        return rank
    keep = max(1, min(8, tile_points // (4 * len(ids))))
    size = np.zeros(int(ids[-1]) + 1, np.float64)
    size[ids] = sizes
    # Only points of low rank can be among the first of their cluster: consider 64 times as many as needed.
    limit = np.minimum(1.0, 64 * keep / np.maximum(size, 1)).astype(np.float32)
    candidates = np.flatnonzero((clusters >= 0) & (rank <= limit[np.maximum(clusters, 0)]))
    candidates = candidates[np.lexsort((rank[candidates], clusters[candidates]))]
    group = clusters[candidates]
    start = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    within = np.arange(len(group)) - np.repeat(start, np.diff(np.r_[start, len(group)]))
    rank[candidates[within < keep]] -= np.float32(1)
    return rank
