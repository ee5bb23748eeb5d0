"""The density raster of all documents, drawn behind a sample of points."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq

from latentscale.viewer.raster import RASTER_CELLS, RASTER_LEAST, density_raster


def read(content: bytes) -> np.ndarray:
    return pq.read_table(io.BytesIO(content))["value"].to_numpy().reshape(RASTER_CELLS, RASTER_CELLS)


def test_cells_are_the_logarithm_of_smoothed_counts_from_the_lowest_row() -> None:
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(5)
    points = np.concatenate([random.normal(0, 1, (200_000, 2)), [[7.5, -7.5]] * 9000]).astype(np.float32)
    values = read(density_raster(points, origin=(-8.0, -8.0), side=16.0))
    cells = np.clip(np.floor((points.astype(float) + 8) * RASTER_CELLS / 16).astype(int), 0, RASTER_CELLS - 1)
    counts = np.zeros((RASTER_CELLS, RASTER_CELLS))
    np.add.at(counts, (cells[:, 1], cells[:, 0]), 1)
    spread = np.log1p(gaussian_filter(counts, 2.0, mode="constant", truncate=4.0))
    assert np.abs(values - spread / spread.max() * 252).max() < 3
    assert values.max() == values[cells[-1, 1], cells[-1, 0]] == 252
    assert cells[-1, 1] < RASTER_CELLS / 2 < cells[-1, 0]


def test_only_maps_drawn_as_a_sample_have_a_density_raster(synthetic, tmp_path) -> None:
    from latentscale.viewer import write_tiles

    for n, there in ((RASTER_LEAST - 1, False), (RASTER_LEAST, True)):
        names: dict[str, bytes] = {}
        data = synthetic.make_data(n, batch=8_192)
        entry = write_tiles(data, names.__setitem__, scratch=tmp_path)
        assert ("density.parquet" in names) == there
        assert entry.get("raster") == (RASTER_CELLS if there else None)
        if there:
            assert len(names["density.parquet"]) < 30_000
