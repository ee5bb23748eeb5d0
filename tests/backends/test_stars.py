"""Stars: the groups that a comparison of all pairs gives, from the lists of the neighbour graph."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.backends.stars import Stars, find_stars

THRESHOLD = 0.95


@pytest.fixture(scope="module")
def copies(vectors):
    """600 vectors; near copies of 100 of them, 30 copies of one bit for bit, and 40 near copies of another."""
    random = np.random.default_rng(4)
    base = vectors[200:800].astype(np.float64)
    near = base[:100] + 0.03 * random.normal(size=(100, 48))
    many = base[300] + 0.02 * random.normal(size=(40, 48))
    made = np.vstack([base, near, np.repeat(base[200:201], 30, axis=0), many])
    made = made[random.permutation(len(made))]
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def stars(matrix, graph, prefer, lengths, threshold=THRESHOLD) -> Stars:
    return find_stars(matrix, graph[0], graph[1], threshold=threshold, lengths=lengths, prefer=prefer)


def graph_of(matrix, k=15):
    found = nearest_neighbors(matrix, k=k, method="exact", recall_target=1.0, seed=0, threads=2)
    return found.indices, found.distances


def by_all_pairs(matrix, prefer, lengths):
    """The same rule on the whole matrix of cosines, one row after the other."""
    exact = matrix.astype(np.float64)
    near = exact @ exact.T >= THRESHOLD - 1e-6
    keys = {
        "central": (np.arange(len(matrix)), -lengths, -near.sum(axis=1)),
        "longest": (np.arange(len(matrix)), -lengths),
        "first": (np.arange(len(matrix)),),
    }[prefer]
    star = np.full(len(matrix), -1)
    for row in np.lexsort(keys):
        if star[row] < 0:
            star[near[row] & (star < 0)] = row
    return star


@pytest.mark.parametrize("prefer", ["longest", "first"])
def test_the_groups_are_those_of_all_pairs(copies, prefer):
    lengths = np.random.default_rng(0).integers(10, 1_000, len(copies))
    found = stars(copies, graph_of(copies), prefer, lengths)
    expected = by_all_pairs(copies, prefer, lengths)
    np.testing.assert_array_equal(found.representative, expected)
    cosines = (copies.astype(np.float64) * copies[found.representative]).sum(axis=1)
    np.testing.assert_allclose(found.similarity, cosines, atol=1e-6)
    # 70 of them have lists that end before the copies do; those in a group need not be searched.
    assert 1 <= found.searched <= 70


def test_central_representatives_leave_no_pair_and_few_documents(copies):
    lengths = np.zeros(len(copies), dtype=np.int64)
    found = stars(copies, graph_of(copies), "central", lengths)
    kept = np.flatnonzero(found.representative == np.arange(len(copies)))
    cosines = copies[kept].astype(np.float64) @ copies[kept].T
    np.fill_diagonal(cosines, 0)
    assert cosines.max() < THRESHOLD
    assert found.similarity.min() >= THRESHOLD
    assert len(kept) <= len(np.unique(by_all_pairs(copies, "first", lengths)))


def test_rows_that_the_graph_does_not_know_are_compared_with_all(copies):
    lengths = np.zeros(len(copies), dtype=np.int64)
    known = 500
    indices, distances = graph_of(copies[:known])
    more = len(copies) - known
    grown = (
        np.vstack([indices, np.full((more, 15), -1, np.int32)]),
        np.vstack([distances, np.full((more, 15), np.nan, np.float32)]),
    )
    found = stars(copies, grown, "first", lengths)
    np.testing.assert_array_equal(found.representative, by_all_pairs(copies, "first", lengths))


def test_a_chain_is_not_one_group():
    angles = np.radians([0, 10, 20, 30, 40])
    matrix = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    lengths = np.zeros(5, dtype=np.int64)
    found = stars(matrix, graph_of(matrix, k=4), "central", lengths, threshold=float(np.cos(np.radians(11))))
    assert found.representative.tolist() == [1, 1, 1, 3, 3]


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_documents(n):
    matrix = np.ones((n, 1), dtype=np.float32)
    found = stars(matrix, graph_of(matrix), "central", np.zeros(n, dtype=np.int64))
    assert found.representative.tolist() == [0] * n
