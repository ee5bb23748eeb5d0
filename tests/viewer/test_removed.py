"""Removed rows: their positions and counts, and the files that are read to find them."""

from __future__ import annotations

import io
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
from latentscale.viewer import ViewerData, positions_of, removed_file, write_removed, write_tiles

N = 40_000


class Reader:
    """``read`` of a generation's folder, which records the names read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def __call__(self, name: str) -> bytes:
        self.names.append(name)
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="module", params=[N, 900], ids=["many-tiles", "inline"])
def generation(
    request: pytest.FixtureRequest, synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], ViewerData]:
    data = synthetic.make_data(request.param)
    folder = tmp_path_factory.mktemp("generation")
    return folder, write_tiles(data, synthetic.Disk(folder), scratch=tmp_path_factory.mktemp("scratch")), data


def test_positions_are_those_of_the_row_packs(generation: tuple[Path, dict[str, Any], ViewerData]) -> None:
    folder, entry, data = generation
    wanted = np.sort(np.random.default_rng(1).choice(data.row_ids, 200, replace=False))
    positions = positions_of(Reader(folder), entry, wanted)
    packs = sorted((folder / "rows").glob("*.parquet"), key=lambda path: int(path.stem))
    ids = np.concatenate([pq.read_table(path, columns=["row_id"])["row_id"].to_numpy() for path in packs])
    assert np.array_equal(positions, np.sort(np.flatnonzero(np.isin(ids, wanted))))


def test_only_files_that_contain_the_rows_are_read(synthetic: ModuleType, tmp_path: Path) -> None:
    data = synthetic.make_data(N)
    entry = write_tiles(data, synthetic.Disk(tmp_path / "g"), scratch=tmp_path)
    read = Reader(tmp_path / "g")
    assert len(positions_of(read, entry, data.row_ids[-5:])) == 5
    assert read.names == ["index.json", "ids/2.parquet"]
    read.names.clear()
    assert len(positions_of(read, entry, data.row_ids[:0])) == 0
    assert read.names == []


@pytest.mark.parametrize("rows", [[6], [5, 6], [-1], [10**12]])
def test_a_missing_row_is_reported(generation: tuple[Path, dict[str, Any], ViewerData], rows: list[int]) -> None:
    folder, entry, _ = generation
    with pytest.raises(ShapeError, match=f"1 of {len(rows)} row ids are not in the generation"):
        positions_of(Reader(folder), entry, np.array(rows))


def test_row_ids_must_be_strictly_ascending(generation: tuple[Path, dict[str, Any], ViewerData]) -> None:
    folder, entry, _ = generation
    for rows in ([8, 5], [5, 5]):
        with pytest.raises(ShapeError, match="must be strictly ascending"):
            positions_of(Reader(folder), entry, np.array(rows))


def test_the_file_is_parquet_of_sorted_positions(tmp_path: Path) -> None:
    positions = np.sort(np.random.default_rng(2).choice(10**6, 5_000, replace=False))
    content = removed_file(positions[::-1])
    (tmp_path / "removed-0.parquet").write_bytes(content)
    table = pq.read_table(tmp_path / "removed-0.parquet")
    assert table.schema.names == ["position"]
    assert table.schema.types == [pa.int64()]
    assert np.array_equal(table["position"].to_numpy(), positions)
    assert duckdb.sql(f"select count(*) from '{tmp_path}/removed-0.parquet'").fetchall() == [(5_000,)]
    assert len(content) < 2 * len(positions)
    assert content == removed_file(positions), "the same bytes every time"
    assert pq.read_table(io.BytesIO(removed_file(positions[:0]))).num_rows == 0


def test_counts_of_removed_rows_are_stored_with_them(generation: tuple[Path, dict[str, Any], ViewerData]) -> None:
    folder, entry, data = generation
    rows = np.sort(np.random.default_rng(3).choice(len(data.row_ids), 300, replace=False))
    content, removed = write_removed(Reader(folder), entry, data.row_ids[rows])
    assert removed == {"count": 300, "noise": int((data.clusters[rows] < 0).sum())}
    counts = json.loads(pq.read_metadata(io.BytesIO(content)).metadata[b"latentscale.removed"])
    index = json.loads((folder / "index.json").read_bytes())
    by_name = {column["name"]: (column, counts["columns"][column["id"]]) for column in index["colours"]}
    kind, codes = by_name["kind"]
    for code, (name, _) in enumerate(kind["categories"]):
        expected = int((data.nearest_clusters[rows] % 5 == int(name.removeprefix("kind "))).sum())
        assert codes.get(str(code), 0) == expected
    assert by_name["score"][1] == {"255": int((rows % 10 == 0).sum())}


def test_a_later_update_reads_only_what_is_newly_removed(
    generation: tuple[Path, dict[str, Any], ViewerData],
) -> None:
    folder, entry, data = generation
    first = data.row_ids[np.arange(0, 400, 2)]
    both = data.row_ids[:400]
    before, _ = write_removed(Reader(folder), entry, first)
    at_once = write_removed(Reader(folder), entry, both)
    read = Reader(folder)
    assert write_removed(read, entry, both, previous=before) == at_once
    read.names.clear()
    assert write_removed(read, entry, first, previous=before)[0] == before
    assert not [name for name in read.names if name.startswith(("tiles/", "cols/"))]
    # A row that came back: what was counted before does not hold.
    assert write_removed(read, entry, first[1:], previous=before) == write_removed(read, entry, first[1:])
