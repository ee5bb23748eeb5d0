"""Reading parquet in bounded pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.config import CorpusConfig
from latentscale.errors import CorpusError
from latentscale.readers.parquet import BATCH_BYTES, distinct_names, read_parquet_rows
from latentscale.storage.inputs import list_inputs, open_input


def test_a_small_file_that_decodes_to_much_comes_in_small_pieces(tmp_path: Path):
    text = pa.array(["x" * 100_000]).take(pa.array(np.zeros(5_000, dtype=np.int64)))
    pq.write_table(pa.table({"text": text.dictionary_encode()}), tmp_path / "a.parquet", compression="zstd")
    file = list_inputs(CorpusConfig(sources=(str(tmp_path / "a.parquet"),)))[0]
    assert file.size < 100_000
    before = pa.total_allocated_bytes()
    rows = most = 0
    with open_input(file, {}) as raw:
        for block in read_parquet_rows(file, raw, None):
            rows += block.size
            assert block.table.nbytes <= BATCH_BYTES + 200_000
            most = max(most, pa.total_allocated_bytes() - before)
    assert rows == 5_000
    assert most < 8 * BATCH_BYTES


def test_a_flipped_byte_in_a_checked_page_is_refused(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(1_000)]}), path, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    data[200] ^= 0x10
    path.write_bytes(data)
    file = list_inputs(CorpusConfig(sources=(str(path),)))[0]
    with open_input(file, {}) as raw, pytest.raises(CorpusError, match="not a whole parquet file"):
        list(read_parquet_rows(file, raw, None))


def test_types_are_carried_through(tmp_path: Path):
    import datetime
    import decimal

    table = pa.table(
        {
            "text": pa.array(["a", None]),
            "when": pa.array([datetime.datetime(2026, 1, 2, 3, 4), None], pa.timestamp("us", tz="UTC")),
            "day": pa.array([datetime.date(2026, 1, 2), None]),
            "price": pa.array([decimal.Decimal("1.50"), None]),
            "tags": pa.array([["a", "b"], None]),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "small": pa.array([1, 2], pa.int8()),
            "raw": pa.array([b"\xff", None]),
            "half": pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    file = list_inputs(CorpusConfig(sources=(str(tmp_path / "a.parquet"),)))[0]
    with open_input(file, {}) as raw:
        blocks = list(read_parquet_rows(file, raw, None))
    got = blocks[0].table
    assert got.to_pylist() == table.to_pylist()
    kinds = {field.name: field.type for field in got.schema}
    assert kinds["kind"] == pa.string()
    assert {n: k for n, k in kinds.items() if n != "kind"} == {
        field.name: field.type for field in table.schema if field.name != "kind"
    }


def test_names_of_columns_become_distinct():
    assert distinct_names(["a", "", "a", "a_2", ""]) == ["a", "column_2", "a_3", "a_2", "column_5"]
