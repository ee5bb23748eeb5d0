"""A third dimension: the 2-D layout is unchanged, and new documents get the height of a neighbour."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.backends.cpu.faithfulness import faithfulness
from latentscale.backends.cpu.layout import fuzzy_graph, layout
from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.backends.heights import place_heights
from latentscale.errors import ShapeError

OPTIONS = {
    "min_dist": 0.1,
    "spread": 1.0,
    "n_epochs": 150,
    "seed": 3,
    "negative_sample_rate": 5,
    "learning_rate": 1.0,
    "threads": 2,
}


@pytest.fixture(scope="module")
def layouts(vectors):
    graph = nearest_neighbors(vectors, k=15, method="exact", recall_target=1.0, seed=0, threads=2)
    fuzzy = fuzzy_graph(graph, n_neighbors=15)
    flat = layout(fuzzy, vectors, n_components=2, mode="exact", **OPTIONS)
    space = {
        mode: layout(fuzzy, vectors, n_components=3, mode=mode, fixed=flat, **OPTIONS) for mode in ("exact", "fast")
    }
    return fuzzy, flat, space


def test_a_height_leaves_the_flat_map_and_keeps_more_neighbours(vectors, layouts):
    fuzzy, flat, space = layouts
    measure = {"k": 15, "sample": 500, "seed": 0, "threads": 2}
    before = faithfulness(vectors, flat, **measure)
    for mode, found in space.items():
        assert found.shape == (len(flat), 3)
        np.testing.assert_array_equal(found[:, :2], flat, err_msg=mode)
        assert np.isfinite(found).all()
        after = faithfulness(vectors, found, **measure)
        assert after.preservation > before.preservation + 0.02, mode
        assert after.trustworthiness >= before.trustworthiness, mode
    again = layout(fuzzy, vectors, n_components=3, mode="exact", fixed=flat, **OPTIONS)
    np.testing.assert_array_equal(again, space["exact"])


def test_fixed_coordinates_that_do_not_fit_are_refused(vectors, layouts):
    fuzzy, flat, space = layouts
    for wrong in (flat[:-1], space["exact"], flat[:, 0]):
        with pytest.raises(ShapeError, match="fixed coordinates"):
            layout(fuzzy, vectors, n_components=3, mode="exact", fixed=wrong, **OPTIONS)


def test_a_new_document_gets_the_height_of_the_neighbours_where_it_was_placed():
    # Two groups above each other's flat places, and one far away whose height must not count.
    here = np.column_stack([np.zeros(6), np.arange(6) * 0.01, np.full(6, 2.0)])
    there = np.column_stack([np.full(4, 50.0), np.arange(4) * 0.01, np.full(4, -9.0)])
    space = np.concatenate([here, there]).astype(np.float32)
    indices = np.tile(np.arange(10, dtype=np.int32), (3, 1))
    at = np.array([[0.001, 0.03], [49.9, 0.01], [0.0, 0.02]], np.float32)
    space[2, 2] = 7.5
    heights = place_heights(indices, at, space, n_neighbors=10)
    # The last one lies on a fitted document, and has its height though its neighbours have another one.
    assert heights.tolist() == [2.0, -9.0, 7.5]
    # Each by itself: the others make no difference.
    for row in range(3):
        assert place_heights(indices[[row]], at[[row]], space, n_neighbors=10).tolist() == [heights[row]]


def test_heights_need_matching_positions_and_neighbours():
    space = np.zeros((4, 3), np.float32)
    with pytest.raises(ShapeError, match="do not match"):
        place_heights(np.zeros((2, 3), np.int32), np.zeros((3, 2), np.float32), space, n_neighbors=3)
    with pytest.raises(ShapeError, match="no height"):
        place_heights(np.zeros((2, 0), np.int32), np.zeros((2, 2), np.float32), space, n_neighbors=3)
    assert place_heights(np.zeros((0, 3), np.int32), np.zeros((0, 2), np.float32), space, n_neighbors=3).shape == (0,)
