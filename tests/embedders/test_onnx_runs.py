"""Runs with an ONNX model: int8 is compared with fp32 on the documents before a vector is written, and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale
from latentscale.engines import local
from latentscale.errors import ConfigError
from latentscale.stages.context import StageContext
from latentscale.stages.embed_check import sample_texts, shards_to_sample
from latentscale.storage.objects import Store
from tests.embedders.tiny_onnx import WORDS, expected, tiny_folder

pytest.importorskip("onnxruntime", reason="these tests run ONNX models")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS[4:14], 12)) for _ in range(120)]
    pl.DataFrame({"text": texts}).write_parquet(tmp_path / "texts.parquet")
    return tmp_path / "texts.parquet"


def job(corpus: Path, out: Path, model: Path, **options: Any) -> dict[str, Any]:
    return {
        "out": str(out),
        "corpus": {"sources": [str(corpus)], "text": "text"},
        "ingest": {"shard_rows": 30},
        "embed": {"model": str(model), "options": options, "dtype": "float32"},
        "engine": {"name": "local", "workers": 2},
    }


def embed(values: dict[str, Any]) -> Any:
    return latentscale.open(values["out"], must_exist=False).run(values, until="embed", progress="quiet")


@pytest.mark.parametrize("processes", [False, True])
def test_vectors_and_what_computed_them_are_in_the_workspace(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: bool
) -> None:
    if processes:
        monkeypatch.setattr(local, "PROCESS_SECONDS", 0.0)
    values = job(corpus, tmp_path / "ws", tiny_folder(tmp_path / "model"))
    outcome = embed(values)
    record = outcome.records["embed"]
    assert (record.counts["embedded"], record.counts["dim"]) == (120, 8)
    assert list(record.choices["work"]["devices"]) == ["cpu (CPUExecutionProvider)"]
    assert record.choices["spec"]["file"] == "onnx/model.onnx"
    assert "check" not in record.choices
    table = pl.read_parquet(sorted((tmp_path / "ws/embeddings").rglob("??/*.parquet")))
    texts = pl.read_parquet(sorted((tmp_path / "ws/documents").rglob("*.parquet")))["text"].to_list()
    by_name = {path.name: path for path in (tmp_path / "ws/documents").rglob("*.parquet")}
    assert len(by_name) == 4
    assert len(table) == len(texts) == 120
    name, path = next(iter(by_name.items()))
    vectors = pl.read_parquet(next((tmp_path / "ws/embeddings").rglob(name)))["vector"].to_numpy()
    np.testing.assert_allclose(vectors[0], expected(pl.read_parquet(path)["text"][0]), atol=1e-6)


def test_int8_is_checked_once_and_what_was_measured_is_recorded(corpus: Path, tmp_path: Path) -> None:
    values = job(corpus, tmp_path / "ws", tiny_folder(tmp_path / "model", int8=True), precision="int8")
    record = embed(values).records["embed"]
    check = record.choices["check"]
    assert check["rows"] == 120
    assert check["mean_cosine"] >= 0.99
    assert check["recall"] >= 0.95
    assert (check["forced"], check["provider"]) == (False, "CPUExecutionProvider")
    events = next((tmp_path / "ws/runs").rglob("events.jsonl")).read_text()
    assert "int8 against fp32 on 120 documents" in events
    again = embed(values)
    assert again.made == []
    assert again.records["embed"].choices["check"] == check


def test_int8_that_is_far_from_fp32_writes_no_vector_unless_it_is_forced(corpus: Path, tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "model", int8=True, noise=0.6)
    with pytest.raises(ConfigError, match="int8 is too far from fp32 for these documents"):
        embed(job(corpus, tmp_path / "ws", model, precision="int8"))
    assert list((tmp_path / "ws").glob("embeddings/**/*.parquet")) == []
    record = embed(job(corpus, tmp_path / "ws", model, precision="int8", force=True)).records["embed"]
    assert record.choices["check"]["forced"] is True
    assert record.counts["embedded"] == 120


def test_the_documents_of_a_check_come_from_several_shards(corpus: Path, tmp_path: Path) -> None:
    assert shards_to_sample(1) == [0]
    assert shards_to_sample(3) == [0, 1, 2]
    assert shards_to_sample(100) == [0, 33, 66, 99]
    values = job(corpus, tmp_path / "ws", tiny_folder(tmp_path / "model"))
    snapshot = latentscale.open(values["out"], must_exist=False).run(values, until="ingest", progress="quiet").snapshot
    store = Store(values["out"])
    shards = [snapshot.shards[at] for at in range(4)]
    texts = sample_texts(StageContext(store=store), "text", shards, 20)
    assert len(texts) == len(set(texts)) == 20
    tables = [set(pl.read_parquet(tmp_path / "ws" / shard.name)["text"]) for shard in shards]
    assert [sum(text in table for text in texts) for table in tables] == [5, 5, 5, 5]


def test_texts_are_said_to_be_cut_where_the_model_cuts_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pl.DataFrame({"text": [" ".join(rng.choice(WORDS[4:14], 60)) for _ in range(120)]}).write_parquet(
        tmp_path / "long.parquet"
    )
    values = job(tmp_path / "long.parquet", tmp_path / "ws", tiny_folder(tmp_path / "model"))
    made = latentscale.open(values["out"], must_exist=False)
    quality = made.published(made.run(values, progress="quiet")).quality
    # embed.max_tokens is 512, and the model takes 32.
    assert quality["truncated"] == 1.0
    assert any("100% of the texts were cut at 32 tokens" in flag for flag in quality["red_flags"])


def test_a_search_on_a_map_whose_model_is_gone_names_its_folder(corpus: Path, tmp_path: Path) -> None:
    values = job(corpus, tmp_path / "ws", tiny_folder(tmp_path / "model"))
    made = latentscale.open(values["out"], must_exist=False)
    found = made.published(made.run(values, progress="quiet"))
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=f"there is no model folder {tmp_path}/model") as caught:
        found.search("a word")
    assert "Put the model back there" in str(caught.value.hint)
