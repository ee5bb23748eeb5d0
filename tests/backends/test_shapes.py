"""Density and outlines of a layout."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.backends.shapes import density, hulls, largest_piece


@pytest.mark.parametrize("dim", [2, 3])
def test_density_is_in_documents_per_unit(dim):
    points = np.random.default_rng(0).uniform(0, 10, (40_000, dim)).astype(np.float32)
    inner = (np.abs(points - 5) < 3).all(axis=1)
    assert np.median(density(points)[inner]) == pytest.approx(40_000 / 10**dim, rel=0.25)


def test_density_is_defined_for_few_points_or_one_position():
    assert density(np.zeros((0, 2))).shape == (0,)
    assert (density(np.ones((5, 2))) == 0).all()
    assert np.isfinite(density(np.array([[0.0, 0.0], [1.0, 0.0]]))).all()


def test_a_far_outlier_does_not_flatten_the_density():
    points = np.vstack([np.random.default_rng(0).normal(size=(5000, 2)), [[300.0, 300.0]]])
    found = density(points)
    assert found[:5000].mean() > 100 * found[5000]


def test_hulls_leave_stragglers_out_and_follow_the_ids():
    random = np.random.default_rng(0)
    points = np.vstack([random.uniform(0, 1, (200, 2)), [[50.0, 50.0]], random.uniform(5, 6, (100, 2))])
    labels = np.array([0] * 201 + [1] * 100, np.int32)
    first, second = hulls(points, labels)
    assert first.max() <= 1
    assert second.min() >= 5
    x, y = first.T
    assert 0.7 < 0.5 * (x @ np.roll(y, -1) - y @ np.roll(x, -1)) < 1.0  # positive: counter-clockwise


@pytest.mark.parametrize(
    "members", [[[0, 0]], [[0, 0], [1, 1]], [[0, 0]] * 9, [[0, 0], [1, 1], [2, 2], [3, 3]]], ids=str
)
def test_clusters_without_area_have_no_hull(members):
    outlines = hulls(np.array(members, float), np.zeros(len(members), np.int32))
    assert [outline.shape for outline in outlines] == [(0, 2)]
    assert hulls(np.array(members, float), np.full(len(members), -1, np.int32)) == []


def test_of_a_cluster_in_pieces_the_largest_is_found() -> None:
    random = np.random.default_rng(4)
    small = random.normal((0, 0), 0.3, (200, 2))
    large = random.normal((10, 3), 0.5, (400, 2))
    strays = random.uniform(-5, 15, (5, 2)) + np.array([0, 20])
    points = np.concatenate([small, large, strays])
    assert len(set(largest_piece(points).tolist()) & set(range(200, 600))) > 390
    assert not set(largest_piece(points).tolist()) & set(range(200))
    # Between the two there is nothing, where the median of all of them may lie.
    assert np.linalg.norm(np.median(points[largest_piece(points)], axis=0) - (10, 3)) < 0.3


@pytest.mark.parametrize("points", [np.zeros((0, 2)), np.ones((40, 2)), np.random.default_rng(1).random((15, 2))])
def test_a_cluster_of_few_documents_or_one_position_is_one_piece(points: np.ndarray) -> None:
    assert largest_piece(points).tolist() == list(range(len(points)))


def test_evenly_spread_documents_are_one_piece() -> None:
    random = np.random.default_rng(2)
    for n in (16, 60, 500, 20_000):
        points = random.random((n, 2)) * (4, 1)
        assert len(largest_piece(points)) > 0.9 * n
