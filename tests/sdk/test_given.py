"""Data of a Python program as a corpus: lists, frames, vectors, and frames that grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import latentscale as ls
from latentscale.errors import ConfigError, CorpusError, RequestError, ResourceError, WorkspaceError
from latentscale.pipeline.python_corpus import InputDocuments
from latentscale.readers.python_data import as_vectors

FAST: dict[str, Any] = {"project": {"n_epochs": 10}, "publish": {"viewer": False}, "progress": "quiet"}


@pytest.fixture(scope="module")
def frame(demo: pl.DataFrame) -> pl.DataFrame:
    return demo.select("package", "section", "text").sort("package").head(160)


def packages(m: ls.Map) -> list[str]:
    return m.points().select("package").collect()["package"].sort().to_list()


def positions(m: ls.Map, key: str = "package") -> dict[Any, tuple[int, float, float]]:
    points = m.points().select("row_id", "x", "y", pl.col(key).alias("key")).collect()
    return {row[3]: row[:3] for row in points.iter_rows()}


# ------------------------------------------------------------------------------------------- what a list of strings is


def test_a_list_of_strings_is_texts_unless_they_are_files(tmp_path: Path, frame: pl.DataFrame) -> None:
    texts = frame["text"].head(40).to_list()
    m = ls.run(texts, tmp_path / "a", **FAST)
    assert m.documents().collect().sort("row_id")["text"].to_list() == texts
    files = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    for start, path in enumerate(files):
        frame.slice(start * 20, 20).write_csv(path)
    assert ls.run(files, tmp_path / "b", text="text", **FAST).record.counts["documents"] == 40


def test_a_list_of_some_files_and_some_texts_is_refused_and_texts_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    mixed = ["notes", "a text", "another one"]
    with pytest.raises(RequestError, match="1 of these 3 strings name files, such as 'notes'"):
        ls.run(mixed, "out")
    # A missing file is no text.
    with pytest.raises(CorpusError, match=r"there is no nofile\.csv"):
        ls.run(["nofile.csv"], "out")
    assert not (tmp_path / "out").exists()
    assert ls.run(texts=mixed, out="out", **FAST).record.counts["documents"] == 3


@pytest.mark.parametrize("make", [pd.Series, pl.Series, np.array, iter, pa.array], ids=lambda make: make.__name__)
def test_a_column_and_an_iterator_of_texts_are_a_corpus(
    tmp_path: Path, frame: pl.DataFrame, make: Callable[[Any], Any]
) -> None:
    texts = frame["text"].head(6).to_list()
    workspace = ls.Workspace(tmp_path / "a")
    assert workspace.ingest(make(texts)).documents == 6


def test_the_named_index_of_a_pandas_frame_is_a_column(tmp_path: Path, frame: pl.DataFrame) -> None:
    workspace = ls.Workspace(tmp_path / "a")
    indexed = frame.head(6).to_pandas().set_index("package")
    assert workspace.ingest(indexed, text="text", id="package").documents == 6
    # One without a name is only what a filter left of the row numbers.
    other = ls.Workspace(tmp_path / "b")
    other.ingest(frame.head(6).to_pandas().iloc[[1, 4]], text="text")
    read = pl.read_parquet(next((tmp_path / "b" / "uploads").iterdir()))
    assert read.columns == frame.columns


def test_a_text_that_is_missing_is_a_reject(tmp_path: Path, frame: pl.DataFrame) -> None:
    texts = [*frame["text"].head(9), "half a pair \ud83d", None, float("nan")]
    workspace = ls.Workspace(tmp_path / "a")
    settings = {"max_reject_fraction": 0.5}
    values = workspace.job_values(InputDocuments(source=None, texts=texts), {"ingest": settings}, corpus_settings={})
    assert workspace.run(values, until="ingest").rejects == {"null_text": 2}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"texts": "one text"}, "texts is of type str"),
        ({"texts": ["a", 1]}, "text 1 is of type int"),
        ({"texts": []}, "holds nothing"),
        ({}, "no corpus was given"),
        ({"corpus": ["a text"], "texts": ["a text"]}, "a corpus and texts= were given"),
        ({"corpus": 5}, "no corpus"),
    ],
)
def test_other_objects_than_a_corpus_are_refused(tmp_path: Path, call: dict[str, Any], words: str) -> None:
    corpus = call.pop("corpus", None)
    with pytest.raises(RequestError, match=words):
        ls.run(corpus, tmp_path / "a", **call)
    assert not (tmp_path / "a").exists()


def test_wrong_settings_are_refused_before_data_is_written(tmp_path: Path, frame: pl.DataFrame) -> None:
    out = tmp_path / "a"
    with pytest.raises(RequestError, match="workspace of the map is not named"):
        ls.run(frame, text="text")
    with pytest.raises(ConfigError, match="there is no setting 'clutser'"):
        ls.run(frame, out, text="text", clutser={"method": "kmeans"})  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigError, match="where is given twice"):
        ls.run(frame, out, text="text", where="a = 1", corpus={"where": "a = 2"})
    with pytest.raises(ConfigError, match="'none', not one of auto"):
        ls.run(frame, out, text="text", progress="none")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="cluster is a group of settings"):
        ls.run(frame, out, text="text", cluster=5)  # pyright: ignore[reportArgumentType]
    assert not out.exists()


def test_selection_title_and_models_of_settings(tmp_path: Path, frame: pl.DataFrame) -> None:
    m = ls.run(
        frame,
        tmp_path / "a",
        text="text",
        id="package",
        where="section != 'admin'",
        limit=50,
        title="Packages",
        project=ls.ProjectConfig(n_epochs=10),
        publish={"viewer": False},
        progress="quiet",
    )
    left = frame.filter(pl.col("section") != "admin").head(50)
    assert packages(m) == left["package"].sort().to_list()
    assert m.record.request["publish"]["title"] == "Packages"


# ------------------------------------------------------------------------------------------------------------- vectors


def test_vectors_given_with_a_list_of_texts_are_those_of_the_map(tmp_path: Path, frame: pl.DataFrame) -> None:
    texts = frame["text"].head(60).to_list()
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 8))
    vectors[7] = 0
    m = ls.run(texts, tmp_path / "a", vectors=vectors, ingest={"max_reject_fraction": 0.1}, **FAST)
    held = m.vectors()
    expected = np.delete(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), 7, axis=0)
    assert np.abs(held.matrix - expected).max() < 2e-3
    assert m.rejects()["source_row"].to_list() == [7]
    # A vector finds its own document; several vectors give several lists.
    hits = m.search(vectors[3], k=3)
    assert (hits[0].row_id, hits[0].text) == (3, texts[3])
    assert [found[0].row_id for found in m.search([vectors[3].tolist(), vectors[4].tolist()], k=2)] == [3, 4]
    for query, words in [
        (vectors[0][:5], "5 numbers"),
        (np.zeros(8), "zeros"),
        ([[1.0], "x"], "no query"),
        (None, "no query"),
        ("whale", "came with the corpus"),
    ]:
        with pytest.raises(RequestError, match=words):
            m.search(query)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_vectors_may_be_a_column(tmp_path: Path, frame: pl.DataFrame) -> None:
    few = frame.head(30).with_columns(vec=pl.Series(np.random.default_rng(2).normal(size=(30, 5)).tolist()))
    m = ls.run(few, tmp_path / "a", text="text", vectors="vec", **FAST)
    assert m.vectors().matrix.shape == (30, 5)


def batches(frame: pl.DataFrame) -> Iterator[pa.Table]:
    for start in range(0, len(frame), 7):
        yield frame.slice(start, 7).to_arrow()


class Streamed:
    """An object with Arrow's stream interface alone, as DuckDB's relations."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._table = frame.to_arrow()

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


def batch_list(frame: pl.DataFrame) -> list[pa.RecordBatch]:
    return frame.to_arrow().to_batches(max_chunksize=7)


@pytest.mark.parametrize(
    "make",
    [pl.DataFrame.to_pandas, pl.DataFrame.to_arrow, pl.DataFrame.to_dicts, batches, batch_list, Streamed],
)
def test_vectors_stay_with_their_rows_in_every_kind_of_data(
    tmp_path: Path, frame: pl.DataFrame, make: Callable[[pl.DataFrame], Any]
) -> None:
    few = frame.head(20)
    vectors = np.eye(20, 12, dtype=np.float32) + 0.5
    workspace = ls.Workspace(tmp_path / "a")
    corpus = make(few)
    values = workspace.job_values(InputDocuments(source=corpus, vectors=vectors), {}, corpus_settings={"text": "text"})
    outcome = workspace.run(values, until="embed")
    assert outcome.snapshot is not None
    from latentscale.storage.vectors import load_vectors

    held = load_vectors(workspace.store, outcome.snapshot, outcome.records["embed"].id)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(held.matrix - expected).max() < 2e-3


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.ones((3, 2)), "20 documents and 3 vectors"),
        (np.ones(20), "the shape"),
        (np.full((20, 2), np.nan), "row 0 holds NaN"),
        (np.full((20, 2), 1e300), "row 0 holds NaN"),
        (np.full((20, 2), "x"), "the type"),
        (np.ma.masked_array(np.ones((20, 2)), mask=np.eye(20, 2)), "row 0 holds masked values"),
        (["x"] * 20, "the shape"),
        ([[1.0, 2.0]] * 3 + [["x", 1.0]] * 17, "the type"),
        ([[1.0], "x"], "vectors:"),
        ([None] * 20, "the shape"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tmp_path: Path, frame: pl.DataFrame, vectors: Any, words: str) -> None:
    few = frame.head(20)
    for data in (few, few.to_dicts(), iter(few.to_dicts()), few["text"].to_list()):
        text = None if isinstance(data, list) and isinstance(data[0], str) else "text"
        with pytest.raises(RequestError, match=words if "20 doc" not in words else "vectors"):
            ls.run(data, tmp_path / "a", text=text, vectors=vectors)
    with pytest.raises(RequestError, match="int is no corpus"):
        ls.run(7, tmp_path / "a", vectors=np.ones((1, 2)))
    with pytest.raises(RequestError, match="the corpus is files"):
        ls.run(str(tmp_path), tmp_path / "a", vectors=np.ones((1, 2)))
    with pytest.raises(ConfigError, match="model is given twice"):
        ls.run(few, tmp_path / "a", text="text", vectors=np.ones((20, 2)), embed={"model": "static"})
    assert not (tmp_path / "a").exists()


def columns_of_lists() -> Iterator[tuple[str, Any]]:
    rows = [[1.0, float(number)] for number in range(20)]
    rows_or_none = [None, *rows[1:]]
    matrix = np.array(rows, np.float32)
    yield "polars lists", pl.Series(rows_or_none)
    yield "polars arrays", pl.Series(rows_or_none, dtype=pl.Array(pl.Float64, 2))
    yield "pandas arrays", pd.Series([None, *matrix[1:]])
    yield "arrow", pa.array(rows_or_none)
    yield "arrow chunks", pa.chunked_array([pa.array(rows_or_none[:3]), pa.array(rows_or_none[3:])])
    yield "fixed size", pa.array(rows_or_none, pa.list_(pa.float16(), 2))
    tensors: Any = pa.FixedShapeTensorArray.from_numpy_ndarray(matrix)
    yield "arrow tensors", tensors
    objects = np.empty(20, object)
    objects[:] = rows_or_none
    yield "objects", objects
    yield "lists", rows_or_none


@pytest.mark.parametrize(("kind", "column"), list(columns_of_lists()), ids=[name for name, _ in columns_of_lists()])
def test_a_column_of_lists_is_read_as_vectors(kind: str, column: Any) -> None:
    expected = np.array([[1.0, float(number)] for number in range(20)], np.float32)
    if kind != "arrow tensors":
        expected[0] = 0
    np.testing.assert_array_equal(as_vectors(column), expected)


def test_a_list_of_another_length_is_named_by_its_row() -> None:
    for column in ([[1.0, 2.0], [1.0]], pl.Series([[1.0, 2.0], [1.0]]), np.array([[1.0, 2.0], [1.0]], object)):
        with pytest.raises(CorpusError, match="a vector of 1 numbers among vectors of 2") as caught:
            as_vectors(column)
        assert caught.value.where == "row 1, column vectors"


def test_tensors_are_read_as_vectors_and_queries(tmp_path: Path, frame: pl.DataFrame) -> None:
    torch: Any = pytest.importorskip("torch")
    matrix = torch.eye(20, 4) + 0.5
    for tensor in (matrix.requires_grad_(), matrix.to(torch.bfloat16), matrix.detach().to(torch.float64)):
        np.testing.assert_array_equal(as_vectors(tensor), matrix.detach().numpy())
    np.testing.assert_array_equal(as_vectors(list(matrix)), matrix.detach().numpy())
    m = ls.run(frame.head(20), tmp_path / "a", text="text", vectors=matrix, **FAST)
    assert m.search(matrix[3], k=1)[0].row_id == 3


def test_vectors_too_wide_for_the_memory_are_refused_before_the_layout(tmp_path: Path, frame: pl.DataFrame) -> None:
    # Their covariance alone would have 2 TB.
    with pytest.raises(ResourceError, match="stage project: 3 documents of 200000 dimensions need about"):
        ls.run(frame.head(3), tmp_path / "a", text="text", vectors=np.eye(3, 200_000), **FAST)


def test_errors_name_the_data_and_not_the_object_that_holds_it(tmp_path: Path, frame: pl.DataFrame) -> None:
    out = tmp_path / "my maps"
    with pytest.raises(RequestError) as refused:
        ls.run(frame, out=out, text="txt", progress="quiet")
    assert refused.value.message.startswith("the data has no column 'txt'")
    assert refused.value.where == "the data"
    lists = frame.with_columns(pl.Series("v", [[1.0, 2.0]] * (len(frame) - 1) + [[1.0]]))
    with pytest.raises(CorpusError) as refused:
        ls.run(lists, out=out, vectors="v", progress="quiet")
    assert refused.value.where == f"the data, row {len(frame) - 1}, column v"
    assert "uploads" not in str(refused.value)


def test_vectors_of_another_width_grow_no_map_and_the_widths_are_said(tmp_path: Path, frame: pl.DataFrame) -> None:
    random = np.random.default_rng(0)
    m = ls.run(frame.head(20), tmp_path / "a", text="text", vectors=random.normal(size=(20, 8)), **FAST)
    workspace = ls.open(tmp_path / "a")
    for _ in range(2):  # also where the shard is known already
        with pytest.raises(CorpusError, match="another width than those of the map, 8: 5 in ") as caught:
            workspace.update(frame.slice(20, 10), vectors=random.normal(size=(10, 5)))
        assert "model that it was made with" in str(caught.value.hint)
    assert workspace.current.id == m.id
    assert workspace.verify().faults == []
    assert len(workspace.update(frame.slice(20, 10), vectors=random.normal(size=(10, 8))).points().collect()) == 30


# ---------------------------------------------------------------------------------------------------- frames that grow


def test_a_frame_grows_by_its_ids(tmp_path: Path, frame: pl.DataFrame) -> None:
    first, rest = frame.head(120), frame.slice(120)
    m = ls.run(first, tmp_path / "a", text="text", id="package", **FAST)
    workspace = ls.open(tmp_path / "a")
    before = positions(m)
    # Another frame is another corpus, and the error says what to call.
    with pytest.raises(WorkspaceError, match="holds other documents already") as refused:
        ls.run(rest, tmp_path / "a", text="text", id="package")
    assert ".update(data)" in str(refused.value.hint)
    assert len(workspace.store.list("uploads")) == 1
    changed = first.head(1).with_columns(text=pl.lit("an entirely different description of a chess program"))
    grown = workspace.update(pl.concat([rest, changed]).to_pandas())
    after = positions(grown)
    assert sorted(after) == frame["package"].sort().to_list()
    name = changed["package"][0]
    assert after[name][0] == before[name][0]
    assert all(after[key] == value for key, value in before.items() if key != name)
    assert grown.documents().filter(pl.col("package") == name).collect()["text"][0] == changed["text"][0]
    # What was added is part of the corpus from then on.
    assert workspace.update().id == grown.id
    kept = workspace.update(frame.slice(10), complete=True)
    assert packages(kept) == frame.slice(10)["package"].sort().to_list()
    assert all(value == after[key] for key, value in positions(kept).items() if key != name)
    with pytest.raises(CorpusError, match="max_removed_fraction"):
        workspace.update(frame.slice(100, 10), complete=True)
    assert workspace.the_map().id == kept.id
    assert workspace.verify().faults == []


def test_without_ids_a_text_is_a_document_once(
    tmp_path: Path, frame: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = frame["text"].unique(maintain_order=True)
    m = ls.run(texts.head(80).to_list(), tmp_path / "a", **FAST)
    workspace = ls.open(tmp_path / "a")
    before = positions(m, "row_id")
    # The list that has grown, as a person has it: what the map has already stays what it is.
    grown = workspace.update(texts.head(100).to_list(), progress="json")
    assert "80 rows have a text that is on the map already" in capsys.readouterr().err
    assert sorted(grown.documents().collect()["text"]) == sorted(texts.head(100))
    after = positions(grown, "row_id")
    assert all(after[key] == value for key, value in before.items())
    assert workspace.update(texts=texts.head(100)).id == grown.id
    kept = workspace.update(texts.slice(5, 95).to_list(), complete=True)
    assert sorted(kept.documents().collect()["text"]) == sorted(texts.slice(5, 95))
    assert set(positions(kept, "row_id")) == set(after) - set(range(5))
    with pytest.raises(RequestError, match="goes with documents"):
        workspace.update(complete=True)
    with pytest.raises(RequestError, match="would need another space"):
        workspace.update(["a text"], vectors=np.ones((1, 3)))


def test_mappings_and_vectors_grow_too(tmp_path: Path, frame: pl.DataFrame) -> None:
    rows = frame.select("package", "text").unique("text", maintain_order=True).head(70).to_dicts()
    vectors = np.random.default_rng(1).normal(size=(70, 6))
    ls.run(rows[:60], tmp_path / "a", text="text", vectors=vectors[:60], **FAST)
    workspace = ls.open(tmp_path / "a")
    grown = workspace.update(rows[55:], vectors=vectors[55:])
    assert packages(grown) == sorted(row["package"] for row in rows)
    hit = grown.search(vectors[65], k=1)[0]
    assert hit.text == rows[65]["text"]


# ------------------------------------------------------------------------------------------- ids that follow contents


def test_the_same_corpus_has_the_same_ids_wherever_and_whenever_it_is_read(tmp_path: Path, frame: pl.DataFrame) -> None:
    ids: dict[str, set[str]] = {"frame": set(), "file": set()}
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        frame.head(50).write_csv(folder / "corpus.csv")
        ids["frame"].add(ls.run(frame.head(50), folder / f"frame-{name}", text="text", **FAST).id)
        ids["file"].add(ls.run(folder / "corpus.csv", folder / f"file-{name}", text="text", **FAST).id)
    assert {key: len(found) for key, found in ids.items()} == {"frame": 1, "file": 1}
    workspace = ls.open(tmp_path / "one" / "file-one")
    assert workspace.runs[-1]["job"]["ingest"]["fingerprint"] == "content"
    # A file that is copied, or touched, is the same; one that holds other bytes is not.
    (tmp_path / "one" / "corpus.csv").touch()
    assert workspace.update().id in ids["file"]
    frame.head(52).write_csv(tmp_path / "one" / "corpus.csv")
    assert workspace.update().record.counts["documents"] == 52


def test_a_workspace_keeps_the_fingerprint_that_it_began_with(tmp_path: Path, frame: pl.DataFrame) -> None:
    path = tmp_path / "corpus.parquet"
    frame.head(50).write_parquet(path)
    first = ls.run(path, tmp_path / "a", text="text", ingest={"fingerprint": "stat"}, **FAST)
    assert ls.run(path, tmp_path / "a", text="text", **FAST).id == first.id
    assert ls.open(tmp_path / "a").runs[-1]["job"]["ingest"]["fingerprint"] == "stat"
