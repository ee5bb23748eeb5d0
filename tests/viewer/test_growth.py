"""Maps that grow by updates: each generation keeps the colours, codes and labels of earlier ones."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from latentscale.errors import ShapeError
from latentscale.viewer import (
    ViewerData,
    continued,
    manifest_bytes,
    map_density,
    page_files,
    with_hues,
    write_labels,
    write_tiles,
)
from latentscale.viewer.labels import cluster_hues, label_entries
from latentscale.viewer.palette import cluster_colors


@pytest.fixture(scope="module")
def grown(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("grown")
    return folder, synthetic.write_grown(folder)


def labels_of(folder: Path, g: int) -> dict[str, Any]:
    return json.loads((folder / f"maps/map-0000000{g}/viewer/labels.json").read_bytes())


def index_of(folder: Path, g: int) -> dict[str, Any]:
    return json.loads((folder / f"maps/map-0000000{g}/viewer/index.json").read_bytes())


def test_a_cluster_keeps_its_hue_and_shade_through_updates(grown: tuple[Path, Any]) -> None:
    folder, _ = grown
    seen: dict[tuple[int, int], tuple[int, float]] = {}
    for g in range(3):
        for cluster in labels_of(folder, g)["clusters"]:
            colour = cluster["hue"], cluster["shade"]
            assert seen.setdefault((cluster["layer"], cluster["id"]), colour) == colour
    assert len(seen) == 16 + 4
    assert {c["id"] for c in labels_of(folder, 2)["clusters"]} - {c["id"] for c in labels_of(folder, 1)["clusters"]}


def test_a_small_update_writes_nine_objects_whatever_its_columns(grown: tuple[Path, Any]) -> None:
    folder, map_ = grown
    update = folder / "maps/map-00000001/viewer"
    names = {p.relative_to(update).as_posix() for p in update.rglob("*") if p.is_file()}
    written = {"clusters.json", "ids/0.parquet", "index.json", "labels.json", "rows/0.parquet", "tiles/0-0-0.parquet"}
    written |= {f"sections/{name}/0.parquet" for name in ("search/terms", "similar/lists", "similar/back")}
    assert names == written | {"removed-0.parquet"}
    assert map_.entries[1]["inline"] is True
    rows = duckdb.sql(f"select * from '{update}/tiles/0-0-0.parquet'")
    assert rows.columns == ["place", "cluster", "density", "nearest_cluster", "c1", "c2", "c3", "fine"]
    assert len(rows.fetchall()) == 600


def test_categories_keep_their_codes_and_new_ones_are_appended(grown: tuple[Path, Any]) -> None:
    folder, _ = grown
    names = [[name for name, _ in index_of(folder, g)["colours"][0]["categories"]] for g in range(3)]
    assert names[0] == names[1] == names[2][:-1]
    assert names[2][-1] == "kind 9"
    empty = index_of(folder, 1)["colours"][2]
    assert (empty["name"], empty["kind"], empty["nulls"]) == ("source", "categories", 600)


def test_an_update_uses_the_view_and_square_of_the_whole_map(grown: tuple[Path, Any]) -> None:
    _, map_ = grown
    assert map_.entries[0]["view"] == map_.entries[1]["view"] == map_.entries[2]["view"]
    assert map_.parts[2].side == pytest.approx(map_.entries[0]["side"], rel=0.2)


def test_an_update_uses_the_density_of_the_whole_map(grown: tuple[Path, Any]) -> None:
    folder, map_ = grown
    first, update = map_.parts[0], map_.parts[1]
    table = duckdb.sql(f"select density from '{folder}/maps/map-00000001/viewer/tiles/0-0-0.parquet'").fetchnumpy()
    whole = map_density(np.concatenate([first.coordinates, update.coordinates]))
    assert sorted(table["density"].tolist()) == sorted(whole[-600:].tolist())
    assert np.corrcoef(whole[:20_000], map_density(first.coordinates))[0, 1] > 0.99


@pytest.mark.parametrize("density", [np.zeros(3), np.full(100, 1.5), np.zeros(100, np.int32), np.full(100, np.nan)])
def test_an_invalid_density_is_refused(synthetic: ModuleType, tmp_path: Path, density: np.ndarray) -> None:
    data = dataclasses.replace(synthetic.make_data(100), density=density)
    with pytest.raises(ShapeError, match="density"):
        write_tiles(data, synthetic.Disk(tmp_path / "g"), scratch=tmp_path)


def test_a_column_keeps_its_kind_for_any_values_of_an_update(synthetic: ModuleType, tmp_path: Path) -> None:
    def data(columns: dict[str, pa.Array]) -> ViewerData:
        n = len(next(iter(columns.values())))
        base = synthetic.make_data(n)

        def documents() -> Iterator[pa.RecordBatch]:
            yield pa.record_batch({"row_id": base.row_ids, **columns})

        return dataclasses.replace(base, documents=documents, columns=list(columns), text_column=None)

    many = np.arange(1_000)
    first = data(
        {
            "year": pa.array(many % 300),
            "stars": pa.array(many % 5),
            "name": pa.array([f"name {i % 100}" for i in range(1_000)]),
            "flag": pa.array([i % 2 == 0 for i in range(1_000)]),
            "day": pa.array((many % 50).astype("datetime64[D]")),
        }
    )
    disk = synthetic.Disk(tmp_path / "g0")
    entry = write_tiles(first, disk, scratch=tmp_path)
    update = data(
        {
            "year": pa.array([7, 8, 7, None]),  # few values: alone it would be categories
            "stars": pa.array([9, 3, None, 11]),
            "name": pa.array(["name 1", "name 77", "new", "x" * 900]),
            "flag": pa.nulls(4),
            "day": pa.array(["a", "b", "c", "d"]),  # became text: no colour of before tells it
        }
    )
    update = continued(update, [entry], lambda name: (tmp_path / "g0" / name).read_bytes())
    write_tiles(update, synthetic.Disk(tmp_path / "g1"), scratch=tmp_path)
    before = {c["name"]: c for c in json.loads((tmp_path / "g0/index.json").read_bytes())["colours"]}
    after = {c["name"]: c for c in json.loads((tmp_path / "g1/index.json").read_bytes())["colours"]}
    assert {name: c["kind"] for name, c in after.items()} == {
        "year": "numbers",
        "stars": "categories",
        "name": "categories",
        "flag": "categories",
    }
    assert [name for name, _ in after["stars"]["categories"]] == ["0", "1", "2", "3", "4", "11", "9"]
    assert before["name"]["other"][0] > 0
    assert [name for name, _ in after["name"]["categories"]] == [name for name, _ in before["name"]["categories"]]
    assert after["name"]["other"][1] + sum(n for _, n in after["name"]["categories"]) == 4
    assert after["flag"]["nulls"] == 4
    assert before["day"]["kind"] == "dates"


def make_table(rows: list[tuple[int, int, int | None, int, float, float]]) -> pa.Table:
    names = ("layer", "cluster", "parent", "size", "x", "y")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])


def random_table(ids: list[int], seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    return make_table([(0, i, None, int(random.integers(1, 999)), *random.normal(0, 3, 2).tolist()) for i in ids])


def test_hues_are_carried_over_by_id_when_clusters_change() -> None:
    first = with_hues(random_table([3, 17, 90, 4_000, 12], seed=1))
    after = with_hues(random_table([4_000, 5, 90, 3, 6, 7, 12], seed=2), first)
    was = dict(zip(first["cluster"].to_pylist(), first["hue"].to_pylist(), strict=True))
    now = dict(zip(after["cluster"].to_pylist(), after["hue"].to_pylist(), strict=True))
    assert all(now[i] == was[i] for i in (3, 90, 4_000, 12))
    assert not {now[i] for i in (5, 6, 7)} & {now[i] for i in (3, 90, 4_000, 12)}, "twelve hues have room for seven"
    # A table without hues is as it was coloured then, and one with hues of its own keeps them.
    assert cluster_hues(after.drop_columns(["hue", "shade"]), first.drop_columns(["hue", "shade"]))[0].tolist() == list(
        now.values()
    )
    assert cluster_hues(after)[0].tolist() == list(now.values())
    # Twice changes nothing.
    assert with_hues(after, first).equals(after)


def test_new_parts_of_a_known_cluster_get_its_hue_in_shades_of_their_own() -> None:
    coarse = [(1, 10 * c, None, 100, float(c), 0.0) for c in range(6)]
    fine = [(0, 7 * c + k, 10 * c, 20, c + 0.1 * k, 0.0) for c in range(6) for k in range(3)]
    first = with_hues(make_table(coarse + fine))
    more = [(0, 1_000 + k, 10, 15, 1 + 0.05 * k, 0.1) for k in range(3)]
    # A new region of old clusters: their name is new, their colour is not.
    moved = [(layer, c, 77 if c in (0, 1, 2) else p, n, x, y) for layer, c, p, n, x, y in fine]
    after = with_hues(make_table([(1, 77, None, 60, 0.0, 0.0), *coarse[1:], *moved, *more]), first)
    rows = {(r["layer"], r["cluster"]): r for r in after.to_pylist()}
    was = {(r["layer"], r["cluster"]): r for r in first.to_pylist()}
    for key in was.keys() & rows.keys():
        assert (rows[key]["hue"], rows[key]["shade"]) == (was[key]["hue"], was[key]["shade"])
    assert rows[1, 77]["hue"] == was[1, 0]["hue"]
    family = [row for (layer, _), row in rows.items() if layer == 0 and row["parent"] == 10]
    assert {row["hue"] for row in family} == {rows[1, 10]["hue"]}
    assert len({round(row["shade"], 3) for row in family}) == 6


def test_colours_are_indexed_by_sparse_cluster_ids() -> None:
    table = with_hues(random_table([2, 9_000, 40], seed=3))
    colors = cluster_colors(table, theme="dark")
    assert colors.shape == (9_001, 3)
    assert (colors.any(axis=1).nonzero()[0] == [2, 40, 9_000]).all()


def test_labels_keep_colours_given_in_their_table(grown: tuple[Path, Any]) -> None:
    _, map_ = grown
    entries, _ = label_entries(map_.labels[2], side=20.0)
    rows = {(r["layer"], r["cluster"]): r["hue"] for r in map_.labels[2].to_pylist()}
    assert {(c["layer"], c["id"]): c["hue"] for c in entries["clusters"]} == rows


def test_the_manifest_of_eight_generations_is_small(grown: tuple[Path, Any]) -> None:
    _, map_ = grown
    wide = {
        **map_.entries[0],
        "documents": 98_765_432,
        "noise": 12_345_678,
        "layers": [12_345, 1_234, 321, 45, 6],
        "origin": [-12.345678901234567, -23.456789012345678],
        "side": 34.567890123456789,
        "extent": [-12.34568, -12.34568, 12.34568, 12.34568],
        "tiles": 123_456,
        "packs": 234_567,
        "added": "2026-01-01 12:34 UTC",
        "url": "../maps/map-0123456789abcdef/viewer/",
        "removed": {"url": "../maps/map-0123456789abcdef/viewer/removed-7.parquet", "count": 654_321, "noise": 98_765},
    }
    title = "A title of quite some length, as people give them to the maps of their companies' documents"
    content = manifest_bytes([{**wide, "name": title}] * 8, title=title)
    assert len(content) < 5_500
    assert "name" not in json.loads(content)["generations"][0]


@pytest.mark.parametrize(
    "removed",
    [
        {"url": "https://example.org/r.parquet", "count": 1},
        {"url": "/r.parquet", "count": 1},
        {"url": "", "count": 1},
        {"url": "../maps/m/viewer/removed-0.parquet", "count": 0},
        {"url": "../maps/m/viewer/removed-0.parquet", "count": 20_001},
    ],
)
def test_removed_documents_need_a_relative_file_and_a_valid_count(
    grown: tuple[Path, Any], removed: dict[str, Any]
) -> None:
    _, map_ = grown
    with pytest.raises(ShapeError, match="removed"):
        manifest_bytes([{**map_.entries[0], "removed": removed}], title="t")


def test_an_update_that_only_removes_documents_writes_labels(
    grown: tuple[Path, Any], synthetic: ModuleType, tmp_path: Path
) -> None:
    _, map_ = grown
    disk = synthetic.Disk(tmp_path / "g")
    assert write_labels(map_.labels[2], disk, side=20.0) == [16, 4]
    assert disk.names == ["labels.json", "clusters.json"]
    manifest = json.loads(manifest_bytes(map_.entries, title="t", labels="../maps/map-9/viewer/"))
    assert manifest["labels"] == "../maps/map-9/viewer/"
    with pytest.raises(ShapeError, match="folder of the labels"):
        manifest_bytes(map_.entries, title="t", labels="/maps/map-9/viewer/")


def test_the_index_is_the_last_file_of_the_page() -> None:
    names = [name for name, content in page_files() if content]
    assert names[-1] == "index.html"
    assert all(name.startswith("assets/") for name in names[:-1])


def test_an_update_imports_neither_scipy_nor_numba(synthetic: ModuleType, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(synthetic.__file__).parent)!r})
import synthetic
from latentscale.viewer import write_tiles
write_tiles(synthetic.make_data(600), lambda name, content: None, scratch=Path({str(tmp_path)!r}))
print([name for name in ("scipy", "numba", "sklearn", "umap", "polars") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
