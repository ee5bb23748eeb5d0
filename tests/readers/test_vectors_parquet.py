"""Vectors in a parquet file next to a table: matched row by row, read once, and refused if they do not match."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError
from latentscale.readers import vectors_parquet
from latentscale.readers.check import check_corpus
from latentscale.readers.inputs import list_inputs
from latentscale.readers.vectors import vector_file
from latentscale.stages import ingest
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet

TEXTS = ["one", "", "two", "three", "four", "five"]
MATRIX = [[float(i), float(i + 1)] for i in range(6)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "ws"))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": list("abcdef"), "text": TEXTS}), path, row_group_size=2)
    return path


def stored(store: Store, path: Path, vectors: Path, **more: Any) -> list[Any]:
    """The vectors that are stored for each document."""
    config = CorpusConfig(sources=(str(path),), text="text", vectors=str(vectors), **more)
    settings = IngestConfig(shard_rows=2, max_reject_fraction=1.0)
    inputs = list_inputs(config)
    check_corpus(inputs, config, settings)
    worker = ingest.IngestWorker(store, config, settings)
    receipts = [one for unit in ingest.plan_ingest(inputs, config, settings) for one in worker(unit)]
    found: list[Any] = []
    for one in receipts:
        found += read_parquet(store, f"documents/{one.key[:2]}/{one.key}.parquet", ["parquet_vector"])[0].to_pylist()
    return found


def write(path: Path, vectors: Any, kind: pa.DataType | None = None, **more: Any) -> Path:
    column = pa.array(vectors, kind or pa.list_(pa.float32()))
    pq.write_table(pa.table({"emb": column, **more}), path, row_group_size=4)
    return path


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float16()), pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.int64())]
)
def test_each_document_gets_the_vector_of_its_row(
    tmp_path: Path, store: Store, corpus: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType
) -> None:
    monkeypatch.setattr(vectors_parquet, "_BATCH_ROWS", 3)
    matrix: Any = np.array(MATRIX, np.float16) if pa.types.is_float16(kind.value_type) else MATRIX
    rows = [row if "int" not in str(kind) else list(map(int, row)) for row in matrix]
    path = write(tmp_path / "v.parquet", list(rows), kind)
    expected = [row for row, text in zip(MATRIX, TEXTS, strict=True) if text]
    assert stored(store, corpus, path) == expected
    assert stored(Store(str(tmp_path / "w2")), corpus, path, where="text = 'four'") == [MATRIX[4]]


def test_rows_are_found_from_anywhere_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors_parquet, "_BATCH_ROWS", 3)
    held = vector_file(str(write(tmp_path / "v.parquet", [[float(i)] for i in range(20)])))
    assert len(held) == 20
    file: Any = None
    for places in ([17, 19], [0, 1, 18], [5], [], [4, 5, 6, 7, 8]):
        assert held.rows(np.array(places, np.int64), file=file).to_pylist() == [[float(place)] for place in places]


def test_a_row_without_a_vector_is_null(tmp_path: Path, store: Store, corpus: Path) -> None:
    path = write(tmp_path / "v.parquet", [*MATRIX[:2], None, *MATRIX[3:]])
    assert stored(store, corpus, path)[1] is None


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (list("abcdef"), None),
        (list("abdcef"), r"row 2 of .*rows\.parquet has the id 'c', and the vector of that row .* 'd'"),
        (list("abccef"), "row 3"),
        (list("xbcdef"), "row 0"),
    ],
)
def test_vectors_that_know_the_ids_must_be_in_the_order_of_the_rows(
    tmp_path: Path, store: Store, corpus: Path, ids: list[str], said: str | None
) -> None:
    path = write(tmp_path / "v.parquet", MATRIX, id=ids)
    if said is None:
        assert len(stored(store, corpus, path, id="id")) == 5
        return
    with pytest.raises(CorpusError, match=said):
        stored(store, corpus, path, id="id")


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_each_table_may_have_its_own_file_of_vectors(tmp_path: Path, store: Store, kind: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for number, count in (("a", 3), ("b", 2)):
        rows = [[float(ord(number)), float(row)] for row in range(count)]
        pq.write_table(
            pa.table({"text": [f"{number}{row}" for row in range(count)]}), tmp_path / "in" / f"{number}.parquet"
        )
        if kind == "npy":
            np.save(tmp_path / "in" / f"{number}.npy", np.array(rows))
        else:
            write(tmp_path / "out" / f"{number}.parquet", rows)
    vectors = "{folder}/{name}.npy" if kind == "npy" else str(tmp_path / "out" / "{name}.parquet")
    config = CorpusConfig(sources=(str(tmp_path / "in"),), text="text", vectors=vectors)
    column = str(config.vectors_column())
    settings = IngestConfig(shard_rows=2, fingerprint="content")

    def keys_and_vectors() -> tuple[list[str], list[Any]]:
        inputs = list_inputs(config)
        check_corpus(inputs, config, settings)
        units = ingest.plan_ingest(inputs, config, settings)
        worker = ingest.IngestWorker(store, config, settings)
        receipts = [one for unit in units for one in worker(unit)]
        names = [f"documents/{one.key[:2]}/{one.key}.parquet" for one in receipts]
        found = [row for name in names for row in read_parquet(store, name, [column])[0].to_pylist()]
        return [unit.key for unit in units], found

    keys, found = keys_and_vectors()
    assert found == [[97.0, 0.0], [97.0, 1.0], [97.0, 2.0], [98.0, 0.0], [98.0, 1.0]]
    assert keys_and_vectors()[0] == keys
    # Other vectors make other shards; too few are refused, and so is a table without any.
    path = tmp_path / ("in/b.npy" if kind == "npy" else "out/b.parquet")
    np.save(path, np.ones((2, 2))) if kind == "npy" else write(path, [[1.0, 1.0]] * 2)
    changed, found = keys_and_vectors()
    assert changed != keys
    assert found[3:] == [[1.0, 1.0]] * 2
    np.save(path, np.ones((1, 2))) if kind == "npy" else write(path, [[1.0, 1.0]])
    with pytest.raises(CorpusError, match=r"b\.parquet has 2 rows, and .*/b\..* has 1 vectors"):
        keys_and_vectors()
    path.unlink()
    with pytest.raises(CorpusError, match="there is no file of vectors"):
        keys_and_vectors()


def test_integers_of_any_size_are_vectors(tmp_path: Path) -> None:
    path = write(tmp_path / "v.parquet", [[2**53 + 1, 1], None], pa.list_(pa.int64()))
    file: Any = None
    assert vector_file(str(path)).rows(np.arange(2), file=file).to_pylist() == [[2.0**53, 1.0], None]


def test_a_wrong_vector_is_named_by_its_row_where_others_are_left_out(tmp_path: Path, store: Store) -> None:
    corpus = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"id": list("abcdef"), "text": list("abcdef")}), corpus)
    path = write(tmp_path / "v.parquet", [*MATRIX[:4], [1.0, float("nan")], MATRIX[5]])
    with pytest.raises(CorpusError, match="NaN") as caught:
        stored(store, corpus, path, where="id <> 'c'")
    assert caught.value.where == f"rows.parquet, vectors of {path}, row 4, column parquet_vector"


def test_vectors_that_do_not_match_the_table_are_refused(tmp_path: Path, store: Store, corpus: Path) -> None:
    path = tmp_path / "v.parquet"
    with pytest.raises(CorpusError, match="there is no file of vectors"):
        stored(store, corpus, path)
    path.write_bytes(b"PAR1 and nothing")
    with pytest.raises(CorpusError, match="is no file of parquet"):
        stored(store, corpus, path)
    for count in (5, 7):
        write(path, [[1.0, 2.0]] * count)
        with pytest.raises(CorpusError, match=rf"v\.parquet has {count} vectors"):
            stored(store, corpus, path)
    write(path, MATRIX, other=pa.array(MATRIX))
    with pytest.raises(CorpusError, match="the columns emb, other with vectors"):
        stored(store, corpus, path)
    pq.write_table(pa.table({"emb": [1.0] * 6}), path)
    with pytest.raises(CorpusError, match="no column of lists of numbers"):
        stored(store, corpus, path)
    write(path, [*MATRIX[:5], [1.0]])
    with pytest.raises(CorpusError, match="a vector of 1 numbers"):
        stored(store, corpus, path)
    write(path, [*MATRIX[:5], [1.0, float("nan")]])
    with pytest.raises(CorpusError, match="NaN"):
        stored(store, corpus, path)
    with pytest.raises(CorpusError, match="not on this machine"):
        vector_file("s3://bucket/v.parquet")
