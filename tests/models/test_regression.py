"""Fitting recovers the table that made the targets, and leaves tokens that no passage has where they began."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latentscale.models.regression import RegressionSettings, TokenBags, regress

torch = pytest.importorskip("torch", reason="the table is fitted with torch")
pytestmark = pytest.mark.slow

VOCABULARY, SEEN, DIMS, PASSAGES = 300, 280, 16, 4000


@pytest.fixture(scope="module")
def bags() -> TokenBags:
    random = np.random.default_rng(0)
    lengths = random.integers(0, 12, PASSAGES)
    bounds = np.zeros(PASSAGES + 1, dtype=np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return TokenBags(ids=random.integers(0, SEEN, int(lengths.sum())).astype(np.int32), bounds=bounds)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((VOCABULARY, DIMS)).astype(np.float32)


def sums(table: np.ndarray, bags: TokenBags) -> np.ndarray:
    found = np.zeros((len(bags), table.shape[1]), dtype=np.float32)
    np.add.at(found, np.repeat(np.arange(len(bags)), np.diff(bags.bounds)), table[bags.ids])
    return found


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1)[lengths > 0] / lengths[lengths > 0]


def test_passages_come_to_point_where_their_targets_do(bags: TokenBags, truth: np.ndarray) -> None:
    targets = sums(truth, bags)
    random = np.random.default_rng(2)
    start = (0.5 * truth + random.standard_normal(truth.shape)).astype(np.float32)
    settings = RegressionSettings(epochs=20, batch=256, learning_rate=2e-2, drop=0.0)
    losses: list[float] = []
    table = regress(start, bags, targets, settings=settings, on_epoch=lambda _, loss: losses.append(loss))
    assert cosines(sums(start, bags), targets).mean() < 0.6
    assert cosines(sums(table, bags), targets).mean() > 0.97
    assert len(losses) == 20
    assert losses[-1] < 0.1 * losses[0]
    np.testing.assert_array_equal(table[SEEN:], start[SEEN:])
    again = regress(start, bags, targets, settings=settings)
    np.testing.assert_array_equal(again, table)


def test_the_anchor_holds_tokens_near_their_start(bags: TokenBags, truth: np.ndarray) -> None:
    targets = sums(truth, bags)
    start = np.random.default_rng(3).standard_normal(truth.shape).astype(np.float32)
    settings = RegressionSettings(epochs=4, batch=256, learning_rate=2e-2, weight_rate=0.0, drop=0.0, anchor=0.0)
    free = regress(start, bags, targets, settings=settings)
    held = regress(start, bags, targets, settings=replace(settings, anchor=0.5))
    assert np.linalg.norm(held - start) < 0.5 * np.linalg.norm(free - start)
