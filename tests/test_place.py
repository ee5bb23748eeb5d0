"""Placing another corpus on a map: results equal those of an update, and the map does not change."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import latentscale
from latentscale.cli.main import main
from latentscale.errors import ConfigError, CorpusError, LatentScaleError, WorkspaceError
from latentscale.stages.update import overlay
from latentscale.upkeep.gc import find_garbage
from latentscale.upkeep.verify import verify_workspace
from tests.conftest import moved

SETTINGS = {"ingest": {"shard_rows": 100}, "cluster": {"min_cluster_size": 12}, "project": {"n_epochs": 60}}
PLACED = [
    *("x", "y", "cluster", "layer_1", "nearest_cluster", "probability", "density", "label"),
    *("neighbor_distance", "outlier_score", "section"),
]


@pytest.fixture(scope="module")
def map_and_corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A map of 700 documents, and a file of 250 others of which one has no text and two have the same."""
    root = tmp_path_factory.mktemp("place")
    sections = ["games", "perl", "science", "mail", "fonts", "electronics"]
    chosen = demo.filter(pl.col("section").is_in(sections)).sort("package").head(950)
    (root / "corpus").mkdir()
    chosen[:700].write_parquet(root / "corpus" / "a.parquet")
    latentscale.run(str(root / "corpus"), out=root / "ws", id="package", progress="quiet", **SETTINGS)
    text = pl.col("text")
    rows = pl.int_range(pl.len())
    others = chosen[700:].with_columns(
        pl.when(rows == 20).then(None).when(rows == 31).then(text.get(30)).otherwise(text).alias("text")
    )
    others.write_parquet(root / "others.parquet")
    return root


def files_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_corpus_is_placed_as_an_update_would_place_it(
    map_and_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(map_and_corpus, tmp_path / "copy", copy_function=shutil.copy2)
    moved(tmp_path / "copy" / "ws", map_and_corpus / "corpus", tmp_path / "copy" / "corpus")
    shutil.copy2(map_and_corpus / "others.parquet", tmp_path / "copy" / "corpus" / "b.parquet")
    grown = latentscale.open(tmp_path / "copy" / "ws").update()
    expected = grown.points().filter(~pl.col("fitted")).collect().sort("package")
    monkeypatch.setattr(overlay, "BLOCK_ROWS", 120)
    before = files_of(map_and_corpus / "ws")
    current = latentscale.open(map_and_corpus / "ws").current
    assert current is not None
    placed = current.place(map_and_corpus / "others.parquet", tmp_path / "placed")
    assert files_of(map_and_corpus / "ws") == before
    assert len(placed.record.parts) == 3  # blocks of whole shards, of 100, 100 and 50 rows
    points = placed.points().collect().sort("package")
    assert points["package"].to_list() == expected["package"].to_list()
    assert len(points) == placed.record.counts["documents"] == 249
    for name in PLACED:
        assert points[name].to_list() == expected[name].to_list(), name
    assert points["cluster"].max() > 0
    assert points["outlier_score"].n_unique() > 100
    assert placed.rejects().select("source", "source_row", "reason").rows() == [("others.parquet", 20, "null_text")]
    # What is there is what its record says, nothing of it is garbage, and the same call finds it.
    store = latentscale.open(tmp_path / "placed").store
    assert verify_workspace(store).faults == []
    assert find_garbage(store, grace=0).garbage == []
    assert current.place(map_and_corpus / "others.parquet", tmp_path / "placed").id == placed.id
    overlays = [
        latentscale.open(folder).status()["overlays"] for folder in (tmp_path / "placed", map_and_corpus / "ws")
    ]
    assert overlays == [1, None]
    # A corpus that grew: what was placed keeps its row id and its place.
    others = pl.read_parquet(map_and_corpus / "others.parquet")
    again = current.place(others[:100], tmp_path / "frames").points().collect()
    assert set(again["package"]) <= set(points["package"])
    both = again.join(points, on="package", suffix="_file")
    assert both["x"].to_list() == both["x_file"].to_list()


def test_a_map_of_three_dimensions_gives_heights_and_a_column_its_clusters(
    map_and_corpus: Path, tmp_path: Path
) -> None:
    workspace = latentscale.open(map_and_corpus / "ws")
    space = workspace.map(
        project={"map_dimensions": 3}, cluster={"method": "column", "column": "section"}, name="space"
    )
    others = pl.read_parquet(map_and_corpus / "others.parquet")[:40].with_columns(
        section=pl.when(pl.col("section") == "games").then(pl.lit("unheard-of")).otherwise("section")
    )
    points = space.place(others, tmp_path / "placed").points().collect()
    assert points["z"].is_finite().all()
    known = points.filter(pl.col("section") != "unheard-of")
    assert known["label"].to_list() == known["section"].to_list()
    assert (points.filter(pl.col("section") == "unheard-of")["cluster"] == -1).all()


@pytest.mark.parametrize("fitted", [1, 2, 3])
def test_documents_are_placed_on_a_map_of_a_few_documents(tmp_path: Path, demo: pl.DataFrame, fitted: int) -> None:
    whole = latentscale.run(demo[: fitted + 4], out=tmp_path / "whole", text="text", progress="quiet")
    small = latentscale.run(demo[:fitted], out=tmp_path / "ws", text="text", progress="quiet")
    placed = small.place(demo[fitted - 1 : fitted + 4], tmp_path / "placed", text="text")
    points = placed.points().collect()
    # The first is a copy of a fitted one, the others are like none.
    vectors = whole.vectors().matrix.astype(np.float64)
    nearest = np.sort(1 - vectors[fitted - 1 :] @ vectors[:fitted].T, axis=1)
    expected = nearest[:, : max(fitted - 1, 1)].mean(axis=1)
    np.testing.assert_allclose(points["neighbor_distance"], expected, atol=1e-3)
    assert (points["neighbor_distance"][1:] > 0.1).all()
    places = small.points().select("x", "y").collect().to_numpy()
    apart = np.linalg.norm(points.select("x", "y").to_numpy()[:, None] - places[None], axis=2).min(axis=1)
    assert apart[0] == 0
    assert (apart[1:] > 0).all()
    assert (apart < 0.1).all()
    of_fit = small.points().select("neighbor_distance").collect()["neighbor_distance"].to_numpy()
    scores = points["outlier_score"].to_list()
    if fitted == 1:
        assert scores == [0.0] * 5
        assert placed.record.counts["far"] == 0
    else:
        # By linear interpolation between the fitted ones.
        assert [score == 0 for score in scores] == (expected <= of_fit.min()).tolist()
    assert f"fitted on {fitted} document" in placed.record.notes[0]


KILLED = """
import os, signal, sys, time
from pathlib import Path
from latentscale.cli.main import main
from latentscale.stages.update import overlay

overlay.BLOCK_ROWS = 100
out = Path(sys.argv[sys.argv.index("--out") + 1])
place = overlay._Placing.place
calls = 0

def killed_at_the_second_block(self, offsets):
    global calls
    calls += 1
    if calls == 2:
        while not list(out.glob("overlays/*/points/part-00000.parquet")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return place(self, offsets)

overlay._Placing.place = killed_at_the_second_block
main(sys.argv[1:])
"""


def test_documents_placed_by_a_killed_command_are_not_placed_again(
    map_and_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "placed"
    command = [
        "place",
        map_and_corpus / "others.parquet",
        "--into",
        map_and_corpus / "ws",
        "--out",
        out,
        "--progress",
        "quiet",
    ]
    ended = subprocess.run([sys.executable, "-c", KILLED, *command], timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not list(out.glob("overlays/*/artifact.json"))
    parts = {path: path.stat().st_mtime_ns for path in out.glob("overlays/*/points/*")}
    assert [path.name for path in parts] == ["part-00000.parquet"]
    monkeypatch.setattr(overlay, "BLOCK_ROWS", 100)
    placed: list[int] = []
    place = overlay._Placing.place
    monkeypatch.setattr(overlay._Placing, "place", lambda self, rows: placed.append(len(rows)) or place(self, rows))
    current = latentscale.open(map_and_corpus / "ws").current
    assert current is not None
    resumed = current.place(map_and_corpus / "others.parquet", out)
    assert placed == [100, 49]  # of the second and the third block
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    assert len(resumed.points().collect()) == 249
    assert verify_workspace(resumed.store).faults == []
    # A part that a bad disk has cut is written again.
    (out / resumed.record.folder / "artifact.json").unlink()
    (part,) = parts
    part.write_bytes(part.read_bytes()[:-100])
    placed.clear()
    assert current.place(map_and_corpus / "others.parquet", out).record.content == resumed.record.content
    assert placed == [100]


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"text": "body"}, CorpusError, "has no column 'body'"),
        ({"id": "url"}, CorpusError, "has no column 'url'"),
        ({"embed": {"max_tokens": 64}}, ConfigError, "was embedded with max_tokens 512; this would use max_tokens 64"),
        ({"vectors": np.ones((250, 3), np.float32)}, LatentScaleError, "was embedded with"),
    ],
)
def test_documents_that_cannot_be_placed_are_refused_before_embedding(
    map_and_corpus: Path, tmp_path: Path, settings: dict[str, object], error: type[LatentScaleError], says: str
) -> None:
    current = latentscale.open(map_and_corpus / "ws").current
    assert current is not None
    source = (
        pl.read_parquet(map_and_corpus / "others.parquet")
        if "vectors" in settings
        else map_and_corpus / "others.parquet"
    )
    with pytest.raises(LatentScaleError, match=says) as caught:
        current.place(source, tmp_path / "placed", **settings)  # pyright: ignore[reportArgumentType]
    assert isinstance(caught.value, error)
    assert caught.value.exit_code == 2
    assert not list(tmp_path.glob("placed/embeddings/*"))
    assert not list(tmp_path.glob("placed/documents/*"))


def test_a_map_of_vectors_takes_vectors_of_its_width(map_and_corpus: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(120, 8)).astype(np.float32)
    frame = pl.read_parquet(map_and_corpus / "corpus" / "a.parquet")[:120]
    fitted = latentscale.run(frame, tmp_path / "ws", vectors=vectors, progress="quiet", **SETTINGS)
    placed = fitted.place(frame[:20], tmp_path / "placed", vectors=vectors[:20])
    there = placed.points().collect().sort("package").select("package", "x", "y")
    same = fitted.points().collect().filter(pl.col("package").is_in(there["package"].to_list())).sort("package")
    assert there.rows() == same.select("package", "x", "y").rows()  # a copy lies on what it is a copy of
    with pytest.raises(CorpusError, match="have 5 dimensions"):
        fitted.place(frame[:20], tmp_path / "narrow", vectors=vectors[:20, :5])


def test_the_command_says_where_the_points_are(
    map_and_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentscale.cli.main.silence_libraries", lambda: None)
    monkeypatch.setattr("latentscale.cli.main.heed_interrupts", lambda: None)

    def command(*more: object) -> tuple[int, str, str]:
        given = [
            "place",
            map_and_corpus / "others.parquet",
            "--into",
            map_and_corpus / "ws",
            "--progress",
            "quiet",
            *more,
        ]
        with pytest.raises(SystemExit) as ended:
            main([str(one) for one in given])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    code, out, _ = command("--out", tmp_path / "placed", "--limit", 50, "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["counts"]["documents"] == facts["documents"] == len(pl.read_parquet(f"{facts['points']}/*.parquet"))
    code, out, _ = command("--out", tmp_path / "placed", "--limit", 50)
    assert code == 0
    assert "nothing: all results exist already" in out
    assert facts["points"] in out
    assert facts["page"] is None
    code, out, _ = command("--out", tmp_path / "placed", "--limit", 50, "--page", tmp_path / "page")
    assert code == 0
    assert f"--directory {tmp_path / 'page'}" in out
    assert (tmp_path / "page/index.html").is_file()
    code, _, error = command("--out", tmp_path / "placed", "--limit", 50, "--page", tmp_path / "page")
    assert code == 2
    assert "is not empty" in error
    code, _, error = command()
    assert code == 2
    assert "the folder of the placed documents is not named" in error
    code, _, error = command("--out", tmp_path / "other", "--id", "nowhere")
    assert code == 2
    assert "corpus.id=null" in error
    code, _, error = command("--out", map_and_corpus / "ws")
    assert code == 2
    assert "is the workspace of the map itself" in error
    assert "latentscale update" in error


def test_another_corpus_needs_another_folder(map_and_corpus: Path, tmp_path: Path) -> None:
    current = latentscale.open(map_and_corpus / "ws").current
    assert current is not None
    frame = pl.read_parquet(map_and_corpus / "others.parquet")[:30]
    current.place(frame, tmp_path / "placed")
    with pytest.raises(WorkspaceError, match="other documents already"):
        current.place(frame[:10], tmp_path / "placed")


def test_a_page_shows_the_map_and_the_placed_documents(map_and_corpus: Path, tmp_path: Path) -> None:
    current = latentscale.open(map_and_corpus / "ws").current
    assert current is not None
    others = pl.read_parquet(map_and_corpus / "others.parquet").filter(pl.col("text").is_not_null())
    others = others.select(pl.col("text").alias("body"), pl.col("package").alias("name"), "section", mark=pl.lit("new"))
    before = files_of(map_and_corpus / "ws")
    placed = current.place(others, tmp_path / "tickets", text="body", id="name", page=tmp_path / "page")
    assert files_of(map_and_corpus / "ws") == before
    viewer = tmp_path / "page/viewer"
    manifest = json.loads((viewer / "manifest.json").read_bytes())
    assert manifest["title"] == "tickets on ws"
    assert [entry["documents"] for entry in manifest["generations"]] == [700, 249]
    assert manifest["generations"][1]["placed"] == "tickets"
    assert manifest["generations"][1]["view"] == manifest["generations"][0]["view"]
    first, second = ((viewer / entry["url"]).resolve() for entry in manifest["generations"])
    indexes = [json.loads((folder / "index.json").read_bytes()) for folder in (first, second)]
    # One text, one id, the columns of both; colours of the map keep their codes.
    assert indexes[1]["text"] == "text"
    assert indexes[1]["columns"] == [*indexes[0]["columns"], "mark"]
    colours = [{one["name"]: one for one in index["colours"]} for index in indexes]
    names = [[name for name, _ in one["section"]["categories"]] for one in colours]
    assert names[1][: len(names[0])] == names[0]
    assert [dict(one["from"]["categories"]) for one in colours] == [
        {"map": 700, "placed": 0},
        {"map": 0, "placed": 249},
    ]
    points = placed.points().collect()
    rows = pl.concat(pl.read_parquet(path) for path in sorted((second / "rows").glob("*.parquet")))
    texts = dict(zip(points["row_id"] + 1000, others["body"], strict=True))
    assert dict(rows.select("row_id", "text").iter_rows()) == texts
    assert set(rows["package"]) == set(others["name"])
    assert rows["priority"].null_count() == len(rows)
    # Clusters count both.
    sizes = {
        one["id"]: one["size"]
        for one in json.loads((second / "labels.json").read_bytes())["clusters"]
        if not one["layer"]
    }
    both = pl.concat([current.points().select("cluster").collect(), points.select("cluster")])
    counted = dict(both.filter(pl.col("cluster") >= 0).group_by("cluster").len().iter_rows())
    assert sizes == counted
    assert 'url=viewer/index.html#c=%40from"' in (tmp_path / "page/index.html").read_text()
    # What cannot be written is refused before anything is read.
    with pytest.raises(WorkspaceError, match="is not empty"):
        current.place(others, tmp_path / "again", text="body", page=tmp_path / "page")
    bare = latentscale.open(map_and_corpus / "ws").map(publish={"viewer": False}, name="bare")
    with pytest.raises(WorkspaceError, match="has no page"):
        bare.place(others, tmp_path / "again", text="body", page=tmp_path / "other")
    assert not (tmp_path / "again").exists()
