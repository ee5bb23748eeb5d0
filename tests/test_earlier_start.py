"""Layouts that start from those of an earlier map: refits, additional maps, and invalid requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale
from latentscale.backends.earlier import start_from_earlier
from latentscale.errors import ConfigError, ShapeError

SETTINGS: dict[str, Any] = {
    "ingest": {"shard_rows": 200},
    "cluster": {"min_cluster_size": 10},
    "publish": {"viewer": False},
}


def test_new_documents_start_at_the_mean_of_their_known_neighbours() -> None:
    earlier = np.array([[0, 0], [10, 4], [2, 8], [9, 9], [9, 9], [9, 9], [9, 9]], np.float32)
    known = np.array([True, True, True, False, False, False, False])
    # 3 has two neighbours that were there, 4 only 3, and 5 and 6 only each other.
    indices = np.array([[1, 2], [0, 2], [0, 1], [1, 2], [3, 5], [6, 6], [5, 5]])
    indices[4] = [3, 3]
    start = start_from_earlier(indices, earlier, known, seed=1)
    assert start.dtype == np.float32
    assert start[:5] == pytest.approx(np.array([[0, 0], [10, 4], [2, 8], [6, 6], [6, 6]]), abs=0.01)
    assert ((start[5:] >= -0.01) & (start[5:] <= [10.01, 8.01])).all()
    assert len(np.unique(start, axis=0)) == len(start)
    assert start.tobytes() == start_from_earlier(indices, earlier, known, seed=1).tobytes()
    assert start.tobytes() != start_from_earlier(indices, earlier, known, seed=2).tobytes()
    with pytest.raises(ShapeError, match="do not match"):
        start_from_earlier(indices, earlier, ~known & known, seed=1)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> tuple[Path, latentscale.Map]:
    """A corpus, a map in space of three quarters of it, and the page with the rest of it placed."""
    root = tmp_path_factory.mktemp("earlier")
    (root / "corpus").mkdir()
    chosen = demo.filter(pl.col("section").is_in(["games", "perl", "science"])).sort("package").head(600)
    chosen[:450].write_parquet(root / "corpus" / "a.parquet")
    source = str(root / "corpus")
    first = latentscale.run(source, out=root / "ws", progress="quiet", project={"map_dimensions": 3}, **SETTINGS)
    chosen[450:].write_parquet(root / "corpus" / "b.parquet")
    latentscale.open(root / "ws").update()
    return root, first


def points(one: latentscale.Map) -> pl.DataFrame:
    return one.points().collect().sort("row_id")


def moved(before: pl.DataFrame, after: pl.DataFrame) -> float:
    """Median distance of the documents that are on both maps, as a share of the size of the first."""
    both = before.join(after, on="row_id", suffix="_after")
    size = np.sqrt(np.var(before["x"].to_numpy()) + np.var(before["y"].to_numpy()))
    return float(np.median(np.hypot(both["x"] - both["x_after"], both["y"] - both["y_after"]))) / size


def height_correlation(before: pl.DataFrame, after: pl.DataFrame) -> float:
    """Correlation of the heights of the documents that are on both maps."""
    both = before.join(after, on="row_id", suffix="_after")
    return float(np.corrcoef(both["z"], both["z_after"])[0, 1])


def test_a_refit_that_starts_from_the_map_looks_like_it(grown: tuple[Path, latentscale.Map]) -> None:
    root, first = grown
    workspace = latentscale.open(root / "ws")
    before = points(workspace.the_map())
    plain = workspace.map(project={"init": "pca", "n_epochs": 100})
    beside = workspace.map(project={"init": "earlier"})
    assert beside.id == workspace.map(project={"init": "earlier"}).id
    refitted = workspace.update(refit=True, project={"init": "earlier"})
    earlier = refitted.record.request["align"]
    assert earlier != first.id
    assert points(refitted)["row_id"].to_list() == before["row_id"].to_list()
    assert moved(before, points(refitted)) < 0.5 * moved(before, points(plain))
    assert moved(before, points(beside)) < 0.5 * moved(before, points(plain))
    trust, other = (float(one.quality["trustworthiness"] or 0.0) for one in (refitted, plain))
    assert trust > other - 0.01
    # The heights and the layout for clusters start there, too: every layout says from which documents.
    records = {record.id: record for record in workspace.artifacts}
    clusters = records[refitted.record.request["clusters"]]
    flat, deep, high = (
        records[identity]
        for identity in (
            refitted.record.request["projection"],
            clusters.request["projection"],
            refitted.record.request["height"],
        )
    )
    for record, documents in ((flat, 600), (deep, 450), (high, 600)):
        assert record.request["earlier"] == earlier
        assert record.choices["init"] == f"{earlier}: {documents} documents start where they were"
    assert height_correlation(before, points(refitted)) > 0.5
    # What was made is found again: by the same refit, by a stage of it, and without the new setting.
    assert workspace.update(refit=True).id == refitted.id
    again = workspace.run_stages(["label.max_keyphrases=9"], until="publish")
    assert again.made == ["label", "publish"]
    assert "earlier" not in records[first.record.request["projection"]].request


def test_layouts_missing_in_the_earlier_map_are_refused_before_any_work(
    grown: tuple[Path, latentscale.Map], tmp_path: Path
) -> None:
    root, _ = grown
    with pytest.raises(ConfigError, match="has no map yet from which a layout could start"):
        latentscale.run(str(root / "corpus"), out=tmp_path / "ws", progress="quiet", project={"init": "earlier"})
    assert not (tmp_path / "ws" / "documents").exists()
    workspace = latentscale.open(root / "ws")
    with pytest.raises(ConfigError, match=r"layout of 5 dimensions, and project.cluster_dimensions is 4"):
        workspace.map(project={"init": "earlier", "cluster_dimensions": 4})
    flat = tmp_path / "flat"
    latentscale.run(
        str(root / "corpus"),
        out=flat,
        progress="quiet",
        cluster={"method": "kmeans", "n_clusters": 3},
        publish={"viewer": False},
    )
    workspace = latentscale.open(flat)
    with pytest.raises(ConfigError, match=r"has no height, and project.map_dimensions is 3"):
        workspace.map(project={"init": "earlier", "map_dimensions": 3})
    with pytest.raises(ConfigError, match="has no layout for its clusters"):
        workspace.map(project={"init": "earlier"}, cluster={"method": "hdbscan"})
    # K-means needs none.
    assert workspace.map(project={"init": "earlier"}).id != workspace.the_map().id


def test_the_refit_of_a_map_whose_labels_were_edited_starts_from_it(demo: pl.DataFrame, tmp_path: Path) -> None:
    chosen = demo.filter(pl.col("section").is_in(["games", "perl"])).sort("package").head(300)
    latentscale.run(chosen, text="text", out=tmp_path / "ws", progress="quiet", **SETTINGS)
    workspace = latentscale.open(tmp_path / "ws")

    def layout(one: latentscale.Map) -> Any:
        return next(record for record in workspace.artifacts if record.id == one.record.request["projection"])

    assert "init" not in layout(workspace.update(refit=True)).choices
    workspace.export_labels(tmp_path / "edits.csv")
    edits = pl.read_csv(tmp_path / "edits.csv", infer_schema=False)
    first = pl.int_range(pl.len()) == 0
    edits.with_columns(pl.when(first).then(pl.lit("Mine")).alias("rename")).write_csv(tmp_path / "edits.csv")
    workspace.import_labels(tmp_path / "edits.csv")
    edited = workspace.the_map()
    # Where its layouts cannot be had, principal components are the start, as for any other refit.
    other = workspace.map(project={"cluster_dimensions": 4})
    workspace.promote(other.id)
    assert "init" not in layout(workspace.update(refit=True, project={"cluster_dimensions": 6})).choices
    workspace.promote(edited.id)
    refitted = workspace.update(refit=True)
    assert layout(refitted).choices["init"] == f"{edited.id}: 300 documents start where they were"
    assert "Mine" in refitted.labels()["label"].to_list()
    # It is found again, by the same refit and by a stage of it.
    assert workspace.update(refit=True).id == refitted.id
    assert workspace.run_stages(["label.max_keyphrases=9"], until="publish").made == ["label", "publish"]
    # Settings still leave it open: other dimensions are not refused.
    assert "init" not in layout(workspace.map(project={"cluster_dimensions": 4})).choices
    assert "init" not in layout(workspace.update(refit=True, project={"init": "pca"})).choices
