"""Reading parquet in bounded pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentscale.config import CorpusConfig
from latentscale.errors import CorpusError
from latentscale.readers import parquet
from latentscale.readers.inputs import list_inputs, open_input
from latentscale.readers.parquet import BATCH_BYTES, distinct_names, read_parquet_rows


def test_a_small_file_that_decodes_to_much_comes_in_small_pieces(tmp_path: Path):
    text = pa.array(["x" * 100_000]).take(pa.array(np.zeros(5_000, dtype=np.int64)))
    pq.write_table(pa.table({"text": text.dictionary_encode()}), tmp_path / "a.parquet", compression="zstd")
    file = list_inputs(CorpusConfig(sources=(str(tmp_path / "a.parquet"),)))[0]
    assert file.size < 100_000
    before = pa.total_allocated_bytes()
    rows = most = 0
    with open_input(file, None) as raw:
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
    with open_input(file, None) as raw, pytest.raises(CorpusError, match="not a complete parquet file"):
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
    with open_input(file, None) as raw:
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


def _nested(kind: str) -> pa.Array:
    """One text of 100 kB, a thousand times, in a nesting."""
    rows = 1_000
    binary = kind.endswith("binary")
    values = pa.array([b"x" * 100_000 if binary else "x" * 100_000])
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), values)
    each = pa.array(np.arange(rows + 1, dtype=np.int32))
    return {
        "binary": lambda: repeated,
        "list": lambda: pa.ListArray.from_arrays(each, repeated),
        "struct": lambda: pa.StructArray.from_arrays([repeated], ["a"]),
        "list of struct": lambda: pa.ListArray.from_arrays(each, pa.StructArray.from_arrays([repeated], ["a"])),
        "map of binary": lambda: pa.MapArray.from_arrays(each, pa.array([str(i) for i in range(rows)]), repeated),
    }[kind]()


@pytest.mark.parametrize("kind", ["binary", "list", "struct", "list of struct", "map of binary"])
def test_every_type_is_decoded_in_small_pieces(tmp_path: Path, kind: str):
    table = pa.table({"text": [f"text {i}" for i in range(1_000)], "much": _nested(kind)})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", store_schema=False)
    file = list_inputs(CorpusConfig(sources=(str(tmp_path / "a.parquet"),)))[0]
    assert file.size < 100_000
    before = pa.total_allocated_bytes()
    rows = most = 0
    with open_input(file, None) as raw:
        for block in read_parquet_rows(file, raw, None):
            rows += block.size
            most = max(most, pa.total_allocated_bytes() - before)
            first = str(block.table.column("much")[0].as_py())
            assert len(first) >= 100_000
    assert rows == 1_000
    assert most < 6 * BATCH_BYTES


def test_a_file_that_expands_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "LARGE", 16 << 20)
    numbers = pa.array(np.zeros(4 << 20, dtype=np.int64))
    for name, column in (("text", _nested("binary")), ("numbers", numbers)):
        pq.write_table(pa.table({name: column}), tmp_path / "a.parquet", compression="zstd")
        file = list_inputs(CorpusConfig(sources=(str(tmp_path / "a.parquet"),)))[0]
        with open_input(file, None) as raw, pytest.raises(CorpusError, match="expands to more than"):
            list(read_parquet_rows(file, raw, None, most=500))


WORDS = st.one_of(st.none(), st.sampled_from(["", "a", "ab", "abc", "été", "prefix and more", "prefix and less"]))
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": WORDS,
            "key": WORDS,
            "raw": st.one_of(st.none(), st.binary(max_size=3)),
            "list": st.one_of(st.none(), st.lists(WORDS, max_size=3)),
            "chat": st.lists(st.one_of(st.none(), st.fixed_dictionaries({"role": WORDS, "n": WORDS})), max_size=2),
            "map": st.one_of(st.none(), st.lists(st.tuples(st.sampled_from(["k", "l"]), WORDS), max_size=2)),
        }
    ),
    min_size=1,
    max_size=30,
)
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("key", pa.string()),
        ("raw", pa.binary()),
        ("list", pa.list_(pa.string())),
        ("chat", pa.list_(pa.struct([("role", pa.string()), ("n", pa.string())]))),
        ("map", pa.map_(pa.string(), pa.string())),
    ]
)


@pytest.mark.parametrize("encoding", ["dictionary", "PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "overflow"])
@settings(max_examples=25)
@given(rows=ROWS)
def test_values_are_the_same_in_every_encoding(
    tmp_path_factory: pytest.TempPathFactory, encoding: str, rows: list[dict[str, Any]]
):
    path = tmp_path_factory.getbasetemp() / f"encoded-{encoding}.parquet"
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if encoding == "dictionary":
        pq.write_table(table, path, row_group_size=7)
    elif encoding == "overflow":
        pq.write_table(table, path, dictionary_pagesize_limit=8, data_page_size=16, write_batch_size=4)
    else:
        leaves = ("text", "key", "raw", "list.list.element", "chat.list.element.role")
        pq.write_table(table, path, use_dictionary=False, column_encoding=dict.fromkeys(leaves, encoding))
    file = list_inputs(CorpusConfig(sources=(str(path),)))[0]
    with open_input(file, None) as raw:
        got = pa.concat_tables([block.table for block in read_parquet_rows(file, raw, None)])
    assert got.to_pylist() == table.to_pylist()
