"""Partition a map into an additive quadtree of tiles: each point is in exactly one tile."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TILE_POINTS = 16_384
MAX_DEPTH = 16
PAGE_LEVELS = 4
STEPS = 65_536
# With so many halvings more than the 16 of a tile's own steps, a place in the root tile is known to half a pixel at the
# page's closest zoom, where the map is 4,000,000 pixels wide; each level of tiles needs one less.
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
        up = self.z % PAGE_LEVELS
        return f"{self.z - up}-{self.x >> up}-{self.y >> up}"


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
        The ``2 * (FINE_LEVELS - z)`` bits of that code that follow, of a tile above depth ``FINE_LEVELS``; 0 in others.
    tiles : tuple of Tile
        Page by page (the first ``PAGE_LEVELS`` levels, then the next …), by depth, then in Morton order.
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
    """Give every point of ``coordinates``, shape (n, 2), to exactly one tile.

    A tile takes, of the points in its cell that no ancestor took, the ``tile_points`` of lowest rank. The rank is a
    hash of the row id, so a tile is a sample of its cell that does not depend on the order of the corpus; the first few
    points of every cluster come before all others, so that no cluster that has a label is without a point.
    Points deeper than ``MAX_DEPTH`` (more than 16 × ``tile_points`` at one position) stay in the deepest tile.
    """
    n = len(coordinates)
    low = coordinates.min(axis=0).astype(np.float64)
    high = coordinates.max(axis=0).astype(np.float64)
    side = float((high - low).max())
    # A little more than the extent, so that the highest point lies inside; a single position gets a square of its own.
    side = side * (1 + 1e-6) if side > 0 else max(1.0, float(np.abs(high).max()) * 1e-3)
    origin = (high + low) / 2 - side / 2
    cells = _cells(coordinates, origin=origin, side=side)
    codes = _morton(cells)
    rank = _rank(row_ids, clusters=clusters, tile_points=tile_points)

    remaining = np.argsort(codes, kind="stable")
    codes_left = codes[remaining]
    members: list[NDArray[np.int64]] = []
    found: list[tuple[int, int]] = []
    for z in range(MAX_DEPTH + 1):
        if not len(remaining):
            break
        key = codes_left >> np.uint64(64 - 2 * z) if z else np.zeros(len(codes_left), np.uint64)
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        ends = np.r_[starts[1:], len(key)]
        taken = np.ones(len(remaining), bool)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if end - start > tile_points and z < MAX_DEPTH:
                lowest = np.argpartition(rank[remaining[start:end]], tile_points - 1)[:tile_points]
                taken[start:end] = False
                taken[start + lowest] = True
            members.append(remaining[start:end][taken[start:end]])
            found.append((z, int(key[start])))
        remaining, codes_left = remaining[~taken], codes_left[~taken]

    # Page by page, so that what is seen together is stored together and a page's positions are one range.
    placed = sorted(range(len(found)), key=lambda i: _page_order(*found[i]))
    found, members = [found[i] for i in placed], [members[i] for i in placed]
    order = np.concatenate(members)
    existing = set(found)
    tiles: list[Tile] = []
    first = 0
    inside = np.empty(n, np.uint32)
    fine = np.zeros(n, np.uint16)
    for (z, key), rows in zip(found, members, strict=True):
        x, y = _unmorton(key, z)
        children = sum(1 << i for i in range(4) if (z + 1, key * 4 + i) in existing)
        # Of the code's 64 bits, the 32 after those that name the tile.
        inside[first : first + len(rows)] = (codes[rows] >> np.uint64(32 - 2 * z)) & np.uint64(0xFFFFFFFF)
        if z < FINE_LEVELS:
            # The bits after those: all tiles end at the same step of the root's edge.
            bits = codes[rows] >> np.uint64(32 - 2 * FINE_LEVELS)
            fine[first : first + len(rows)] = bits & np.uint64(4 ** (FINE_LEVELS - z) - 1)
        tiles.append(Tile(z=z, x=x, y=y, first=first, count=len(rows), children=children))
        first += len(rows)
    return Pyramid(
        origin=(float(origin[0]), float(origin[1])),
        side=side,
        order=order,
        codes=inside,
        fine=fine,
        tiles=tuple(tiles),
    )


def _page_order(z: int, key: int) -> tuple[int, int, int, int]:
    up = z % PAGE_LEVELS
    return z - up, key >> (2 * up), z, key


def _cells(coordinates: NDArray[np.float32], *, origin: NDArray[np.float64], side: float) -> NDArray[np.uint64]:
    """Place in the root's square in steps of 2**-32 of its edge, shape (n, 2)."""
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
    """A number in [0, 1) for each point, from its row id alone, with the first points of each cluster below zero."""
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
    # Only points of low rank can be among the first of their cluster: 64 times as many as needed are looked at.
    limit = np.minimum(1.0, 64 * keep / np.maximum(size, 1)).astype(np.float32)
    candidates = np.flatnonzero((clusters >= 0) & (rank <= limit[np.maximum(clusters, 0)]))
    candidates = candidates[np.lexsort((rank[candidates], clusters[candidates]))]
    group = clusters[candidates]
    start = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    within = np.arange(len(group)) - np.repeat(start, np.diff(np.r_[start, len(group)]))
    rank[candidates[within < keep]] -= np.float32(1)
    return rank
