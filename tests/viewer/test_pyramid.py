"""Every point is in one tile, at its position, for any map."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from latentscale.viewer.pyramid import FINE_LEVELS, MAX_DEPTH, Pyramid, build_pyramid

FINITE = st.floats(-1e6, 1e6, width=32, allow_nan=False)


def build(points: np.ndarray, tile_points: int = 16, clusters: np.ndarray | None = None) -> Pyramid:
    ids = np.arange(len(points), dtype=np.int64) * 7 + 1
    found = np.full(len(points), -1, np.int32) if clusters is None else clusters
    return build_pyramid(points, row_ids=ids, clusters=found, tile_points=tile_points)


def decoded(pyramid: Pyramid, *, fine: bool = False) -> np.ndarray:
    positions = np.empty((len(pyramid.order), 2))
    for tile in pyramid.tiles:
        part = slice(tile.first, tile.first + tile.count)
        edge = pyramid.side / 2**tile.z
        corner = np.array(pyramid.origin) + np.array([tile.x, tile.y]) * edge
        code = pyramid.codes[part].astype(np.int64)
        assert (np.diff(code) >= 0).all()
        steps = np.stack([deinterleave(code), deinterleave(code >> 1)], axis=1)
        within = 0.5
        if fine and tile.z < FINE_LEVELS:
            more = pyramid.fine[part].astype(np.int64)
            levels = 2.0 ** (FINE_LEVELS - tile.z)
            assert more.max() < levels**2
            within = (np.stack([deinterleave(more), deinterleave(more >> 1)], axis=1) + 0.5) / levels
        positions[part] = corner + (steps + within) / 65536 * edge
    return positions


def deinterleave(code: np.ndarray) -> np.ndarray:
    return sum(((code >> (2 * bit)) & 1) << bit for bit in range(16))


@settings(max_examples=60)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 400), st.just(2)), elements=FINITE))
def test_every_point_is_in_exactly_one_tile_within_half_a_step_of_its_position(points: np.ndarray) -> None:
    pyramid = build(points)
    assert sorted(pyramid.order.tolist()) == list(range(len(points)))
    assert sum(tile.count for tile in pyramid.tiles) == len(points)
    assert [t.first for t in pyramid.tiles] == np.cumsum([0, *(t.count for t in pyramid.tiles)])[:-1].tolist()
    step = np.concatenate([np.full(t.count, pyramid.side / 2**t.z / 65536) for t in pyramid.tiles])
    error = np.abs(decoded(pyramid) - points[pyramid.order]).max(axis=1)
    # Half a step, and what the arithmetic of doubles adds on a map that lies far from zero.
    assert (error <= step * 0.5 + 1e-9 * np.abs(points).max() + pyramid.side * 2.0**-32).all()


@settings(max_examples=60)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 400), st.just(2)), elements=FINITE))
def test_at_maximum_zoom_every_point_is_within_half_a_pixel_of_its_position(points: np.ndarray) -> None:
    pyramid = build(points)
    pixel = pyramid.side / 4_000_000
    error = np.abs(decoded(pyramid, fine=True) - points[pyramid.order]).max(axis=1)
    assert (error <= pixel / 2 + 1e-9 * np.abs(points).max()).all()


@settings(max_examples=40)
@given(st.integers(1, 3000), st.integers(1, 64), st.integers(0, 2**31))
def test_a_tile_is_full_before_it_has_children_and_its_bits_list_them(n: int, tile_points: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(0, 1, (n, 2)).astype(np.float32)
    pyramid = build(points, tile_points)
    tiles = {(t.z, t.x, t.y): t for t in pyramid.tiles}
    assert len(tiles) == len(pyramid.tiles)
    for (z, x, y), tile in tiles.items():
        assert 1 <= tile.count <= tile_points or z == MAX_DEPTH
        for i in range(4):
            child = tiles.get((z + 1, 2 * x + (i & 1), 2 * y + (i >> 1)))
            assert bool(tile.children & (1 << i)) == (child is not None)
        if tile.children:
            assert tile.count == tile_points
        if z:
            assert (z - 1, x >> 1, y >> 1) in tiles


def test_a_tile_and_its_ancestors_are_a_sample_by_row_id_not_by_order() -> None:
    random = np.random.default_rng(3)
    points = random.normal(0, 1, (2000, 2)).astype(np.float32)
    ids = np.arange(2000, dtype=np.int64)
    shuffle = random.permutation(2000)
    none = np.full(2000, -1, np.int32)
    straight = build_pyramid(points, row_ids=ids, clusters=none, tile_points=100)
    shuffled = build_pyramid(points[shuffle], row_ids=ids[shuffle], clusters=none, tile_points=100)
    for a, b in zip(straight.tiles, shuffled.tiles, strict=True):
        assert a == b
        rows = slice(a.first, a.first + a.count)
        assert set(straight.order[rows].tolist()) == set(shuffle[shuffled.order[rows]].tolist())


def test_every_cluster_has_a_point_in_the_root() -> None:
    random = np.random.default_rng(5)
    clusters = np.zeros(50_000, np.int32)
    clusters[random.permutation(50_000)[:300]] = np.repeat(np.arange(1, 101), 3)
    points = random.normal(0, 1, (50_000, 2)).astype(np.float32)
    pyramid = build(points, 1000, clusters)
    assert set(clusters[pyramid.order[: pyramid.tiles[0].count]].tolist()) == set(range(101))


@pytest.mark.parametrize("n", [1, 3, 5000])
def test_documents_at_a_single_position_make_a_map(n: int) -> None:
    pyramid = build(np.full((n, 2), 4.0, np.float32), 100)
    assert sum(tile.count for tile in pyramid.tiles) == n
    assert np.allclose(decoded(pyramid), 4.0, atol=1e-3)


def test_the_tiles_of_a_page_have_consecutive_positions() -> None:
    points = np.random.default_rng(1).normal(0, 1, (20_000, 2)).astype(np.float32)
    pages = [tile.page for tile in build(points, 20).tiles]
    assert len(set(pages)) > 3
    changes = sum(a != b for a, b in itertools.pairwise(pages))
    assert changes == len(set(pages)) - 1
