"""Batches of texts ahead of the device: every window once, full batches, and the next one is ready early."""

from __future__ import annotations

import gc
import random
import threading

import numpy as np
import pytest

from latentscale.embedders.encoder.ahead import Ahead
from latentscale.embedders.encoder.feed import Feed, Tally, portions
from latentscale.embedders.tokens import TextTokenizer
from tests.embedders.encoder_files import WORDS, word_pieces


def some_texts(count: int, *, longest: int = 40) -> list[str]:
    generator = random.Random(3)
    return [" ".join(generator.choices(WORDS, k=generator.randint(0, longest))) for _ in range(count)]


def feed(limit: int = 32, **options) -> Feed:
    return Feed(TextTokenizer(word_pieces(), limit=limit, **options), limit=limit)


def test_every_text_with_a_token_is_in_one_batch_with_its_own_tokens(monkeypatch):
    monkeypatch.setattr("latentscale.embedders.encoder.feed._LEAST_CHARACTERS", 500)
    texts = [*some_texts(300), "", "zz zz", "  "]
    tally = Tally(len(texts))
    batches = list(feed().batches(texts, tally, budget=lambda: 200))
    alone = TextTokenizer(word_pieces(), limit=32).encode(texts)
    seen: list[int] = []
    for batch in batches:
        assert len(batch) == 1 or batch.padded_tokens <= 200
        for text, row, length in zip(batch.text, batch.tokens, batch.lengths, strict=True):
            assert row[:length].tolist() == alone.ids[alone.bounds[text] : alone.bounds[text + 1]].tolist()
            assert not row[length:].any()
            seen.append(int(text))
    assert sorted(seen) == np.flatnonzero(~alone.empty).tolist()
    assert np.array_equal(tally.empty, alone.empty)
    assert np.array_equal(tally.truncated, alone.truncated)
    assert (tally.read, tally.unknown) == (alone.read, alone.unknown)
    assert tally.padded == sum(batch.padded_tokens for batch in batches)
    # What is left of a portion joins the next one: batches are filled, and nearly nothing is padded.
    assert tally.padded < 1.1 * int(alone.lengths[~alone.empty].sum())
    assert len(batches) < 1.15 * tally.padded / 200


def test_portions_hold_all_texts_from_the_longest_to_the_shortest(monkeypatch):
    monkeypatch.setattr("latentscale.embedders.encoder.feed._LEAST_CHARACTERS", 300)
    texts = some_texts(200)
    found = list(portions(texts))
    assert len(found) > 5
    flat = np.concatenate(found)
    assert sorted(flat.tolist()) == list(range(200))
    characters = [len(texts[row]) for row in flat]
    assert characters == sorted(characters, reverse=True)
    # The first is small, so that the device begins soon; later ones are larger, so that little is padded.
    sizes = [sum(len(texts[row]) for row in rows) for rows in found[:-1]]
    assert sizes[0] <= 300
    assert max(sizes) > 8 * sizes[0]
    assert list(portions([])) == []
    assert [one.tolist() for one in portions(["", ""])] == [[0, 1]]


def test_a_smaller_budget_holds_for_the_portions_that_follow(monkeypatch):
    monkeypatch.setattr("latentscale.embedders.encoder.feed._LEAST_CHARACTERS", 1_500)
    texts = some_texts(300)
    budget = [400]
    sizes = []
    for batch in feed().batches(texts, Tally(len(texts)), budget=lambda: budget[0]):
        sizes.append(batch.padded_tokens)
        budget[0] = 100
    assert max(sizes) > 100
    assert max(sizes[len(sizes) // 2 :]) <= 100


def test_windows_of_a_text_keep_its_position_and_their_weight():
    texts = ["red", " ".join(["green"] * 70)]
    batches = list(feed(limit=22, long="chunk", overlap=0).batches(texts, Tally(2), budget=lambda: 1_000))
    pairs = [(int(t), int(w)) for batch in batches for t, w in zip(batch.text, batch.weight, strict=True)]
    assert sorted(pairs) == [(0, 1), (1, 10), (1, 20), (1, 20), (1, 20)]


def test_the_next_item_is_prepared_while_one_is_used():
    prepared: list[int] = []
    ready = [threading.Event() for _ in range(5)]

    def items():
        for number in range(5):
            prepared.append(number)
            ready[number].set()
            yield number

    for number in Ahead(items(), depth=1):
        if number < 4:
            # The item after this one is there although nobody asked for it.
            assert ready[number + 1].wait(timeout=30)
        assert len(prepared) <= number + 3


def test_an_error_of_the_items_is_raised_where_they_are_used():
    def items():
        yield 1
        raise ValueError("spoilt")

    used = Ahead(items())
    assert next(used) == 1
    with pytest.raises(ValueError, match="spoilt"):
        next(used)


def test_the_thread_ends_when_the_items_are_not_wanted_any_more():
    def items():
        while True:
            yield 1

    # Of all threads only its own: those of earlier tests, as of servers, may end meanwhile.
    before = set(threading.enumerate())
    used = Ahead(items())
    (own,) = [one for one in set(threading.enumerate()) - before if one.name == "next-batch"]
    assert next(used) == 1
    used.close()
    assert not own.is_alive()


def test_the_thread_ends_when_nobody_holds_the_items_any_more():
    before = set(threading.enumerate())
    used = Ahead(iter(int, 1))
    (own,) = [one for one in set(threading.enumerate()) - before if one.name == "next-batch"]
    assert next(used) == 0
    del used
    gc.collect()
    own.join(timeout=60)
    assert not own.is_alive()
