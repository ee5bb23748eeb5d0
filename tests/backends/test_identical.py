"""Copies of a document: found by their vectors, at one position, in one cluster."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.backends.identical import first_occurrence, shared_labels, shared_positions


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_only_copies_are_found(dtype: type) -> None:
    random = np.random.default_rng(0)
    different = random.normal(size=(9_000, 24)).astype(dtype)
    origin = random.integers(0, 9_000, 20_000)
    matrix = different[origin]
    found = first_occurrence(matrix)
    assert (matrix[found] == matrix).all()
    _, first, inverse = np.unique(origin, return_index=True, return_inverse=True)
    assert (found == first[inverse]).all()
    assert (first_occurrence(different) == np.arange(9_000)).all()
    assert first_occurrence(different[:0]).tolist() == []


def test_copies_move_to_one_of_their_positions() -> None:
    coordinates = np.array([[0, 0], [9, 9], [1, 0], [2, 0], [5, 5]], np.float32)
    first = np.array([0, 1, 0, 0, 4])
    moved = shared_positions(coordinates, first)
    assert moved.tolist() == [[1, 0], [9, 9], [1, 0], [1, 0], [5, 5]]
    assert shared_positions(coordinates, np.arange(5)) is coordinates


def test_copies_share_the_cluster_that_most_of_them_have() -> None:
    labels = np.array([2, -1, 1, 1, 0, -1, -1, 0], np.int32)
    sure = np.array([0.9, 0, 0.4, 0.6, 0.8, 0, 0, 1], np.float32)
    first = np.array([0, 0, 0, 0, 4, 5, 5, 7])
    shared, probabilities = shared_labels(labels, sure, first)
    assert shared.tolist() == [1, 1, 1, 1, 0, -1, -1, 0]
    assert probabilities.tolist() == pytest.approx([0.6, 0.6, 0.6, 0.6, 0.8, 0, 0, 1])
