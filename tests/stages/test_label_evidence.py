"""Evidence of a cluster besides its words: values and numbers of columns, and the most similar sibling."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import latentscale as ls
from latentscale.stages.column_numbers import number_shifts

SUBJECTS = {
    "cooking": ["bake bread in the oven", "boil pasta with salt", "fry an egg in butter", "knead dough by hand"],
    "sailing": ["hoist the sail in wind", "steer the boat to harbour", "drop anchor near shore", "tie a knot on deck"],
    "taxes": ["file the tax return", "deduct costs from income", "pay the tax office", "audit of the tax year"],
}


def documents(rows: int = 360) -> pl.DataFrame:
    random = np.random.default_rng(0)
    kinds = [list(SUBJECTS)[at % 3] for at in range(rows)]
    years = [int(random.integers(1990, 2025)) + (20 if kind == "taxes" else 0) for kind in kinds]
    return pl.DataFrame(
        {
            "text": [f"{SUBJECTS[kind][at // 3 % 4]} {'again ' * (at % 5)}" for at, kind in enumerate(kinds)],
            "kind": kinds,
            "year": years,
            "length": random.normal(size=rows),
            "secret": [f"only {kind}" for kind in kinds],
            "id": [f"row {at}" for at in range(rows)],
        }
    )


@pytest.fixture(scope="module")
def workspace_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidence") / "ws"
    ls.run(
        documents(),
        out=folder,
        text="text",
        cluster={"method": "kmeans", "n_clusters": 3},
        publish={"columns": ["kind", "year", "length"]},
        progress="quiet",
    )
    return folder


def test_distinctive_columns_of_a_cluster_have_a_lift_with_its_interval(workspace_folder: Path) -> None:
    ws = ls.open(workspace_folder)
    labels, points = ws.the_map().labels(), ws.the_map().points().collect()
    for row in labels.filter(pl.col("layer") == 0).to_dicts():
        inside = points.filter(pl.col("cluster") == row["cluster"])
        outside = points.filter(pl.col("cluster") != row["cluster"])
        (kind,) = inside["kind"].unique().to_list()
        (value,) = [one for one in row["columns"] if one["column"] == "kind"]
        assert (value["value"], value["share"], value["elsewhere"]) == (kind, 1.0, (outside["kind"] == kind).mean())
        assert 1 < value["low"] < value["lift"] < value["high"]
        assert value["lift"] > 50
        # The published columns alone: "secret" says as much, and "id" and "length" say nothing.
        assert {one["column"] for one in row["columns"]} == {"kind"}
        if kind == "taxes":
            (year,) = row["numbers"]
            assert (year["column"], year["median"]) == ("year", str(sorted(inside["year"])[(len(inside) - 1) // 2]))
            assert 0.6 < year["low"] < year["above"] < year["high"] <= 1
    record = ws.artifact(ws.the_map().record.request["labels"])
    kept = pl.read_parquet(workspace_folder / record.folder / "labels*.parquet")
    assert "secret" in {one["column"] for row in kept["columns"] for one in row}


def test_the_page_shows_distinctive_columns_and_the_most_similar_cluster(workspace_folder: Path) -> None:
    ws = ls.open(workspace_folder)
    folder = workspace_folder / ws.the_map().record.folder / "viewer"
    entries = json.loads((folder / "labels.json").read_text())["clusters"]
    details = json.loads((folder / "clusters.json").read_text())
    rows = {(row["layer"], row["cluster"]): row for row in ws.the_map().labels().to_dicts()}
    points = dict(ws.the_map().points().select("row_id", "cluster").collect().iter_rows())
    for entry, detail in zip(entries, details, strict=True):
        row = rows[entry["layer"], entry["id"]]
        assert [one[:2] for one in detail["columns"]] == [[one["column"], one["value"]] for one in row["columns"]]
        assert detail["sibling"] == row["sibling"] != row["cluster"]
        assert {points[document] for document in detail["contrast"]} == {row["sibling"]}


def shifts(values: np.ndarray, clusters: np.ndarray, kind: pa.DataType = pa.float64()) -> dict[int, object]:  # noqa: B008
    return dict(number_shifts("x", kind, values.astype(np.float64), clusters.astype(np.int32)))


def test_the_probability_is_over_all_pairs_and_ties_count_half() -> None:
    random = np.random.default_rng(1)
    clusters = np.repeat([-1, 0, 1], [40, 30, 50])
    values = random.integers(0, 12, 120) + 6.0 * (clusters == 0)
    values[::17] = np.nan
    found = shifts(values, clusters)[0]
    known = ~np.isnan(values)
    inside, outside = values[known & (clusters == 0)], values[known & (clusters != 0)]
    pairs = np.sign(inside[:, None] - outside[None, :])
    assert found.above == pytest.approx((pairs + 1).mean() / 2)
    assert found.low < found.above < found.high
    assert found.elsewhere == str(int(np.sort(outside)[(len(outside) - 1) // 2]))


def test_random_differences_are_no_shift_and_dates_are_written_as_dates() -> None:
    random = np.random.default_rng(2)
    clusters = np.repeat(np.arange(20), 50)
    assert shifts(random.normal(size=1_000), clusters) == {}
    assert shifts(np.arange(1_000), clusters, pa.int64()) == {}
    days = np.datetime64("2020-01-01", "us").astype(np.int64) + np.arange(1_000) * 86_400_000_000
    found = shifts(days, clusters, pa.timestamp("us"))
    assert found[0].median == "2020-01-25"
    assert found[19].above == pytest.approx(1.0)
