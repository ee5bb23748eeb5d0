"""Texts that several shards have: which row stands for each, and their vectors by hash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentscale.storage import shard_hashes, shared_texts
from latentscale.storage.objects import Store
from latentscale.storage.parquet import write_parquet
from latentscale.storage.shared_texts import SharedVectors, find_shared
from latentscale.storage.snapshot import ShardTable, document_name

TEXTS = st.sampled_from(["a", "b", "c", "long " * 80, "ü", "", "  "])


def stored(store: Store, shards: list[list[str | None]]) -> ShardTable:
    keys = [f"{number:02d}{'x' * 14}" for number in range(len(shards))]
    for key, texts in zip(keys, shards, strict=True):
        write_parquet(store, document_name(key), pa.table({"text": pa.array(texts, pa.string())}), facts={})
    rows = np.array([len(texts) for texts in shards], dtype=np.int64)
    return ShardTable(keys=pa.array(keys, pa.string()), rows=rows, bases=np.cumsum(rows) - rows, bytes=rows)


@settings(max_examples=25)
@given(
    shards=st.lists(st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=6), min_size=1, max_size=5),
    data=st.data(),
)
def test_the_first_row_represents_each_text_shared_with_a_missing_shard(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[str | None]], data: st.DataObject
) -> None:
    missing = np.array([data.draw(st.booleans()) for _ in shards])
    store = Store(str(tmp_path_factory.mktemp("store")))
    table = stored(store, shards)
    first: dict[str, tuple[int, int]] = {}
    expected: set[int] = set()
    for number, texts in enumerate(shards):
        for row, text in enumerate(texts):
            if text is None or not text.strip():
                continue
            owner, offset = first.setdefault(text, (number, int(table.bases[number]) + row))
            if owner != number and missing[number]:
                expected.add(offset)
    assert find_shared(store, table, "text", missing).tolist() == sorted(expected)
    # The hashes are kept: a second look reads no shard.
    for key in table.keys.to_pylist():
        store.delete([document_name(str(key))])
    assert find_shared(store, table, "text", missing).tolist() == sorted(expected)


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> Callable[[pa.Array], Any]:
    """Hashes whose first halves are alike for texts of the same length."""

    def hashed(texts: pa.Array) -> tuple[Any, Any]:
        values = [text or "" for text in texts.to_pylist()]
        first = np.array([len(text) for text in values], dtype=np.uint64)
        return first, np.array([sum(text.encode()) for text in values], dtype=np.uint64)

    monkeypatch.setattr(shared_texts, "hash_strings", hashed)
    monkeypatch.setattr(shard_hashes, "hash_strings", hashed)
    return hashed


def test_vectors_are_found_by_both_halves_of_the_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halves: Callable[[pa.Array], Any]
) -> None:
    monkeypatch.setenv("LATENTSCALE_SCRATCH", str(tmp_path / "scratch"))
    store, folder = Store(str(tmp_path / "store")), "embeddings/embedding-1/shared-texts/snapshot-1"
    texts = ["aa", "bb", "cc", "d", "no vector"]
    for number, some in enumerate((texts[:2], texts[2:])):
        first, second = halves(pa.array(some))
        values = np.array([[ord(text[0]), number] for text in some], dtype=np.float16)
        mask = pa.array([text == "no vector" for text in some])
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2, mask=mask)
        table = pa.table({"vector": vectors, "first": pa.array(first), "second": pa.array(second)})
        write_parquet(store, f"{folder}/0{number}/0{number}.parquet", table, facts={})
    shared_texts.write_plan(store, folder, np.arange(3))
    rows, vectors = SharedVectors(store, folder).find(pa.array(["zz", "cc", None, "aa", "no vector", "d", "e", "bb"]))
    assert rows.tolist() == [1, 3, 5, 7]
    assert vectors is not None
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [[ord("c"), 1], [ord("a"), 0], [ord("d"), 1], [ord("b"), 0]]


def test_without_vectors_none_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENTSCALE_SCRATCH", str(tmp_path / "scratch"))
    store, folder = Store(str(tmp_path / "store")), "embeddings/embedding-1/shared-texts/snapshot-1"
    shared_texts.write_plan(store, folder, np.arange(0))
    rows, vectors = SharedVectors(store, folder).find(pa.array(["a"]))
    assert (rows.tolist(), vectors) == ([], None)
