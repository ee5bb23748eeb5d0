"""Vectors as text, or in a NumPy file next to the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError
from latentscale.readers.check import check_corpus
from latentscale.readers.inputs import list_inputs
from latentscale.readers.vectors import parse_vector
from latentscale.stages import ingest
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet

MATRIX = np.arange(12, dtype=np.float32).reshape(6, 2)
TEXTS = ["one", "", "two", "three", "four", "five"]


@pytest.mark.parametrize("text", ["[0.5, 1]", "0.5 1", "[0.5 1. ]", "0.5,1", "0.5;1.0", "(0.5, 1.0)", "[ 5e-1\n 1]"])
def test_a_vector_as_programs_write_it(text: str):
    assert parse_vector(text) == [0.5, 1.0]


def vectors(store: Store, path: Path, column: str, **more: Any) -> list[Any]:
    """The stored vectors of a corpus, by document."""
    corpus = CorpusConfig(sources=(str(path),), text="text", **more)
    settings = IngestConfig(shard_rows=2)
    inputs = list_inputs(corpus)
    check_corpus(inputs, corpus, settings)
    worker = ingest.IngestWorker(store, corpus, settings)
    receipts = [receipt for unit in ingest.plan_ingest(inputs, corpus, settings) for receipt in worker(unit)]
    return [row for one in receipts for row in read_parquet(store, one.name)[column].to_pylist()]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "ws"))


def test_vectors_are_text_in_csv_and_json(tmp_path: Path, store: Store):
    (tmp_path / "a.csv").write_text('text,v\na,"[1.0, 2.0]"\nb,\nc,3 4\n')
    assert vectors(store, tmp_path / "a.csv", "v", vectors="v") == [[1.0, 2.0], None, [3.0, 4.0]]
    (tmp_path / "a.jsonl").write_text('{"text": "a", "v": "[1.0, 2.0]"}\n{"text": "b", "v": [3, 4]}\n')
    assert vectors(store, tmp_path / "a.jsonl", "v", vectors="v") == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("value", ["[0.1 0.2 ... 0.3]", "x y"])
def test_text_that_is_no_vector_is_refused_with_its_row(tmp_path: Path, store: Store, value: str):
    (tmp_path / "a.csv").write_text(f'text,v\na,"[1.0, 2.0]"\nb,{value}\n')
    with pytest.raises(CorpusError, match="cannot be read") as raised:
        vectors(store, tmp_path / "a.csv", "v", vectors="v")
    assert "row 1, column v" in str(raised.value.where)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_a_file_of_numpy_has_a_row_for_each_row_of_the_table(tmp_path: Path, store: Store, kind: str):
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"text": TEXTS}), path, row_group_size=2)
    elif kind == "csv":
        # A blank line is no row.
        path.write_text("n,text\n" + "".join(f"1,{text}\n" + "\n" * (text == "two") for text in TEXTS))
    else:
        path.write_text("".join(f'{{"text": "{text}"}}\n' + "\n" * (text == "two") for text in TEXTS))
    np.save(tmp_path / "v.npy", MATRIX)
    expected = [row for row, text in zip(MATRIX.tolist(), TEXTS, strict=True) if text]
    named = {"vectors": str(tmp_path / "v.npy")}
    assert vectors(store, path, "npy_vector", **named) == expected
    chosen = vectors(store, path, "npy_vector", where="text = 'four'", **named)
    assert chosen == [MATRIX[4].tolist()]
    for count in (5, 7):
        np.save(tmp_path / "v.npy", np.ones((count, 2), dtype=np.float16))
        with pytest.raises(CorpusError, match=rf"v.npy has {count} vectors"):
            vectors(store, path, "npy_vector", **named)


def test_whole_numbers_in_a_file_of_numpy_are_vectors(tmp_path: Path, store: Store):
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
    np.save(tmp_path / "v.npy", np.array([[1, -2], [3, 4]], np.int8))
    found = vectors(store, tmp_path / "a.parquet", "npy_vector", vectors=str(tmp_path / "v.npy"))
    assert found == [[1.0, -2.0], [3.0, 4.0]]


def test_other_vectors_in_the_file_make_other_shards(tmp_path: Path):
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
    keys: set[str] = set()
    for scale in (1.0, 2.0):
        np.save(tmp_path / "v.npy", np.full((2, 3), scale))
        corpus = CorpusConfig(sources=(str(tmp_path / "a.parquet"),), vectors=str(tmp_path / "v.npy"))
        keys.add(ingest.plan_ingest(list_inputs(corpus), corpus, IngestConfig(fingerprint="content"))[0].key)
    assert len(keys) == 2


def test_a_file_without_vectors_is_refused(tmp_path: Path, store: Store):
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "a.parquet")
    named = {"vectors": str(tmp_path / "v.npy")}
    with pytest.raises(CorpusError, match="there is no file of vectors"):
        vectors(store, tmp_path / "a.parquet", "npy_vector", **named)
    with pytest.raises(CorpusError, match="has no column") as caught:
        vectors(store, tmp_path / "a.parquet", "vectors", vectors=str(tmp_path / "v.npz"))
    assert "a file that ends in .npy or .parquet, or vectors= in Python" in str(caught.value.hint)
    np.save(tmp_path / "v.npy", np.arange(2))
    with pytest.raises(CorpusError, match=r"int64 of shape \(2,\)"):
        vectors(store, tmp_path / "a.parquet", "npy_vector", **named)
    np.save(tmp_path / "v.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(CorpusError, match="is no file of NumPy") as caught:
        vectors(store, tmp_path / "a.parquet", "npy_vector", **named)
    assert "'float32'" in str(caught.value.hint)
    np.savez(tmp_path / "v.npz", MATRIX)
    (tmp_path / "v.npz").rename(tmp_path / "v.npy")
    with pytest.raises(CorpusError, match="is an archive of NumPy, not one array"):
        vectors(store, tmp_path / "a.parquet", "npy_vector", **named)
    (tmp_path / "v.npy").write_bytes(b"PK\x03\x04 and nothing")
    with pytest.raises(CorpusError, match="is no file of NumPy"):
        vectors(store, tmp_path / "a.parquet", "npy_vector", **named)
    np.save(tmp_path / "v.npy", MATRIX)
    pq.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "b.parquet")
    with pytest.raises(CorpusError, match="one table, and the corpus has 2 files"):
        vectors(store, tmp_path, "npy_vector", **named)
