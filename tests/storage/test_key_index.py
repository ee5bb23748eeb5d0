"""Keys are found by hashes, and only where they are the same characters."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from latentscale.storage import key_index
from latentscale.storage.key_index import KeyIndex, hash_keys


@pytest.fixture(params=["as they are", "collide"])
def hashes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "collide":
        monkeypatch.setattr(key_index, "hash_keys", lambda keys: hash_keys(keys) & np.uint64(1))


@pytest.mark.usefixtures("hashes")
def test_each_key_is_found_at_its_first_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "BATCH", 7)
    chance = np.random.default_rng(0)
    held = [f"key {number}" for number in chance.integers(0, 40, 60)]
    asked = [f"key {number}" for number in range(50)]
    expected = [held.index(key) if key in held else -1 for key in asked]
    pieces = pa.chunked_array([held[:25], held[25:]], pa.string())
    for kind in (pa.string(), pa.large_string()):
        assert KeyIndex(pa.array(held, pa.string())).find(pa.array(asked, kind)).tolist() == expected
        assert KeyIndex(pieces).find(pa.chunked_array([asked[:9], asked[9:]], kind)).tolist() == expected


@pytest.mark.usefixtures("hashes")
def test_repeated_keys_are_those_that_come_again() -> None:
    assert KeyIndex(pa.array(["b", "a", "b", "c", "a", "b"])).repeated().tolist() == [2, 4, 5]
    assert KeyIndex(pa.array(["b", "a", "c"])).repeated().tolist() == []


def test_an_empty_index_finds_nothing() -> None:
    nothing = pa.array([], pa.string())
    assert KeyIndex(nothing).find(pa.array(["a"])).tolist() == [-1]
    assert KeyIndex(pa.array(["a"])).find(nothing).tolist() == []
    assert KeyIndex(nothing).repeated().tolist() == []


def test_hashes_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = pa.array([f"{number:032x}" for number in range(100)])
    whole = hash_keys(keys)
    monkeypatch.setattr(key_index, "BATCH", 9)
    assert hash_keys(keys).tolist() == whole.tolist()
    assert hash_keys(keys.cast(pa.large_string())).tolist() == whole.tolist()
