"""The picture of all documents, that lies under a sample of them."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq

from latentscale.viewer.raster import RASTER_CELLS, RASTER_LEAST, density_raster


def read(content: bytes) -> np.ndarray:
    return pq.read_table(io.BytesIO(content))["value"].to_numpy().reshape(RASTER_CELLS, RASTER_CELLS)


def test_a_cell_is_the_logarithm_of_its_documents_from_the_lowest_row_on() -> None:
    points = np.array([[0, 0]] * 1 + [[9.99, 0]] * 9 + [[0, 9.99]] * 99, np.float32)
    values = read(density_raster(points, origin=(0.0, 0.0), side=10.0))
    assert values[0, 0] == round(255 * np.log(2) / np.log(100))
    assert values[0, -1] == round(255 * np.log(10) / np.log(100))
    assert values[-1, 0] == 255
    assert (values > 0).sum() == 3


def test_no_document_is_without_a_shade_and_no_other_cell_has_one() -> None:
    random = np.random.default_rng(5)
    points = np.concatenate([random.normal(0, 1, (200_000, 2)), [[7.5, -7.5]]]).astype(np.float32)
    values = read(density_raster(points, origin=(-8.0, -8.0), side=16.0))
    cells = np.floor((points.astype(float) + 8) * RASTER_CELLS / 16).astype(int)
    expected = np.zeros((RASTER_CELLS, RASTER_CELLS), bool)
    expected[cells[:, 1], cells[:, 0]] = True
    assert ((values > 0) == expected).all()


def test_only_maps_of_which_a_sample_is_drawn_have_one(synthetic, tmp_path) -> None:
    from latentscale.viewer import write_tiles

    for n, there in ((RASTER_LEAST - 1, False), (RASTER_LEAST, True)):
        names: dict[str, bytes] = {}
        data = synthetic.make_data(n, batch=8_192)
        entry = write_tiles(data, names.__setitem__, scratch=tmp_path)
        assert ("density.parquet" in names) == there
        assert entry.get("raster") == (RASTER_CELLS if there else None)
        if there:
            assert len(names["density.parquet"]) < 60_000
