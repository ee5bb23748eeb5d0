from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from latentscale.errors import DamagedObjectError
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, open_parquet, read_footer, read_parquet, write_parquet


def table() -> pa.Table:
    values = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float16)
    return pa.table(
        {
            "row": pa.array(np.arange(500, dtype=np.int32)),
            "text": pa.array([f"document {i}" for i in range(500)]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 8),
        }
    )


def test_the_same_table_gives_the_same_bytes() -> None:
    assert encode_table(table(), facts={"b": 1, "a": 2}).equals(encode_table(table(), facts={"a": 2, "b": 1}))


def test_facts_and_rows_come_back(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_parquet(store, "x.parquet", table(), facts={"tokens": 7}, byte_stream_split=["vector.list.element"])
    footer = read_footer(store, "x.parquet")
    assert (footer.rows, footer.facts) == (500, {"tokens": 7})
    assert read_parquet(store, "x.parquet").equals(table())
    assert read_parquet(store, "x.parquet", ["row"]).column_names == ["row"]


def test_columns_whose_order_nobody_asks_for_have_no_statistics(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    split = ["vector.list.element"]
    write_parquet(store, "with.parquet", table(), facts={}, byte_stream_split=split)
    write_parquet(store, "without.parquet", table(), facts={}, byte_stream_split=split, unordered=["vector"])
    found: dict[str, list[bool]] = {}
    for name in ("with", "without"):
        with open_parquet(store, f"{name}.parquet") as file:
            group = file.metadata.row_group(0)
            found[name] = [group.column(place).statistics is not None for place in range(3)]
        assert read_parquet(store, f"{name}.parquet").equals(table())
    assert found == {"with": [True, True, True], "without": [True, True, False]}


def test_no_flipped_bit_of_the_data_reads_as_other_data(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_parquet(store, "x.parquet", table(), facts={})
    whole = store.read_bytes("x.parquet")
    choose = random.Random(0)
    for _ in range(200):
        data = bytearray(whole)
        data[choose.randrange(4, len(data))] ^= 1 << choose.randrange(8)
        store.put_bytes("y.parquet", bytes(data))
        try:
            read = read_parquet(store, "y.parquet")
        except DamagedObjectError:
            continue
        # What can be read in spite of it (an unused byte of the footer) is the same data.
        assert read.select(["row", "text"]).to_pydict() == table().select(["row", "text"]).to_pydict()


def test_half_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_parquet(store, "x.parquet", table(), facts={})
    store.put_bytes("x.parquet", store.read_bytes("x.parquet")[:1000])
    with pytest.raises(DamagedObjectError, match=r"x\.parquet is damaged"):
        read_parquet(store, "x.parquet")
