"""From a corpus to a map: every row once, repeated requests are reused, changed ones make new artifacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import latentscale
from latentscale.errors import ConfigError, CorpusError, RejectLimitError, ResourceError
from latentscale.upkeep.verify import verify_workspace


@pytest.fixture(scope="module")
def corpus_with_bad_rows(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Path:
    """Two files: 600 good rows, and 20 of which 6 cannot be used."""
    folder = tmp_path_factory.mktemp("two")
    frame = pl.read_parquet(small_corpus)
    frame.write_parquet(folder / "a.parquet")
    texts = [None, "   ", "", "x" * 50_000] + ["\u200b", "\n"] + [f"a game of chess number {i}" for i in range(14)]
    pl.DataFrame(
        {"package": [f"extra-{i}" for i in range(20)], "text": texts, "installed_size": range(20)}
    ).write_ndjson(folder / "b.jsonl")
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, corpus_with_bad_rows: Path) -> latentscale.Workspace:
    out = tmp_path_factory.mktemp("maps") / "small"
    latentscale.run(
        str(corpus_with_bad_rows),
        out=out,
        progress="quiet",
        ingest={"shard_rows": 150, "max_text_characters": 40_000},
        quality={"against": "section"},
    )
    return latentscale.open(out)


def test_every_row_is_in_exactly_one_of_points_and_rejects(workspace: latentscale.Workspace) -> None:
    made = workspace.current
    assert made is not None
    points = made.points().select("source", "source_row").collect()
    rejects = workspace.rejects().select("source", "source_row")
    assert len(points) + len(rejects) == 620
    together = pl.concat([points.cast(rejects.schema), rejects])
    assert together.n_unique() == 620
    assert sorted(workspace.rejects()["reason"].to_list()) == ["blank_text"] * 4 + ["null_text", "too_long"]


def test_points_carry_the_source_columns_with_one_type(workspace: latentscale.Workspace) -> None:
    made = workspace.current
    assert made is not None
    points = made.points().collect()
    assert points["row_id"].to_list() == list(range(614))
    assert points["installed_size"].dtype == pl.Int64
    assert points.filter(pl.col("package") == "extra-19")["installed_size"].to_list() == [19]
    assert points.filter(pl.col("source") == "b.jsonl")["section"].null_count() == 14
    for name, kind in {"x": pl.Float32, "cluster": pl.Int32, "probability": pl.Float32, "density": pl.Float32}.items():
        assert points[name].dtype == kind
        assert points[name].null_count() == 0
    noise = points.filter(pl.col("cluster") == -1)
    assert noise["label"].null_count() == len(noise)
    if made.record.counts["clusters"]:
        assert (points["nearest_cluster"] >= 0).all()
    assert "text" not in points.columns


def test_the_labels_and_the_points_agree(workspace: latentscale.Workspace) -> None:
    made = workspace.current
    assert made is not None
    points, labels = made.points().collect(), made.labels()
    finest = labels.filter(pl.col("layer") == 0)
    sizes = points.filter(pl.col("cluster") >= 0).group_by("cluster").len().sort("cluster")["len"].to_list()
    assert finest.sort("cluster")["size"].to_list() == sizes
    assert finest["label"].is_unique().all()
    names = dict(zip(finest["cluster"], finest["label"], strict=True))
    assert all(names[c] == label for c, label in points.select("cluster", "label").drop_nulls().unique().rows())
    for cluster, exemplars in finest.select("cluster", "exemplars").rows():
        assert set(points.filter(pl.col("row_id").is_in(exemplars))["cluster"]) == {cluster}
    for cluster, x, y in finest.select("cluster", "x", "y").rows():
        here = points.filter((pl.col("x") == x) & (pl.col("y") == y))
        assert cluster in here["cluster"].to_list(), "a label stands on a document of its cluster"


def test_the_quality_is_measured_against_the_named_column(workspace: latentscale.Workspace) -> None:
    made = workspace.current
    assert made is not None
    quality = made.quality
    assert quality["recall"] == 1.0
    assert 0.5 < quality["trustworthiness"] <= 1
    assert quality["against"]["column"] == "section"
    assert quality["against"]["nmi"] > 0.2
    assert isinstance(quality["red_flags"], list)


def test_points_are_a_hive_data_set_for_polars_duckdb_and_pyarrow(
    workspace: latentscale.Workspace, corpus_with_bad_rows: Path
) -> None:
    made = workspace.map(publish={"partition_by": "section", "text": "points"})
    folder = Path(made.url) / "points"
    sections = {path.name for path in folder.glob("update=*/*")}
    assert "section=games" in sections
    assert "section=__HIVE_DEFAULT_PARTITION__" in sections
    by_polars = pl.read_parquet(folder / "**" / "*.parquet", hive_partitioning=True)
    by_duckdb = duckdb.sql(f"from read_parquet('{folder}/**/*.parquet', hive_partitioning = true)").pl()
    by_arrow = ds.dataset(folder, partitioning="hive").to_table()
    assert len(by_polars) == len(by_duckdb) == by_arrow.num_rows == 614
    games = pl.read_parquet(corpus_with_bad_rows / "a.parquet").filter(pl.col("section") == "games")
    for found in (by_polars, by_duckdb, pl.from_arrow(by_arrow)):
        assert isinstance(found, pl.DataFrame)
        part = found.filter(pl.col("section") == "games")
        assert sorted(part["package"]) == sorted(games["package"])
        assert sorted(part["text"]) == sorted(games["text"])
    assert made.points().collect().height == 614


def test_the_same_request_does_no_work_and_a_changed_one_makes_its_own_artifacts(
    workspace: latentscale.Workspace, tmp_path: Path
) -> None:
    first = workspace.map()
    before = {name: info.version for name, info in workspace.store.list().items() if not name.startswith("runs/")}
    again = workspace.map()
    after = {name: info.version for name, info in workspace.store.list().items() if not name.startswith("runs/")}
    assert again.id == first.id
    for name, version in before.items():
        if not name.startswith("viewer/") and name != "HEAD.json":
            assert after[name] == version, name
    assert workspace.runs[-1]["facts"]["made"] == []

    changed = workspace.map(cluster={"min_cluster_size": 40})
    assert changed.id != first.id
    assert changed.record.request["projection"] == first.record.request["projection"]
    assert workspace.runs[-1]["facts"]["made"] == ["cluster", "label", "publish"]
    assert {first.id, changed.id} <= {m.id for m in workspace.maps}
    assert verify_workspace(workspace.store).faults == []


def test_records_remember_everything(workspace: latentscale.Workspace) -> None:
    for record in workspace.artifacts:
        assert record.environment["versions"]["latentscale"]
        assert record.environment["hardware"]["processors"] >= 1
        assert record.cost["seconds"] >= 0
        assert record.cost["peak_bytes"] > 1e7
        assert record.run
    projection = next(r for r in workspace.artifacts if r.kind == "projection")
    for name in (
        "n_neighbors",
        "min_dist",
        "seed",
        "n_epochs",
        "deterministic",
        "negative_sample_rate",
        "learning_rate",
    ):
        assert name in projection.request
    run = workspace.runs[0]
    assert run["status"] == "done"
    assert run["job"]["project"]["n_neighbors"] == 15
    events = workspace.store.read_bytes(f"runs/{run['id']}/events.jsonl").decode().splitlines()
    assert any(json.loads(line)["event"] == "stage done" for line in events)


def test_a_wrong_column_is_found_before_the_layout(workspace: latentscale.Workspace) -> None:
    for group in ({"quality": {"against": "sektion"}}, {"publish": {"columns": ["sektion"]}}):
        with pytest.raises(ConfigError, match="sektion"):
            workspace.map(**group)


@pytest.mark.parametrize(
    "method", ["kmeans", "column", "vectors", "map", "leaf", "plscan", "dbscan", "agglomerative", "areas"]
)
def test_other_ways_to_cluster(workspace: latentscale.Workspace, method: str) -> None:
    settings = {
        "kmeans": {"method": "kmeans", "n_clusters": 6},
        "column": {"method": "column", "column": "section"},
        "vectors": {"space": "vectors", "min_cluster_size": 5},
        "map": {"space": "map"},
        "leaf": {"cluster_selection_method": "leaf"},
        "plscan": {"method": "plscan"},
        "dbscan": {"method": "dbscan", "min_cluster_size": 8},
        "agglomerative": {"method": "agglomerative", "n_clusters": 20, "space": "map"},
        "areas": {"method": "kmeans", "n_clusters": 9, "space": "map"},
    }[method]
    made = workspace.map(cluster=settings)
    points = made.points().collect()
    assert len(points) == 614
    if method == "kmeans":
        assert points["cluster"].n_unique() == 6
    if method == "areas":
        places, own = points.select("x", "y").to_numpy(), points["cluster"].to_numpy()
        centers = np.stack([places[own == cluster].mean(axis=0) for cluster in range(9)])
        nearest = np.linalg.norm(places[:, None] - centers, axis=2).argmin(axis=1)
        # Lloyd's iterations end when a document in a thousand moves, and copies share a cluster.
        assert (nearest == own).mean() > 0.98
    if method == "agglomerative":
        assert points["cluster"].n_unique() == 20
        assert points["probability"].min() == 1.0
    if method == "dbscan":
        assert points.filter(pl.col("cluster") == -1)["probability"].to_list() == [0.0] * made.record.counts["noise"]
        assert made.record.counts["clusters"] > 1
    if method == "plscan":
        assert made.record.counts["clusters"] > 5
    if method == "column":
        labelled = points.filter(pl.col("section").is_not_null())
        assert (labelled["label"] == labelled["section"]).all()


# ---------------------------------------------------------------------------------------------------- small and odd


@pytest.mark.parametrize(
    "texts",
    [["only one document here"], ["the same words"] * 3, [f"words about number {i}" for i in range(9)], ["same"] * 40],
    ids=["one row", "three identical rows", "fewer rows than neighbours", "forty identical rows"],
)
def test_a_tiny_corpus_gives_a_small_map(tmp_path: Path, texts: list[str]) -> None:
    made = latentscale.run(pl.DataFrame({"text": texts}), out=tmp_path / "out", progress="quiet")
    points = made.points().collect()
    assert len(points) == len(texts)
    assert points.select(pl.col("x", "y").is_finite().all()).row(0) == (True, True)
    assert points.select("x", "y", "cluster").n_unique() == len(set(texts))
    assert (tmp_path / "out" / "viewer" / "manifest.json").exists()
    assert verify_workspace(latentscale.open(tmp_path / "out").store).faults == []


def test_copies_of_a_text_share_a_position_and_a_cluster(tmp_path: Path, small_corpus: Path) -> None:
    others = pl.read_parquet(small_corpus)["text"].head(200).to_list()
    texts = [text for i, text in enumerate(others) for text in (text, "(APPLAUSE)", "yes" if i % 2 else "no")]
    (tmp_path / "corpus").mkdir()
    pl.DataFrame({"text": texts}).write_parquet(tmp_path / "corpus" / "a.parquet")
    made = latentscale.run(str(tmp_path / "corpus"), out=tmp_path / "out", progress="quiet", publish={"text": "points"})
    shown = made.points().collect()
    of_text = shown.group_by("text").agg(pl.struct("x", "y", "cluster").n_unique().alias("places"), pl.len())
    assert of_text["places"].max() == 1
    assert shown.filter(pl.col("text").is_in(["(APPLAUSE)", "yes", "no"]))["cluster"].min() >= 0
    pl.DataFrame({"text": ["(APPLAUSE)", "no", *others[:3]]}).write_parquet(tmp_path / "corpus" / "b.parquet")
    grown = latentscale.open(tmp_path / "out").update().points().collect()
    assert len(grown) == len(texts) + 5
    assert grown.group_by("text").agg(pl.struct("x", "y", "cluster").n_unique())["x"].max() == 1


def test_texts_without_a_known_token_are_rejects(tmp_path: Path, small_corpus: Path) -> None:
    texts = [*pl.read_parquet(small_corpus)["text"].head(60), "\ue000\ue001", "\ue002"]
    made = latentscale.run(pl.DataFrame({"text": texts}), out=tmp_path / "out", progress="quiet")
    rejects = latentscale.open(tmp_path / "out").rejects()
    assert len(made.points().collect()) + len(rejects) == 62
    assert set(rejects["reason"]) <= {"not_embeddable"}
    assert sorted(rejects["source_row"]) == [60, 61]


@pytest.mark.parametrize(
    ("more", "reason"),
    [({}, "the model knows none of their words"), ({"vectors": [None, [0.0, 0.0]]}, "their vectors are null or zero")],
)
def test_a_corpus_without_any_vector_is_refused_with_the_reason(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CorpusError, match=f"no document of the corpus could be embedded: {reason}"):
        latentscale.run(["\ue000", "\ue001"], out=tmp_path / "out", progress="quiet", **more)


def test_a_corpus_of_which_most_has_no_vector_is_refused(tmp_path: Path, small_corpus: Path) -> None:
    known = pl.read_parquet(small_corpus)["text"].head(60).to_list()
    frame = pl.DataFrame({"text": known + [f"\ue000 \ue001 {chr(0xE100 + i)}" for i in range(90)]})
    with pytest.raises(RejectLimitError, match=r"90 of 150 documents \(60%\) have no vector") as refused:
        latentscale.run(frame, out=tmp_path / "out", progress="quiet")
    assert refused.value.exit_code == 2
    assert not (tmp_path / "out" / "maps").exists()
    opened = latentscale.open(tmp_path / "out")
    outcome = opened.run_stages(["embed.max_unembeddable_fraction=1"], until="embed", progress="quiet")
    assert ["90 of 150" in sentence for sentence in outcome.warnings] == [True]


def test_contradicting_settings_are_refused_before_the_corpus_is_read(
    tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentscale.pipeline.preflight.available_memory", lambda: 4e8)
    job = {"corpus": {"sources": str(small_corpus)}, "out": str(tmp_path / "out")}
    with pytest.raises(ResourceError, match="600 documents") as refused:
        latentscale.Workspace(tmp_path / "out").run(job, until="neighbors", progress="quiet")
    assert "engine.on_shortage=warn" in str(refused.value.hint)
    assert not (tmp_path / "out" / "documents").exists()
    job |= {"engine": {"on_shortage": "warn"}, "cluster": {"min_cluster_size": 700}}
    outcome = latentscale.Workspace(tmp_path / "out").run(job, until="neighbors", progress="quiet")
    assert "neighbors" in outcome.records
    memory, size = outcome.warnings
    assert "GB of memory" in memory
    assert "nothing can cluster" in size


def test_a_missing_layer_is_refused_before_labelling(tmp_path: Path, small_corpus: Path) -> None:
    settings = {"cluster": {"method": "kmeans", "n_clusters": 5}, "publish": {"partition_by": "layer_1"}}
    with pytest.raises(ConfigError, match="the clusters have the layers cluster"):
        latentscale.run(str(small_corpus), out=tmp_path / "out", progress="quiet", project={"n_epochs": 5}, **settings)
    assert not (tmp_path / "out" / "labels").exists()


def test_the_last_document_of_an_id_wins(tmp_path: Path, small_corpus: Path) -> None:
    frame = pl.read_parquet(small_corpus).head(80)
    newer = frame.head(10).with_columns(text=pl.lit("a newer text: ") + pl.col("text"))
    frame.write_csv(tmp_path / "a.csv")
    newer.write_csv(tmp_path / "b.csv")
    made = latentscale.run(
        [tmp_path / "a.csv", tmp_path / "b.csv"],
        out=tmp_path / "out",
        id="package",
        progress="quiet",
        publish={"text": "points"},
    )
    points = made.points().collect()
    assert len(points) == 80
    assert points["package"].is_unique().all()
    assert points["text"].str.starts_with("a newer text").sum() == 10
    rejects = latentscale.open(tmp_path / "out").rejects()
    assert sorted(rejects["source_row"]) == list(range(10))
    assert set(rejects["reason"]) == {"superseded"}


def test_frames_and_batches_of_any_kind_are_read(tmp_path: Path, small_corpus: Path) -> None:
    frame = pl.read_parquet(small_corpus).head(50)
    kinds = {
        "polars": frame,
        "pandas": pd.DataFrame(frame.to_dict(as_series=False)),
        "arrow": frame.to_arrow(),
        "batches": iter(frame.to_arrow().to_batches(max_chunksize=20)),
    }
    maps = {name: latentscale.run(kind, out=tmp_path / name, progress="quiet") for name, kind in kinds.items()}
    for name, made in maps.items():
        assert made.points().collect()["package"].to_list() == frame["package"].to_list(), name


def test_vectors_of_the_corpus_are_used_unchanged(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    centers = random.standard_normal((4, 12))
    vectors = np.repeat(centers, 40, axis=0) + 0.1 * random.standard_normal((160, 12))
    table = pa.table(
        {
            "text": [f"document {i} of group {i // 40}" for i in range(160)],
            "group": [i // 40 for i in range(160)],
            "emb": pa.array(
                [None if i == 5 else row for i, row in enumerate(vectors.tolist())], pa.list_(pa.float64())
            ),
        }
    )
    made = latentscale.run(
        table, out=tmp_path / "out", progress="quiet", corpus={"vectors": "emb"}, embed={"model": "column"}
    )
    points = made.points().collect()
    assert len(points) == 159
    assert "emb" not in points.columns
    assert points.group_by("group").agg(pl.col("nearest_cluster").n_unique())["nearest_cluster"].to_list() == [1] * 4
    assert latentscale.open(tmp_path / "out").rejects()["source_row"].to_list() == [5]


def test_a_shard_without_any_vector_is_no_fault(tmp_path: Path) -> None:
    vectors: list[list[float] | None] = [[float(i % 7), 1.0, float(i % 3)] for i in range(120)]
    vectors[40:80] = [None] * 40
    frame = pl.DataFrame(
        {"text": [f"text {i}" for i in range(120)], "vec": vectors}, schema_overrides={"vec": pl.List(pl.Float32)}
    )
    frame.write_parquet(tmp_path / "corpus.parquet")
    made = latentscale.run(
        tmp_path / "corpus.parquet",
        out=tmp_path / "ws",
        text="text",
        corpus={"vectors": "vec"},
        embed={"model": "column"},
        ingest={"shard_rows": 40},
        progress="quiet",
    )
    assert made.record.counts["documents"] == 80
    assert made.rejects()["reason"].to_list() == ["not_embeddable"] * 40
    assert latentscale.open(tmp_path / "ws").verify().faults == []
