"""Points, export, search and samples: the same on a disk and in a bucket, in memory that does not grow with the map."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.embedders import opened_embedder, read_spec
from latentscale.errors import ConfigError, DamagedObjectError, RequestError
from latentscale.explore.plain import plain_frame
from latentscale.explore.sample import allocate_quotas
from latentscale.storage import parquet
from latentscale.storage.partitions import (
    NULL,
    check_partition_type,
    partition_facts,
    partition_folder,
    partition_type,
    partition_values,
)
from latentscale.storage.vectors import load_vectors

ROWS = 240
DAY = datetime.date(2024, 1, 31)
MOMENT = datetime.datetime(2024, 1, 31, 12, 30, 15, 250_000)


WORDS = ["whale", "squid", "reef", "tide", "harbour", "violin", "cello", "sonata", "kernel", "thread", "bread", "onion"]


def texts(count: int = ROWS) -> list[str]:
    words = WORDS
    return [" ".join(words[(i * 7 + 3 * j) % len(words)] for j in range(6)) + f" number {i}" for i in range(count)]


COLUMNS: dict[str, pa.Array] = {
    "zip": pa.array(["007", "7", "", None, "a b/é", "__HIVE_DEFAULT_PARTITION__"] * (ROWS // 6)),
    "year": pa.array([2020, None, 2021] * (ROWS // 3), pa.int16()),
    "flag": pa.array([True, False, None] * (ROWS // 3)),
    "day": pa.array([DAY, None] * (ROWS // 2)),
    "moment": pa.array([MOMENT] * ROWS, pa.timestamp("us", "UTC")),
    "price": pa.array([decimal.Decimal("1.20"), None] * (ROWS // 2), pa.decimal128(10, 2)),
    "share": pa.array([0.1, float("nan"), None] * (ROWS // 3)),
}
NESTED: dict[str, pa.Array] = {
    "tags": pa.array([["a", 'b"'], [], None] * (ROWS // 3)),
    "person": pa.array([{"name": "x", "born": DAY}, None] * (ROWS // 2)),
    "pair": pa.array([[1, 2]] * ROWS, pa.list_(pa.int32(), 2)),
    "bytes": pa.array([b"\xff\x00", None] * (ROWS // 2)),
    "blobs": pa.array([[b"\x01"], None] * (ROWS // 2)),
    "span": pa.array([1_500, None] * (ROWS // 2), pa.duration("ms")),
    "clock": pa.array([datetime.time(1, 2)] * ROWS),
}


def make(folder: Path, columns: dict[str, pa.Array], **settings: Any) -> latentscale.Map:
    pq.write_table(pa.table({"text": texts(), **columns}), folder / "a.parquet")
    given: dict[str, Any] = {"project": {"n_epochs": 20}, "cluster": {"min_cluster_size": 10}} | settings
    return latentscale.run(folder / "a.parquet", out=folder / "map", text="text", progress="quiet", **given)


def without_names(exported: pl.DataFrame) -> pl.DataFrame:
    """An export without the names of its layers, which the points of a map do not have."""
    return exported.select(pl.exclude(r"^layer_\d+_label$"))


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> latentscale.Map:
    return make(tmp_path_factory.mktemp("typed"), {**COLUMNS, **NESTED}, ingest={"shard_rows": 50})


# --------------------------------------------------------------------------------------------------------------- points


@pytest.mark.parametrize("column", COLUMNS)
def test_a_partition_is_the_column_that_it_was(typed: latentscale.Map, column: str) -> None:
    parted = latentscale.open(typed.store.url).map(publish={"partition_by": column, "viewer": False})
    key = ["row_id"]
    whole = typed.points().collect().sort(key)
    found = parted.points().collect().sort(key)
    assert found.columns[-2:] == ["update", column]
    assert found[column].dtype == whole[column].dtype
    assert found[column].equals(whole[column], null_equal=True) or column == "share"
    assert found.select(whole.columns).drop(column).equals(whole.drop(column))
    if column == "share":
        assert found[column].fill_nan(-1.0).equals(whole[column].fill_nan(-1.0), null_equal=True)
    # Other readers still see hive folders.
    folder = f"{parted.store.url}/{parted.record.folder}/points"
    by_duckdb = duckdb.sql(f"select count(*) from read_parquet('{folder}/**/*.parquet', hive_partitioning = true)")
    assert by_duckdb.fetchall() == [(ROWS,)]


def test_a_condition_on_the_partition_skips_parts_and_reads_only_the_columns_asked_for(
    typed: latentscale.Map, monkeypatch: pytest.MonkeyPatch
) -> None:
    parted = latentscale.open(typed.store.url).map(publish={"partition_by": "year"})
    read: list[tuple[str, ...]] = []
    real = pq.ParquetFile.read

    def watched(self: pq.ParquetFile, columns: list[str], **options: Any) -> pa.Table:
        read.append(tuple(columns))
        return real(self, columns=columns, **options)

    points = parted.points()
    monkeypatch.setattr(pq.ParquetFile, "read", watched)
    assert len(points.filter(pl.col("year") == 2020).select("x").collect()) == ROWS // 3
    assert read == [("row_id", "x")]
    read.clear()
    assert points.select(pl.len()).collect().item() == ROWS
    assert all(len(columns) <= 2 for columns in read)
    assert points.head(5).select("row_id", "year", "update").collect().height == 5
    assert points.filter(pl.col("year").is_null() & (pl.col("row_id") < 30)).collect().height == 10


@pytest.mark.parametrize(
    "array",
    [
        *COLUMNS.values(),
        pa.array([2**64 - 1], pa.uint64()),
        pa.array([0.1], pa.float32()),
        pa.array([1_706_704_215_123_456_789], pa.int64()).cast(pa.timestamp("ns")),
        pa.array([MOMENT], pa.timestamp("ms", "+02:00")),
        pa.array(["a", None]).dictionary_encode(),
        pa.array(["x" * 400, "x" * 399 + "y"]),
    ],
    ids=lambda array: str(array.type),
)
def test_the_footer_holds_a_value_exactly_and_no_two_share_a_folder(array: pa.Array) -> None:
    plain = array.cast(array.type.value_type) if pa.types.is_dictionary(array.type) else array
    check_partition_type("c", array.type)
    folders = set()
    for value in plain.unique():
        facts = json.loads(json.dumps(partition_facts("c", value, array.type)))
        back = partition_values(facts, 2)
        assert len(back) == 2
        assert back.type == partition_type(facts) == array.type or pa.types.is_dictionary(array.type)
        held = back.cast(plain.type)[1]
        assert held == value or str(held) == str(value) == "nan"
        folders.add(partition_folder("c", value))
        assert all(len(folder) < 255 for folder in folders)
    assert len(folders) == len(plain.unique())
    assert (f"c={NULL}" in folders) == (plain.null_count > 0)


@pytest.mark.parametrize("column", ["tags", "person", "bytes", "span"])
def test_values_that_cannot_be_folder_names_are_refused_before_any_work(typed: latentscale.Map, column: str) -> None:
    workspace = latentscale.open(typed.store.url)
    before = {record.id for record in workspace.artifacts}
    with pytest.raises(ConfigError, match=f"partition_by: the values of '{column}'"):
        workspace.map(publish={"partition_by": column}, embed={"max_tokens": 17})
    assert {record.id for record in workspace.artifacts} == before


def test_the_workspace_may_be_inside_hive_folders(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": texts()}), tmp_path / "a.parquet")
    made = latentscale.run(
        tmp_path / "a.parquet", out=tmp_path / "run=3" / "kind=x" / "map", progress="quiet", project={"n_epochs": 20}
    )
    assert not {"run", "kind"} & set(made.points().collect_schema().names())


def test_points_are_compared_with_their_checksums(tmp_path: Path) -> None:
    made = make(tmp_path, {})
    path = next((tmp_path / "map" / "maps").rglob("part-00000.parquet"))
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedObjectError):
        made.export(tmp_path / "out.csv")
    assert not list(tmp_path.glob("*out.csv"))
    with pytest.raises(DamagedObjectError, match=r"part-00000\.parquet is damaged"):
        made.points().collect()


# --------------------------------------------------------------------------------------------------------------- export


def test_csv_holds_nested_values_as_json_and_bytes_as_digits(typed: latentscale.Map, tmp_path: Path) -> None:
    rows = pl.read_csv(typed.export(tmp_path / "a.csv"), infer_schema=False).sort(pl.col("row_id").cast(pl.Int64))
    first, second = rows.row(0, named=True), rows.row(1, named=True)
    assert json.loads(first["tags"]) == ["a", 'b"']
    assert json.loads(first["person"]) == {"name": "x", "born": "2024-01-31"}
    assert (first["pair"], first["bytes"], first["blobs"]) == ("[1, 2]", "ff00", '["01"]')
    assert (first["span"], first["price"], first["zip"]) == ("PT1.5S", "1.20", "007")
    assert second["tags"] == "[]"
    assert second["person"] is None


def test_json_lines_hold_nested_values_as_they_are(typed: latentscale.Map, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in typed.export(tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(lines) == ROWS
    first = min(lines, key=lambda row: row["row_id"])
    assert first["tags"] == ["a", 'b"']
    assert first["person"]["name"] == "x"
    assert (first["bytes"], json.loads(first["blobs"])) == ("ff00", ["01"])


def test_parquet_holds_all_types(typed: latentscale.Map, tmp_path: Path) -> None:
    exported = without_names(pl.read_parquet(typed.export(tmp_path / "a.parquet")))
    points = typed.points().collect().select(exported.columns)
    assert exported.equals(points.cast(exported.schema), null_equal=True)
    for name in ("tags", "person", "bytes", "span", "price"):
        assert exported[name].dtype == typed.points().collect_schema()[name]


WIDE = decimal.Decimal("1234567890123456789012345678901234567890.12")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> latentscale.Map:
    columns: dict[str, pa.Array] = {"d": pa.array([WIDE] * ROWS, pa.decimal256(50, 2))}
    return make(tmp_path_factory.mktemp("wide"), columns, publish={"viewer": False})


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_decimals_that_polars_cannot_hold_are_text(wide: latentscale.Map, tmp_path: Path, suffix: str) -> None:
    assert wide.points().collect()["d"].unique().to_list() == [str(WIDE)]
    read: dict[str, Callable[..., pl.DataFrame]] = {
        ".csv": lambda path: pl.read_csv(path, infer_schema=False),
        ".jsonl": pl.read_ndjson,
        ".parquet": pl.read_parquet,
    }
    assert read[suffix](wide.export(tmp_path / f"out{suffix}"))["d"].unique().to_list() == [str(WIDE)]


def test_documents_are_read_next_to_columns_that_polars_does_not_support(wide: latentscale.Map) -> None:
    documents = wide.documents().collect()
    assert len(documents) == ROWS
    assert documents["d"].unique().to_list() == [str(WIDE)]
    assert documents["text"].null_count() == 0


def test_values_that_json_has_no_form_for_are_null(tmp_path: Path) -> None:
    frame = pl.DataFrame({"v": [[1.5, float("nan"), float("inf")], None]})
    assert plain_frame(frame, ".csv")["v"].to_list() == ["[1.5, null, null]", None]


@pytest.mark.parametrize("partition_by", [None, "year"])
def test_texts_are_added_part_by_part_to_a_map_that_was_updated_and_partitioned(
    tmp_path: Path, partition_by: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentscale.stages.publish.points.POINTS_ROWS", 60)
    (tmp_path / "in").mkdir()
    table = pa.table({"id": [f"d{i}" for i in range(ROWS)], "text": texts(), "year": COLUMNS["year"]})
    pq.write_table(table.slice(0, 150), tmp_path / "in" / "a.parquet")
    latentscale.run(
        tmp_path / "in",
        out=tmp_path / "map",
        text="text",
        id="id",
        progress="quiet",
        ingest={"shard_rows": 40},
        project={"n_epochs": 20},
        cluster={"min_cluster_size": 10},
        publish={"partition_by": partition_by},
        update={"max_removed_fraction": 1},
    )
    # Some leave, some stay in another file, others come.
    (tmp_path / "in" / "a.parquet").unlink()
    pq.write_table(table.slice(30, ROWS - 30), tmp_path / "in" / "b.parquet")
    grown = latentscale.open(tmp_path / "map").update()
    assert len(grown.record.segments) == 2
    exported = without_names(pl.read_parquet(grown.export(tmp_path / "out.parquet", text=True)))
    assert dict(exported.select("id", "text").iter_rows()) == {f"d{i}": texts()[i] for i in range(30, ROWS)}
    exported = exported.drop("text")
    points = grown.points().collect().select(exported.columns)
    assert exported.equals(points.cast(exported.schema), null_equal=True)
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups >= 3


# ------------------------------------------------------------------------------------------------------ search, samples


def test_search_gives_what_a_product_with_all_vectors_gives(typed: latentscale.Map) -> None:
    query = "violin cello sonata"
    hits = typed.search(query, k=37)
    workspace = latentscale.open(typed.store.url)
    vectors = load_vectors(typed.store, workspace.snapshot, typed.record.request["embedding"])
    embedding = workspace.artifact(typed.record.request["embedding"])
    embedder = opened_embedder(read_spec(embedding.choices["spec"]))
    scores = vectors.matrix @ embedder.embed([query]).vectors[0]
    assert np.allclose([hit.score for hit in hits], np.sort(scores)[::-1][:37], atol=1e-6)
    assert [hit.text for hit in hits] == [texts()[hit.row_id] for hit in hits]
    assert len(typed.search(query, k=10_000)) == ROWS


def test_a_query_with_a_byte_that_is_not_utf8_is_searched_by_the_rest(typed: latentscale.Map) -> None:
    assert typed.search("chess \udce9", k=3) == typed.search("chess \ufffd", k=3)
    assert len(typed.find("chess \udce9", k=3)) == 3


def test_search_never_gathers_the_vectors(typed: latentscale.Map, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = parquet.read_parquet

    def watched(*arguments: Any, **options: Any) -> pa.Table:
        table = real(*arguments, **options)
        read.append(table.num_rows)
        return table

    monkeypatch.setattr("latentscale.storage.vectors.read_parquet", watched)
    assert len(typed.search("whale reef", k=3)) == 3
    assert sorted(read) == [40, 50, 50, 50, 50]


def test_a_sample_is_the_same_for_a_seed_and_has_the_texts(typed: latentscale.Map) -> None:
    one, again, other = typed.sample(12, seed=1), typed.sample(12, seed=1), typed.sample(12, seed=2)
    assert one.equals(again)
    assert one["row_id"].to_list() != other["row_id"].to_list()
    assert one["text"].to_list() == [texts()[i] for i in one["row_id"]]
    assert len(typed.sample(10_000)) == ROWS
    assert len(typed.sample(0)) == 0
    # Each document is as likely as any other.
    counts = np.zeros(ROWS)
    for seed in range(60):
        counts[typed.sample(60, seed=seed)["row_id"].to_numpy()] += 1
    assert counts.sum() == 3_600
    assert counts.std() < 6
    assert counts.min() > 0


def test_a_sample_by_density_has_more_of_the_sparse_regions(typed: latentscale.Map) -> None:
    distance = typed.points().collect().sort("row_id")["neighbor_distance"].to_numpy()
    distance = np.maximum(distance, 0.01)
    counts = np.zeros(ROWS)
    for seed in range(80):
        chosen = typed.sample(20, seed=seed, by="density", power=4)
        counts[chosen["row_id"].to_numpy()] += 1
    # As drawing without replacement by these weights has it, one after the other.
    random, expected = np.random.default_rng(0), np.zeros(ROWS)
    for _ in range(2_000):
        expected[random.choice(ROWS, 20, replace=False, p=distance**4 / (distance**4).sum())] += 80 / 2_000
    groups = np.array_split(np.argsort(distance), 4)
    for group in groups:
        assert counts[group].sum() == pytest.approx(expected[group].sum(), rel=0.2)
    assert counts[groups[3]].sum() > 1.5 * counts[groups[0]].sum()
    assert typed.sample(20, by="density").equals(typed.sample(20, by="density"))
    assert set(typed.sample(5, by="density", where="year = 2021")["year"]) == {2021}


def test_a_sample_by_cluster_has_as_many_of_each(typed: latentscale.Map) -> None:
    sizes = dict(typed.points().collect().group_by("cluster").len().rows())
    chosen = typed.sample(3 * len(sizes), by="cluster", seed=4)
    assert dict(chosen.group_by("cluster").len().rows()) == dict.fromkeys(sizes, 3)
    assert dict(typed.sample(ROWS, by="cluster").group_by("cluster").len().rows()) == sizes
    assert allocate_quotas(np.array([0, 5, 1, 9, 7]), 17).tolist() == [0, 5, 1, 6, 5]
    assert allocate_quotas(np.array([4, 2]), 99).tolist() == [4, 2]
    with pytest.raises(RequestError, match="has no layer 7"):
        typed.sample(5, by="cluster", layer=7)
    with pytest.raises(RequestError, match="not by density"):
        typed.sample(5, by="cluster", power=2)


def test_a_sample_keeps_to_its_condition_and_its_cluster(typed: latentscale.Map) -> None:
    assert set(typed.sample(5, where="year = 2021")["year"]) == {2021}
    assert set(typed.sample(5, where=pl.col("flag"))["flag"]) == {True}
    cluster = int(typed.points().select("cluster").collect()["cluster"].mode()[0])
    assert set(typed.sample(5, cluster=cluster, where="year = 2020")["cluster"]) <= {cluster}
    workspace = latentscale.open(typed.store.url)
    assert workspace.sample(5, map=typed.id, seed=3).equals(typed.sample(5, seed=3))
    for wrong in ("yeer = 2021", "year +", "max(year) = 2021", "year", "count(*) > 1"):
        with pytest.raises(RequestError, match="where"):
            typed.sample(5, where=wrong)
    with pytest.raises(RequestError, match="no cluster 4711"):
        typed.sample(5, cluster=4711)
