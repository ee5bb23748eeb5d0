"""Output of write_tiles: complete, deterministic, readable by any parquet reader."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.errors import ShapeError
from latentscale.viewer import ViewerData, write_tiles
from latentscale.viewer import rows as row_packs

N = 40_000


@pytest.fixture(scope="module")
def data(synthetic: ModuleType) -> ViewerData:
    return synthetic.make_data(N)


@pytest.fixture(scope="module")
def written(
    synthetic: ModuleType, data: ViewerData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("generation")
    return folder, write_tiles(data, synthetic.Disk(folder), scratch=tmp_path_factory.mktemp("scratch"))


def deinterleave(code: np.ndarray) -> np.ndarray:
    return sum(((code >> (2 * bit)) & 1) << bit for bit in range(16))


def pages(folder: Path) -> tuple[list[list[int]], list[list[int]]]:
    tiles: list[list[int]] = []
    packs: dict[int, list[int]] = {}
    for path in (folder / "pages").iterdir():
        page = json.loads(path.read_bytes())
        tiles += page["tiles"]
        packs |= {pack[0]: pack for pack in page["packs"]}
    return sorted(tiles, key=lambda tile: tile[3]), [packs[i] for i in sorted(packs)]


def test_tiles_contain_every_point_of_the_map_with_its_cluster(
    written: tuple[Path, dict[str, Any]], data: ViewerData
) -> None:
    folder, entry = written
    tiles, _ = pages(folder)
    assert len(tiles) == entry["tiles"] == len(list((folder / "tiles").iterdir()))
    places, clusters = [], []
    for z, x, y, _, count, _, size, _ in tiles:
        path = folder / f"tiles/{z}-{x}-{y}.parquet"
        table = pq.read_table(path)
        assert (table.num_rows, path.stat().st_size) == (count, size)
        assert table.schema.types == [pa.uint32(), pa.int32()]
        code = table["place"].to_numpy().astype(np.int64)
        assert (np.diff(code) >= 0).all()
        edge = entry["side"] / 2**z
        corner = np.array(entry["origin"]) + np.array([x, y]) * edge
        places.append(corner + (np.stack([deinterleave(code), deinterleave(code >> 1)], 1) + 0.5) / 65536 * edge)
        clusters.append(table["cluster"].to_numpy())
    got = np.column_stack([np.concatenate(places), np.concatenate(clusters)])
    # Through ids/, which say at which position each document stands.
    ids = pa.concat_tables(pq.read_table(p) for p in (folder / "ids").iterdir()).sort_by("row_id")
    assert ids["row_id"].to_pylist() == data.row_ids.tolist()
    at = got[ids["position"].to_numpy()]
    assert np.abs(at[:, :2] - data.coordinates).max() <= entry["side"] / 131072 * 1.01
    assert (at[:, 2] == data.clusters).all()


def test_row_packs_contain_every_document_once_at_its_position(
    written: tuple[Path, dict[str, Any]], data: ViewerData, synthetic: ModuleType
) -> None:
    folder, entry = written
    _, packs = pages(folder)
    assert len(packs) == entry["packs"] == len(list((folder / "rows").iterdir()))
    ids = pa.concat_tables(pq.read_table(p) for p in (folder / "ids").iterdir())
    position = dict(zip(ids["row_id"].to_pylist(), ids["position"].to_pylist(), strict=True))
    seen = 0
    for index, first, size, footer in packs:
        path = folder / f"rows/{index}.parquet"
        blob = path.read_bytes()
        assert len(blob) == size
        assert int.from_bytes(blob[-8:-4], "little") + 8 == footer
        table = pq.read_table(path)
        assert table.column_names == ["row_id", *data.columns]
        assert first == seen
        for i, (row, text) in enumerate(zip(table["row_id"].to_pylist(), table["body"].to_pylist(), strict=True)):
            assert position[row] == first + i
            assert text == synthetic.text_of((row - 5) // 3)
        seen += table.num_rows
    assert seen == N


def test_a_row_group_is_small_enough_for_one_request(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    for path in (folder / "rows").iterdir():
        meta = pq.read_metadata(path)
        for i in range(meta.num_row_groups):
            assert meta.row_group(i).num_rows <= row_packs.GROUP_ROWS
            assert meta.row_group(i).total_byte_size <= 1.3 * row_packs.GROUP_BYTES


def test_duckdb_reads_tiles_rows_and_columns(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    for glob in ("tiles/*", "rows/*", "cols/density/*", "cols/nearest_cluster/*", "cols/c1/*", "ids/*"):
        assert duckdb.sql(f"select count(*) from read_parquet('{folder}/{glob}.parquet')").fetchall() == [(N,)]


def test_output_bytes_do_not_depend_on_the_batches(
    written: tuple[Path, dict[str, Any]], synthetic: ModuleType, tmp_path: Path
) -> None:
    folder, entry = written
    again = synthetic.make_data(N, batch=777)
    assert write_tiles(again, synthetic.Disk(tmp_path / "b"), scratch=tmp_path) == entry
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path / "b").as_posix() for p in (tmp_path / "b").rglob("*") if p.is_file())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_documents_beyond_the_memory_limit_are_spilled_to_disk(
    written: tuple[Path, dict[str, Any]],
    synthetic: ModuleType,
    data: ViewerData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, _ = written
    monkeypatch.setattr(row_packs, "_BUFFER_BYTES", 200_000)
    monkeypatch.setattr(row_packs, "_BUCKET_BYTES", 300_000)
    write_tiles(data, synthetic.Disk(tmp_path / "b"), scratch=tmp_path)
    order = "select body, url from read_parquet('{}/rows/*.parquet') order by row_id"
    expected = duckdb.sql(order.format(folder)).fetchall()
    assert duckdb.sql(order.format(tmp_path / "b")).fetchall() == expected
    assert [p.name for p in tmp_path.iterdir()] == ["b"], "scratch is left as it was"


def test_colour_columns_are_those_with_informative_values(
    written: tuple[Path, dict[str, Any]], data: ViewerData
) -> None:
    folder, _ = written
    index = json.loads((folder / "index.json").read_bytes())
    colours = {entry["name"]: entry for entry in index["colours"]}
    assert set(colours) == {"kind", "score", "published", "__proto__"}, "texts and names that all differ are left out"
    assert sum(count for _, count in colours["kind"]["categories"]) == N
    assert colours["score"]["nulls"] == N // 10
    assert (colours["score"]["min"], colours["score"]["max"]) == (1, N - 1)
    assert colours["published"]["kind"] == "dates"
    assert colours["published"]["max"] == 3649
    # Values stand in the order of the tile's points.
    tiles, _ = pages(folder)
    z, x, y, first, count, *_ = tiles[1]
    ids = pa.concat_tables(pq.read_table(p) for p in (folder / "ids").iterdir()).sort_by("position")
    rows = (ids["row_id"].to_numpy()[first : first + count] - 5) // 3
    score = pq.read_table(folder / f"cols/{colours['score']['id']}/{z}-{x}-{y}.parquet")["value"].to_numpy()
    assert np.array_equal(score, np.where(rows % 10 == 0, np.nan, rows).astype(np.float32), equal_nan=True)


def test_a_point_costs_less_than_three_bytes(written: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = written
    assert sum(p.stat().st_size for p in (folder / "tiles").iterdir()) / N < 3


def test_a_map_of_one_document_is_one_tile(synthetic: ModuleType, tmp_path: Path) -> None:
    entry = write_tiles(synthetic.make_data(1), synthetic.Disk(tmp_path / "g"), scratch=tmp_path)
    assert (entry["documents"], entry["tiles"], entry["packs"]) == (1, 1, 1)


def test_a_stream_in_another_order_is_refused(synthetic: ModuleType, tmp_path: Path) -> None:
    data = synthetic.make_data(100)
    swapped = dataclasses.replace(data, row_ids=data.row_ids[::-1].copy())
    with pytest.raises(ShapeError, match="not in the order of the map"):
        write_tiles(swapped, synthetic.Disk(tmp_path / "g"), scratch=tmp_path)


def test_coordinates_that_are_not_numbers_are_refused(synthetic: ModuleType, tmp_path: Path) -> None:
    data = synthetic.make_data(100)
    broken = data.coordinates.copy()
    broken[[3, 9]] = np.nan
    with pytest.raises(ShapeError, match="2 of 100 documents"):
        write_tiles(dataclasses.replace(data, coordinates=broken), synthetic.Disk(tmp_path / "g"), scratch=tmp_path)


def test_columns_of_every_arrow_type_can_be_published(synthetic: ModuleType, tmp_path: Path) -> None:
    data = synthetic.make_data(50)
    base = pa.table(
        {
            "row_id": data.row_ids,
            "list": [[1, 2]] * 50,
            "struct": [{"a": 1}] * 50,
            "binary": [b"\x00\xff"] * 50,
            "nothing": pa.nulls(50),
            "decimal": pa.array([1] * 50).cast(pa.decimal128(22, 3)),
            "half": pa.array([1.5] * 50, pa.float16()),
            "time": pa.array([1] * 50, pa.time64("us")),
            "stamp": pa.array([1_700_000_000_000_000] * 50, pa.timestamp("us", "UTC")),
            "coded": pa.array(["a"] * 50).dictionary_encode(),
            "truth": [True, None] * 25,
            "big": pa.array([2**63] * 50, pa.uint64()),
            "body": ["text"] * 50,
        }
    )
    changed = dataclasses.replace(data, documents=lambda: iter(base.to_batches()), columns=base.column_names[1:])
    write_tiles(changed, synthetic.Disk(tmp_path / "g"), scratch=tmp_path)
    table = pq.read_table(tmp_path / "g/rows/0.parquet")
    assert table["list"][0].as_py() == "[1, 2]"
    assert table["big"][0].as_py() == 2**63
    colours = json.loads((tmp_path / "g/index.json").read_bytes())["colours"]
    assert {c["name"] for c in colours} >= {"truth", "coded", "half", "stamp", "decimal"}
