"""The initial view shows the body of a map and ignores outliers."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.viewer.frame import body_frame


def share_inside(points: np.ndarray, box: tuple[float, ...]) -> float:
    return float(((points >= box[:2]) & (points <= box[2:])).all(axis=1).mean())


def test_a_far_island_does_not_shrink_the_body() -> None:
    random = np.random.default_rng(3)
    body = random.random((9_500, 2)) * 10
    island = random.random((300, 2)) + np.array([60, 5])
    strays = random.random((200, 2)) * 200 - 100
    points = np.concatenate([body, island, strays]).astype(np.float32)
    x0, y0, x1, y1 = body_frame(points)
    assert share_inside(body, (x0, y0, x1, y1)) > 0.98
    assert x1 - x0 < 11
    assert y1 - y0 < 11


def test_a_map_without_islands_is_shown_entirely() -> None:
    points = np.random.default_rng(4).random((20_000, 2)).astype(np.float32)
    assert share_inside(points, body_frame(points)) > 0.999


@pytest.mark.parametrize("seed", range(5))
def test_at_least_88_percent_are_in_the_frame(seed: int) -> None:
    points = np.random.default_rng(seed).standard_cauchy((5_000, 2)).astype(np.float32)
    assert share_inside(points, body_frame(points)) >= 0.88 - 1e-9


@pytest.mark.parametrize(
    "points",
    [[[1, 2]], [[3, 3]] * 50, [[0, 0], [1, 0], [5, 0]], [[0, 0], [0, 7]]],
    ids=["one", "same", "row", "column"],
)
def test_few_positions_are_all_in_the_frame(points: list[list[float]]) -> None:
    array = np.array(points, np.float32)
    box = body_frame(array)
    assert np.isfinite(box).all()
    assert share_inside(array, box) == 1.0
