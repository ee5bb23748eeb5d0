"""Data from Python: Arrow types are kept, other values become text or are refused by column."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latentscale.errors import RequestError
from latentscale.readers.frames import spool_frame
from latentscale.storage.objects import Store

NAME = uuid.UUID(int=1)
INDIA = dt.timezone(dt.timedelta(hours=5, minutes=30))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.mark.parametrize(
    ("values", "stored"),
    [
        ([1, "a"], ["1", "a"]),
        ([2**70, None], [str(2**70), None]),
        ([2**60 + 1, 1.5], [str(2**60 + 1), "1.5"]),
        ([2**60 + 1, None], [2**60 + 1, None]),
        ([1, 1.5], [1.0, 1.5]),
        ([NAME, None], [str(NAME), None]),
        ([{"a": 1}, [1]], ['{"a":1}', "[1]"]),
        (["cut \ud83d", float("nan")], ["cut \ufffd", None]),
        ([decimal.Decimal("1.50"), None], [decimal.Decimal("1.50"), None]),
        ([dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 5)], ["2020-01-01", "2020-01-01T05:00:00"]),
        (
            [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=INDIA)],
            ["2020-01-01T00:00:00", "2020-01-01T00:00:00+05:30"],
        ),
        ([b"\xff", b"a"], [b"\xff", b"a"]),
    ],
)
def test_columns_of_objects(store: Store, values: list[Any], stored: list[Any]):
    frame = pd.DataFrame({"text": ["a", "b"], "x": pd.Series(values, dtype=object)})
    assert pq.read_table(spool_frame(frame, store))["x"].to_pylist() == stored


def test_an_index_of_pandas_that_has_a_name_is_a_column(store: Store):
    frame = pd.DataFrame({"text": ["a", "b"]}, index=pd.Index([7, 9], name="id"))
    assert pq.read_table(spool_frame(frame, store))["id"].to_pylist() == [7, 9]
    levels = pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["key", None])
    table = pq.read_table(spool_frame(frame.set_axis(levels), store))
    assert table.to_pydict() == {"key": ["x", "y"], "text": ["a", "b"]}
    assert pq.read_table(spool_frame(frame.reset_index(drop=True), store)).column_names == ["text"]
    with pytest.raises(RequestError, match="an index and a column 'text'"):
        spool_frame(frame.rename_axis("text"), store)


def test_missing_values_of_pandas_are_null_in_mappings_too(store: Store, ingested: Callable[..., Any]):
    frame = pd.DataFrame(
        {
            "text": pd.Series(["a", "b", pd.NA], dtype=object),
            "day": pd.to_datetime(["2024-01-02", None, None]),
            "count": pd.array([1, None, 2], "Int64"),
            "name": pd.Series(["x", float("nan"), None], dtype=object),
            "flag": pd.Series([True, float("nan"), None], dtype=object),
        }
    )
    made = ingested(spool_frame(frame.to_dict("records"), store))
    assert made.texts == ["a", "b"]
    assert made.rejects == [(2, 3, "null_text")]
    assert made.rows[1] == {"text": "b", "day": None, "count": None, "name": None, "flag": None}
    assert made.rows[0] == {"text": "a", "day": "2024-01-02T00:00:00", "count": 1, "name": "x", "flag": True}


def test_levels_of_columns_that_pandas_fills_are_no_part_of_the_name(store: Store):
    names = pd.MultiIndex.from_tuples([("text", ""), ("n", "mean")])
    assert pq.read_table(spool_frame(pd.DataFrame([["a", 1]], columns=names), store)).column_names == ["text", "n_mean"]


def test_sets_are_written_in_one_order(store: Store):
    words = {f"word {i}" for i in range(50)}
    table = pl.read_ndjson(spool_frame([{"text": "a", "set": words}], store) or "")
    assert table["set"].to_list() == [sorted(words)]


def test_any_object_with_an_arrow_stream_is_a_frame(store: Store):
    class Relation:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return pa.table({"text": ["a", "b"], "n": [1, 2]}).__arrow_c_stream__(requested_schema)

    assert pq.read_table(spool_frame(Relation(), store)).to_pydict() == {"text": ["a", "b"], "n": [1, 2]}


def test_texts_of_a_generator_may_begin_with_none(store: Store):
    assert pq.read_table(spool_frame(iter([None, "b"]), store)).to_pydict() == {"text": [None, "b"]}
    with pytest.raises(RequestError, match="holds nothing"):
        spool_frame(iter([]), store)


def test_columns_of_types_that_only_pandas_or_polars_has(store: Store):
    frame = pd.DataFrame(
        {"text": ["a", "b"], "x": pd.period_range("2020", "2021", freq="Y"), 3: pd.interval_range(0, 2)}
    )
    table = pq.read_table(spool_frame(frame, store))
    assert table["x"].to_pylist() == ["2020", "2021"]
    assert table["3"].to_pylist() == ["(0, 1]", "(1, 2]"]
    objects = pl.DataFrame({"text": ["a"], "x": pl.Series([{1, 2}], dtype=pl.Object)})
    assert pq.read_table(spool_frame(objects, store))["x"].to_pylist() == ["[1,2]"]


@pytest.mark.parametrize(
    "data",
    [
        pa.table({"text": ["a"], "x": pa.array([pa.MonthDayNano([1, 2, 3])])}),
        pd.DataFrame({"text": ["a"], "x": [[b"\xff", 1]]}),
        pd.DataFrame([["a", "b"]], columns=["x", "x"]),
        # What Python says of them is where they lie in memory.
        pd.DataFrame({"text": ["a"], "x": [object()]}),
        pl.DataFrame({"text": ["a"], "x": pl.Series([[object()]], dtype=pl.Object)}),
    ],
)
def test_a_column_that_cannot_be_stored_is_named(store: Store, data: Any):
    with pytest.raises(RequestError, match="'x'"):
        spool_frame(data, store)


def test_a_mapping_with_an_object_that_has_no_text_is_refused(store: Store):
    with pytest.raises(RequestError, match=r"item 1 cannot be written.*builtins\.object has no text of its own"):
        spool_frame(iter([{"text": "a"}, {"text": "b", "x": {"y": [object()]}}]), store)


def test_mappings_keep_values_that_json_cannot_represent(store: Store):
    rows = [
        {"text": "a", "big": 2**70, "far": float("inf"), "half": "\ud83d", "raw": b"ab", "when": dt.date(2020, 1, 1)}
    ]
    line = Path(spool_frame(iter(rows), store)).read_text()
    assert '"big": 1180591620717411303424' in line
    assert '"far": Infinity' in line
    assert '"half": "\\ud83d"' in line
    assert '"raw": "ab"' in line
    assert '"when": "2020-01-01"' in line
    texts = pq.read_table(spool_frame(iter(["one", None, "half \ud83d"]), store))
    assert texts["text"].to_pylist() == ["one", None, "half \ufffd"]
