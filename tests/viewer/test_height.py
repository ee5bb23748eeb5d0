"""Heights in the files of the page: every document once, quantised, with unchanged tiles."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.errors import ShapeError
from latentscale.viewer import write_tiles

N = 40_000


def test_tiles_contain_every_height_and_rank_once(synthetic: ModuleType, tmp_path: Path) -> None:
    data = synthetic.make_data(N, heights=True)
    entry = write_tiles(data, synthetic.Disk(tmp_path / "high"), scratch=tmp_path)
    flat = write_tiles(dataclasses.replace(data, height=None), synthetic.Disk(tmp_path / "flat"), scratch=tmp_path)
    assert {k: v for k, v in entry.items() if k != "z"} == flat
    assert entry["tiles"] > 4
    folder = tmp_path / "high"
    # Whoever does not turn the map reads the same tiles.
    for path in (tmp_path / "flat/tiles").iterdir():
        assert path.read_bytes() == (folder / "tiles" / path.name).read_bytes()
    tiles = [tile for page in (folder / "pages").iterdir() for tile in json.loads(page.read_bytes())["tiles"]]
    assert len(list((folder / "cols/z").iterdir())) == len(tiles) == entry["tiles"]
    steps, ranks = np.full(N, -1), np.full(N, -1)
    for z, x, y, first, count, *_ in tiles:
        name = f"{z}-{x}-{y}.parquet"
        for column, target, kind in (("z", steps, pa.uint16()), ("density_3d", ranks, pa.uint8())):
            values = pq.read_table(folder / "cols" / column / name)["value"]
            assert values.type == kind
            assert len(values) == count
            assert (target[first : first + count] == -1).all()
            target[first : first + count] = values.to_numpy()
    assert (steps >= 0).all()
    ids = pa.concat_tables(pq.read_table(p) for p in (folder / "ids").iterdir()).sort_by("row_id")
    at = ids["position"].to_numpy()
    low, high = entry["z"]
    heights = low + (steps[at] + 0.5) / 65536 * (high - low)
    assert np.abs(heights - data.height.z).max() <= (high - low) / 131_072 * 1.01
    assert (ranks[at] == data.height.rank).all()
    assert np.bincount(ranks >> 6).tolist() == pytest.approx([N / 4] * 4, rel=0.01)
    size = sum(path.stat().st_size for path in (folder / "cols/z").iterdir())
    assert size < 2.1 * N
    labels = json.loads((folder / "labels.json").read_bytes())["clusters"]
    assert all(isinstance(label["z"], float) for label in labels)
    assert all("z" not in label for label in json.loads((tmp_path / "high/clusters.json").read_bytes()))


def test_heights_of_another_number_of_documents_are_refused(synthetic: ModuleType, tmp_path: Path) -> None:
    data = synthetic.make_data(100, heights=True)
    assert data.height is not None
    for wrong, why in (
        (dataclasses.replace(data.height, z=data.height.z[:99]), "heights for 100 documents"),
        (dataclasses.replace(data.height, z=np.full(100, np.nan, np.float32)), "not a finite number"),
    ):
        with pytest.raises(ShapeError, match=why):
            write_tiles(dataclasses.replace(data, height=wrong), synthetic.Disk(tmp_path / "x"), scratch=tmp_path)
