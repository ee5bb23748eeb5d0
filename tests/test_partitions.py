"""Maps with partitioned points are updated, refitted and exported like others."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale.errors import ConfigError, CorpusError
from latentscale.storage.objects import Store
from latentscale.storage.segments import read_points, segments_of
from latentscale.upkeep.verify import verify_workspace

SETTINGS: dict[str, Any] = {
    "ingest": {"shard_rows": 100},
    "project": {"n_epochs": 30},
    "cluster": {"method": "kmeans", "n_clusters": 24, "layer_factor": 4},
    "update": {"max_removed_fraction": 1},
}


@pytest.fixture(scope="module")
def documents(demo: pl.DataFrame) -> pl.DataFrame:
    """700 documents with columns in which every third value, or so, is null."""
    number = pl.int_range(pl.len())
    years = pl.when(number % 3 > 0).then(2000 + number % 4)
    return demo.head(700).with_columns(
        year=years.cast(pl.Int16),
        day=pl.when(number % 5 > 0).then(pl.lit(date(2024, 1, 31))),
        topic=pl.when(number % 3 > 0).then(pl.col("section")).cast(pl.Categorical),
        sold=pl.when(number % 4 > 0).then(number % 2 == 0),
    )


@pytest.mark.parametrize("column", ["layer_1", "topic", "year", "day", "sold"])
def test_a_partitioned_map_is_updated_fitted_again_and_exported(
    documents: pl.DataFrame, tmp_path: Path, column: str
) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "map"
    corpus.mkdir()
    documents[:500].write_parquet(corpus / "a.parquet")
    settings = SETTINGS | {"publish": {"partition_by": column}}
    made = latentscale.run(corpus, out=out, id="package", progress="quiet", **settings)
    documents[500:].write_parquet(corpus / "b.parquet")
    workspace = latentscale.open(out)
    grown = workspace.update()
    assert len(segments_of(grown.record)) == 2
    before = check(grown, documents, column)
    labels = grown.labels()
    refit = workspace.update(refit=True)
    assert refit.id not in (made.id, grown.id)
    assert refit.record.segments == ()
    after = check(refit, documents, column)
    # Clusters are found again by the documents of the partitioned map, in each layer.
    for name, layer in (("cluster", 0), ("layer_1", 1)):
        both = before.join(after, on="row_id", suffix="_after")
        # By chance it would be one in thirty.
        assert (both[name] == both[f"{name}_after"]).mean() > 0.2, name
        assert labels.filter(pl.col("layer") == layer).height > 1
    assert verify_workspace(workspace.store).faults == []


def test_too_many_partitions_are_refused_before_the_first_is_written(
    documents: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentscale.stages.publish.points.MAX_PARTITIONS", 500)
    with pytest.raises(CorpusError, match="more than 500 values"):
        latentscale.run(
            documents, out=tmp_path / "map", progress="quiet", **SETTINGS, publish={"partition_by": "package"}
        )
    assert list((tmp_path / "map").glob("maps/*/points/**/*")) == []


def check(shown: latentscale.Map, documents: pl.DataFrame, column: str) -> pl.DataFrame:
    """Compare points, a plain reading of them and an export with the documents; returns the points."""
    points = shown.points().collect()
    assert len(list((Path(shown.store.url) / shown.record.folder / "points").glob(f"*/{column}=*"))) > 1
    wanted = documents.sort("package")
    held = points.sort("package")
    assert held["package"].equals(wanted["package"])
    if column in documents.columns:
        assert held[column].null_count() > 100
        assert held[column].cast(wanted[column].dtype).equals(wanted[column], null_equal=True)
    read = pl.concat(
        [
            pl.from_arrow(table).cast({column: points.schema[column]})
            for _, table in read_points(Store(shown.store.url), shown.record, ["row_id", column])
        ]
    )
    assert read.sort("row_id").equals(points.select("row_id", column).sort("row_id"), null_equal=True)
    for suffix in (".parquet", ".csv"):
        path = Path(shown.export(f"{shown.store.url}-{shown.id}{suffix}"))
        exported = pl.read_parquet(path) if suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
        assert exported.height == documents.height
        assert exported[column].null_count() == points[column].null_count()
    return points


def test_the_finest_layer_is_no_partition(documents: pl.DataFrame, tmp_path: Path) -> None:
    documents[:100].write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"publish\.partition_by: the corpus has no column 'cluster'"):
        latentscale.run(
            tmp_path / "a.parquet", out=tmp_path / "map", progress="quiet", publish={"partition_by": "cluster"}
        )
    assert not (tmp_path / "map").exists()
