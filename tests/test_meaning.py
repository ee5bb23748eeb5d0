"""Semantic search on the page: results, reported recall, and models that are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.config import PublishConfig
from latentscale.embedders.static import StaticEmbedder
from latentscale.errors import ConfigError
from latentscale.stages.publish import publish_settings
from latentscale.stages.publish.page import generations
from latentscale.viewer.inverted_lists import inverted_lists
from latentscale.viewer.meaning import Meaning
from latentscale.viewer.meaning_files import TARGET_RECALL, meaning_section


@pytest.fixture(scope="module")
def vectors(demo: pl.DataFrame) -> np.ndarray:
    return StaticEmbedder().embed(demo["text"].to_list()).vectors


def test_the_reported_recall_is_that_of_the_files(vectors: np.ndarray) -> None:
    queries = StaticEmbedder().embed(["chess against the computer", "edit photos", "fonts for old scripts"] * 2).vectors
    n = len(vectors)
    files: dict[str, bytes] = {}
    positions = np.random.default_rng(2).permutation(n).astype(np.int64)
    section = meaning_section(Meaning(vectors=vectors, queries=queries), positions)
    entry = section.write(None, files.__setitem__)  # pyright: ignore[reportArgumentType]
    assert entry is not None
    assert (entry["documents"], entry["dim"], entry["queries"]) == (n, 256, 6)
    assert "tokens" not in entry
    read = {name: pq.read_table(io.BytesIO(content)) for name, content in files.items()}

    def signed(name: str) -> np.ndarray:
        return np.array([np.frombuffer(code, np.int8) for code in read[name]["code"].to_pylist()], np.float32)

    centroids = signed("centroids.parquet") * entry["centroid_step"]
    assert len(centroids) == entry["lists"] > entry["probes"]
    row_of = np.argsort(positions)
    found = 0
    for query in queries:
        near = np.argsort(-(centroids @ query))[: entry["probes"]]
        rows, scores = [], []
        for one in near:
            name = f"lists/{one}.parquet"
            if read[name].num_rows:
                rows.append(row_of[read[name]["place"].to_numpy()])
                scores.append(centroids[one] @ query + signed(name) @ query * entry["step"])
        best = np.concatenate(rows)[np.argsort(-np.concatenate(scores))[:10]]
        exact = vectors @ query
        found += int((exact[best] >= np.sort(exact)[-10] - 1e-6).sum())
        assert np.abs(np.concatenate(scores) - exact[np.concatenate(rows)]).max() < 0.05
    assert abs(found / 60 - entry["recall"]) < 0.02
    assert entry["recall"] >= TARGET_RECALL
    # Every document is in one list.
    places = np.concatenate([read[f"lists/{one}.parquet"]["place"].to_numpy() for one in range(entry["lists"])])
    assert np.array_equal(np.sort(places), np.arange(n))
    assert sum(len(content) for name, content in files.items() if name.startswith("lists/")) < 160 * n


def test_copies_and_few_documents_have_lists_too() -> None:
    one = np.zeros((300, 8), np.float32)
    one[:, 0] = 1
    for rows in (one, one[:1]):
        lists = inverted_lists(rows)
        (found,) = next(lists.nearest(rows[:1], k=10, widths=[len(lists.centroids)]))
        assert len(found) == min(10, len(rows))


def test_a_map_is_made_and_grows_to_be_searched_by_meaning(tmp_path: Path, demo: pl.DataFrame) -> None:
    documents = demo.sort("package").sample(460, seed=3, shuffle=True)
    (tmp_path / "corpus").mkdir()
    documents[:400].write_parquet(tmp_path / "corpus/a.parquet")
    settings = {"ingest": {"shard_rows": 200}, "cluster": {"min_cluster_size": 15}, "publish": {"semantic": True}}
    latentscale.run(str(tmp_path / "corpus"), out=tmp_path / "ws", progress="quiet", **settings)
    workspace = latentscale.open(tmp_path / "ws")
    documents[400:].write_parquet(tmp_path / "corpus/b.parquet")
    drift = {"added_share": 9, "removed_share": 9, "ood_share": 1, "noise_increase": 1, "cluster_growth": 99}
    workspace.update(update={"drift": drift})
    shown = workspace.current
    assert shown is not None
    entries = [
        json.loads(workspace.store.read_bytes(f"{one['url'].removeprefix('../')}index.json"))["sections"]["meaning"]
        for one in generations(shown.record)
    ]
    assert [entry["documents"] for entry in entries] == [400, 60]
    # The update has no tokens of its own: the model is that of the fit.
    assert ["tokens" in entry for entry in entries] == [True, False]
    assert entries[0]["recall"] >= 0.9


def test_another_embedder_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    table = tmp_path / "a.parquet"
    pl.DataFrame({"text": ["one", "two"], "v": [[1.0, 0.0], [0.0, 1.0]]}).write_parquet(table)
    with pytest.raises(ConfigError, match="only static models") as raised:
        latentscale.run(str(table), out=tmp_path / "ws", vectors="v", publish={"semantic": True}, progress="quiet")
    assert "latentscale search" in str(raised.value.hint)
    assert not (tmp_path / "ws/corpus").exists()


def test_maps_that_do_not_ask_for_it_keep_their_ids() -> None:
    assert "semantic" not in publish_settings(PublishConfig(), title=None)
    assert "semantic" not in publish_settings(PublishConfig(semantic=True, viewer=False), title=None)
    assert publish_settings(PublishConfig(semantic=True), title=None)["semantic"] is True


def test_an_update_says_that_it_keeps_what_the_fit_has(
    tmp_path: Path, demo: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    latentscale.run(demo.head(200), out=tmp_path / "ws", progress="quiet", project={"n_epochs": 10})
    workspace = latentscale.open(tmp_path / "ws")
    workspace.update(demo.slice(200, 10), progress="plain", publish={"semantic": True})
    assert "publish.semantic: an update keeps what the fit has" in capsys.readouterr().err
