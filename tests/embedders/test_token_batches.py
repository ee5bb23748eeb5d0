"""Batches under a budget of tokens: each text once, the longest first, little padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentscale.embedders.token_batches import batch_width, padded, token_batches


@given(
    lengths=st.lists(st.integers(1, 600), max_size=300),
    budget=st.integers(1, 5_000),
    multiple=st.sampled_from([1, 8, 64]),
)
def test_every_text_is_in_one_batch_and_no_batch_is_over_the_budget(lengths, budget, multiple):
    sizes = np.asarray(lengths, np.int32)
    batches = list(token_batches(sizes, budget=budget, limit=512, multiple=multiple))
    assert sorted(np.concatenate([*batches, np.empty(0, np.int64)]).tolist()) == list(range(len(lengths)))
    longest = [int(sizes[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    for batch in batches:
        width = batch_width(int(sizes[batch].max()), limit=512, multiple=multiple)
        assert len(batch) == 1 or len(batch) * width <= budget
        assert len(batch) >= 1


def test_a_batch_is_as_full_as_the_budget_allows():
    batches = list(token_batches(np.full(100, 10, np.int32), budget=400, limit=512))
    assert [len(batch) for batch in batches] == [25, 25, 25, 25]  # rounded up to 16


@pytest.mark.parametrize(("longest", "width"), [(1, 8), (8, 8), (9, 16), (61, 62), (62, 62), (70, 70)])
def test_a_width_is_rounded_up_and_not_beyond_what_the_model_takes(longest, width):
    assert batch_width(longest, limit=62) == width


def test_rows_are_filled_up_on_the_right():
    ids = np.arange(10, dtype=np.int32)
    bounds = np.array([0, 3, 3, 7, 10])
    tokens, lengths = padded(ids, bounds, np.array([2, 0, 1]), width=5, padding=-1)
    assert tokens.tolist() == [[3, 4, 5, 6, -1], [0, 1, 2, -1, -1], [-1] * 5]
    assert lengths.tolist() == [4, 3, 0]
