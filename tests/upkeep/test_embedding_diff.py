"""Two embeddings of the same documents are compared: against brute force, between snapshots, and between widths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale
from latentscale.cli.main import app
from latentscale.errors import WorkspaceError
from latentscale.explore import embedding_diff
from latentscale.explore.embedding_diff import Side, compare_embeddings
from latentscale.storage.snapshots import make_snapshot
from latentscale.storage.vectors import load_vectors

WORDS = ("river", "boat", "castle", "garden", "train", "library", "kernel", "music", "violin", "sugar", "metal", "rain")


def texts(n: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, 6)) + f" {i}" for i in range(n)]


def embed(workspace: latentscale.Workspace, corpus: Path, **settings: Any) -> tuple[str, Any]:
    values = {
        "out": workspace.url,
        "corpus": {"sources": [str(corpus)], "text": "text"},
        "ingest": {"shard_rows": 70},
        "embed": {"dtype": "float32", **settings},
        "engine": {"name": "local", "workers": 1},
    }
    outcome = workspace.run(values, until="embed", progress="quiet")
    return outcome.records["embed"].id, outcome.snapshot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("diff")
    rows = texts(300)
    rows[5] = ""
    rows[6] = "𐎀𐎁 𐎂"
    pl.DataFrame({"text": [*rows, "river boat castle"]}).write_parquet(folder / "corpus.parquet")
    workspace = latentscale.open(folder / "ws", must_exist=False)
    whole, snapshot = embed(workspace, folder / "corpus.parquet")
    cut, again = embed(workspace, folder / "corpus.parquet", max_tokens=3)
    assert again.id == snapshot.id
    return workspace, whole, cut, snapshot, folder / "corpus.parquet"


def brute_force(workspace: Any, snapshot: Any, first: str, second: str, k: int) -> tuple[Any, Any]:
    one, two = (np.array(load_vectors(workspace.store, snapshot, name).matrix) for name in (first, second))
    cosines = np.einsum("ij,ij->i", one, two) if one.shape == two.shape else None
    near = []
    for matrix in (one, two):
        similar = matrix @ matrix.T
        np.fill_diagonal(similar, -np.inf)
        near.append(similar)
    best = np.argsort(-near[0], axis=1)[:, :k]
    last = -np.sort(-near[1], axis=1)[:, k - 1]
    return cosines, (np.take_along_axis(near[1], best, axis=1) >= last[:, None] - 1e-4).mean(axis=1)


def test_the_figures_are_those_of_brute_force(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, whole, cut, snapshot, _ = made
    monkeypatch.setattr(embedding_diff, "_CHUNK", 32)
    facts = workspace.diff(whole, cut)["vectors"]
    cosines, kept = brute_force(workspace, snapshot, whole, cut, 15)
    assert (facts["documents"], facts["only_first"], facts["only_second"]) == (len(cosines), 0, 0)
    assert facts["dimensions"] == [256, 256]
    assert facts["cosine"]["mean"] == pytest.approx(cosines.mean(), abs=1e-5)
    assert facts["cosine"]["least"] == pytest.approx(cosines.min(), abs=1e-4)
    assert facts["cosine"]["q50"] == pytest.approx(np.quantile(cosines, 0.5), abs=2e-3)
    assert facts["neighbours"]["sample"] == len(kept)
    assert facts["neighbours"]["kept"] == pytest.approx(kept.mean(), abs=1e-4)
    assert 0 < facts["neighbours"]["kept"] < 0.9
    assert [one["cosine"] for one in facts["moved"]] == pytest.approx(np.sort(cosines)[:20], abs=1e-4)
    assert all(one["text"] for one in facts["moved"])


def test_figures_of_a_sample_are_close_to_those_of_all_documents(made: Any) -> None:
    workspace, whole, cut, snapshot, _ = made
    sides = [Side(snapshot=snapshot, embedding=name) for name in (whole, cut)]
    every = compare_embeddings(workspace.store, *sides)["neighbours"]
    some = compare_embeddings(workspace.store, *sides, sample=150)["neighbours"]
    assert (every["sample"], some["sample"]) == (299, 150)
    assert some["kept"] == pytest.approx(every["kept"], abs=0.06)
    assert some == compare_embeddings(workspace.store, *sides, sample=150)["neighbours"]


def test_an_embedding_agrees_with_itself_even_where_texts_are_copies(made: Any) -> None:
    workspace, whole, _, snapshot, _ = made
    side = Side(snapshot=snapshot, embedding=whole)
    facts = compare_embeddings(workspace.store, side, side)
    assert facts["neighbours"]["kept"] == 1.0
    assert facts["cosine"]["least"] == pytest.approx(1.0, abs=1e-4)
    assert workspace.diff(whole, whole)["vectors"] is None


def test_embeddings_of_two_widths_are_compared_by_their_neighbours(made: Any, tmp_path: Path) -> None:
    workspace, whole, _, snapshot, corpus = made
    other, _ = embed(workspace, corpus, model=str(narrow(tmp_path)))
    facts = workspace.diff(whole, other)["vectors"]
    assert facts["dimensions"] == [256, 8]
    assert facts["cosine"] is None
    _, kept = brute_force(workspace, snapshot, whole, other, 15)
    assert facts["neighbours"]["kept"] == pytest.approx(kept.mean(), abs=1e-4)
    assert [one["kept"] for one in facts["moved"]] == sorted(one["kept"] for one in facts["moved"])


def narrow(folder: Path) -> Path:
    """The shipped model with the first eight of its dimensions."""
    from safetensors.numpy import load_file, save_file

    from latentscale.models import static_model_path

    for name in ("tokenizer.json", "config.json"):
        (folder / name).write_bytes((static_model_path() / name).read_bytes())
    table = load_file(static_model_path() / "model.safetensors")["embeddings"]
    save_file({"embeddings": np.ascontiguousarray(table[:, :8])}, folder / "model.safetensors")
    return folder


def test_snapshots_that_share_documents_are_compared_by_those(tmp_path: Path) -> None:
    # 300 documents, then 200 of them in other shards and a new one.
    frame = pl.DataFrame({"id": [str(i) for i in range(300)], "text": texts(300)})
    later = pl.concat([frame.head(200).reverse(), pl.DataFrame({"id": ["n"], "text": ["a new document"]})])
    (tmp_path / "in").mkdir()
    frame.write_parquet(tmp_path / "in" / "a.parquet")
    values = {
        "out": str(tmp_path / "ws"),
        "corpus": {"sources": [str(tmp_path / "in")], "text": "text", "id": "id"},
        "ingest": {"shard_rows": 70},
        "engine": {"name": "local", "workers": 1},
    }
    other = latentscale.open(values["out"], must_exist=False)
    first = other.run(values, until="embed", progress="quiet")
    later.write_parquet(tmp_path / "in" / "a.parquet")
    second = other.run({**values, "embed": {"max_tokens": 3}}, until="embed", progress="quiet")
    # As a run lists them where the current map is of the first: what it still has keeps its row id.
    shards = second.snapshot.shards
    listed = pl.DataFrame({"key": shards.keys, "rows": shards.rows, "bytes": shards.bytes})
    grown = make_snapshot(other.store, listed, id_column="id", text_column="text", parent=first.snapshot)
    sides = [
        Side(snapshot=first.snapshot, embedding=first.records["embed"].id),
        Side(snapshot=grown, embedding=second.records["embed"].id),
    ]
    facts = compare_embeddings(other.store, *sides)
    assert (facts["documents"], facts["only_first"], facts["only_second"]) == (200, 100, 1)
    turned = compare_embeddings(other.store, *reversed(sides))
    assert (turned["documents"], turned["only_first"], turned["only_second"]) == (200, 1, 100)
    assert turned["cosine"] == facts["cosine"]
    assert {one["row_id"] for one in turned["moved"]} == {one["row_id"] for one in facts["moved"]}


def test_embeddings_without_a_document_in_common_are_refused(made: Any, tmp_path: Path) -> None:
    workspace, whole, _, _, corpus = made
    pl.DataFrame({"text": ["𐎀𐎁 𐎂", "𐎄"]}).write_parquet(tmp_path / "none.parquet")
    empty = latentscale.open(tmp_path / "ws", must_exist=False)
    lonely, others = embed(empty, tmp_path / "none.parquet", max_unembeddable_fraction=1.0)
    sides = [Side(snapshot=others, embedding=lonely)] * 2
    with pytest.raises(WorkspaceError, match="no document has a vector in both"):
        compare_embeddings(empty.store, *sides)
    # An embedding that has only a part of the documents yet.
    part, _ = embed(workspace, corpus, max_tokens=7)
    next(path for path in (Path(workspace.url) / "embeddings" / part).rglob("*.parquet")).unlink()
    with pytest.raises(WorkspaceError, match="have all their vectors of both"):
        workspace.diff(whole, part)


def test_the_command_prints_the_figures_or_json(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    workspace, whole, cut, _, _ = made
    app(["diff", workspace.url, whole, cut], standalone_mode=False)
    said = capsys.readouterr().out
    for words in ("have a vector in both", "Cosine: mean", "Neighbours kept:", "moved most"):
        assert words in said
    app(["diff", workspace.url, whole, cut, "--json"], standalone_mode=False)
    facts = json.loads(capsys.readouterr().out)
    assert facts["vectors"]["neighbours"]["k"] == 15
    assert facts["settings"]["embedding.model.max_tokens"] == [512, 3]
    app(["diff", workspace.url, whole, cut, "--json", "--no-vectors"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["vectors"] is None
