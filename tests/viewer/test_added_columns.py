"""Columns added to an exported page: files and entries equal those that publishing writes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

from latentscale.viewer.added_columns import AddedColumn, add_columns


def columns_of(data, names: list[str]) -> list[AddedColumn]:
    """A number and a category for every second document."""
    some = np.sort(data.row_ids)[::2]
    owner = dict(zip(data.row_ids.tolist(), data.nearest_clusters.tolist(), strict=True))
    return [
        AddedColumn(name="half", row_ids=some, values=some.astype(np.float32) / 2),
        AddedColumn(
            name="owner",
            row_ids=some,
            values=np.array([owner[row] for row in some.tolist()]),
            categories=names,
        ),
    ]


@pytest.mark.parametrize("n", [500, 20_000], ids=["inline", "tiles"])
def test_every_point_has_the_value_of_its_row(synthetic: ModuleType, tmp_path: Path, n: int) -> None:
    data = synthetic.make_data(n)
    synthetic.write_workspace(data, tmp_path)
    names = [f"owner {i}" for i in range(16)]
    add_columns(tmp_path, columns_of(data, names))
    folder = tmp_path / "maps/map-00000001/viewer"
    index = json.loads((folder / "index.json").read_text())
    half, owner = index["colours"][-2:]
    assert (half["name"], half["kind"], half["nulls"]) == ("half", "numbers", n // 2)
    some = np.sort(data.row_ids)[::2]
    assert (half["min"], half["max"], len(half["quantiles"])) == (some[0] / 2, pytest.approx(some[-1] / 2), 65)
    counts = np.bincount(data.nearest_clusters[np.argsort(data.row_ids)][::2], minlength=16)
    assert owner["categories"] == [[name, int(count)] for name, count in zip(names, counts, strict=True)]
    assert (owner["other"], owner["nulls"]) == ([0, 0], n // 2)
    row_ids = np.empty(n, np.int64)
    for path in sorted((folder / "ids").glob("*.parquet")):
        table = pq.ParquetFile(path).read()
        row_ids[table["position"].to_numpy()] = table["row_id"].to_numpy()
    pages = [index["page"]] if "page" in index else [json.loads(p.read_text()) for p in (folder / "pages").iterdir()]
    seen = 0
    for page in pages:
        for z, x, y, first, count, _, size, _ in page["tiles"]:
            tile = folder / f"tiles/{z}-{x}-{y}.parquet"
            assert tile.stat().st_size == size
            files = {one: folder / f"cols/{one}/{z}-{x}-{y}.parquet" for one in (half["id"], owner["id"])}
            inline = "page" in index
            halves, owners = (
                pq.ParquetFile(tile if inline else path).read()[one if inline else "value"].to_numpy()
                for one, path in files.items()
            )
            own = row_ids[first : first + count]
            known = np.isin(own, some)
            np.testing.assert_array_equal(halves, np.where(known, own / 2, np.nan).astype(np.float32))
            at = np.searchsorted(np.sort(data.row_ids), own)
            of_rows = data.nearest_clusters[np.argsort(data.row_ids)][at]
            np.testing.assert_array_equal(owners, np.where(known, of_rows, 255))
            seen += count
    assert seen == n


def test_rare_categories_share_a_code() -> None:
    rows = np.arange(200, dtype=np.int64)
    column = AddedColumn(name="many", row_ids=rows, values=rows // 2, categories=[str(i) for i in range(100)])
    codes = column.of(np.array([0, 125, 126, 199, 300]))
    assert codes.tolist() == [0, 62, 64, 64, 255]
    entry = column.entry("a0", column.of(rows))
    assert (len(entry["categories"]), entry["other"], entry["nulls"]) == (63, [37, 74], 0)


def test_removed_documents_are_not_counted(synthetic: ModuleType, tmp_path: Path) -> None:
    grown = synthetic.write_grown(tmp_path)
    row_ids = np.sort(np.array([3 * row + 5 for row in grown.rows], np.int64))
    column = AddedColumn(
        name="all", row_ids=row_ids, values=np.zeros(len(row_ids), np.int64), categories=["on the map"]
    )
    add_columns(tmp_path, [column])
    manifest = json.loads((tmp_path / "viewer/manifest.json").read_text())
    total = 0
    for entry in manifest["generations"]:
        index = json.loads((tmp_path / "viewer" / entry["url"] / "index.json").read_text())
        total += index["colours"][-1]["categories"][0][1]
    assert total == len(grown.rows)
