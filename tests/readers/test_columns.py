"""Names and types of document columns."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from latentscale.config import CorpusConfig
from latentscale.readers.columns import candidate_types, conform, stored_name, stored_text_column, unify_columns


@pytest.mark.parametrize(
    ("values", "first"),
    [
        (["1", "-20", ""], "int64"),
        (["007", "1"], None),
        (["1.5", "2", "1e+300"], "float64:js"),
        (["12345678901234567890"], None),
        (["true", "false"], "bool:lower"),
        (["2026-01-02", ""], "date"),
        (["2026-02-30"], None),
        (["0000-01-01"], None),
        (["9999-12-31"], "date"),
        (["9999-12-31T23:59:59-05:00"], None),
        (["2026-01-02 03:04:05"], "timestamp"),
        (["2026-01-02T03:04:05Z"], "timestamp_utc"),
        (["yes", "no"], None),
        (["1", "x"], None),
    ],
)
def test_a_column_of_text_allows_the_types_that_all_its_values_do(values: list[str], first: str | None):
    assert next(iter(candidate_types(pa.array(values))), None) == first


def unified(*shards: tuple[dict[str, pa.Array], dict[str, list[str]]]) -> pa.Table:
    tables = [pa.table(columns) for columns, _ in shards]
    schema = unify_columns([(table.schema, {"types": types}) for table, (_, types) in zip(tables, shards, strict=True)])
    return pa.concat_tables([conform(table, schema) for table in tables])


def csv(values: list[str]) -> tuple[dict[str, pa.Array], dict[str, list[str]]]:
    return {"a": pa.array(values)}, {"a": candidate_types(pa.array(values))}


def typed(array: pa.Array) -> tuple[dict[str, pa.Array], dict[str, list[str]]]:
    return {"a": array}, {}


def test_shards_of_csv_agree_on_the_narrowest_type_that_all_allow():
    assert unified(csv(["1", ""]), csv(["2"]))["a"].to_pylist() == [1, None, 2]
    assert unified(csv(["1"]), csv(["2.5"]))["a"].to_pylist() == [1.0, 2.5]
    assert unified(csv(["1"]), csv(["x"]))["a"].to_pylist() == ["1", "x"]
    assert unified(csv(["2026-01-02"]), csv([""]))["a"].to_pylist() == [datetime.date(2026, 1, 2), None]
    assert unified(csv([""]), csv(["", ""]))["a"].to_pylist() == ["", "", ""]


def test_typed_shards_and_csv_meet():
    assert unified(typed(pa.array([1, 2])), csv(["3"]))["a"].to_pylist() == [1, 2, 3]
    assert unified(typed(pa.array([1.5])), csv(["3"]))["a"].to_pylist() == [1.5, 3.0]
    assert unified(typed(pa.array([1])), csv(["2.5"]))["a"].to_pylist() == [1.0, 2.5]
    assert unified(typed(pa.array([1])), csv(["x"]))["a"].to_pylist() == ["1", "x"]
    assert unified(typed(pa.nulls(1)), csv(["x"]))["a"].to_pylist() == [None, "x"]


def test_typed_shards_meet_without_losing_values():
    assert unified(typed(pa.array([1])), typed(pa.array([0.5])))["a"].to_pylist() == [1.0, 0.5]
    assert unified(typed(pa.array([1], pa.int8())), typed(pa.array([2], pa.uint16())))["a"].type == pa.int64()
    assert unified(typed(pa.array([True])), typed(pa.array([2])))["a"].to_pylist() == ["true", "2"]
    assert unified(typed(pa.array([[1]])), typed(pa.array(["x"])))["a"].to_pylist() == ["[1]", "x"]
    assert unified(typed(pa.nulls(2)), typed(pa.nulls(1)))["a"].to_pylist() == [None] * 3
    times = unified(typed(pa.array([1], pa.timestamp("s"))), typed(pa.array([1], pa.timestamp("ms"))))
    assert times["a"].type == pa.timestamp("ms")


def test_a_column_missing_in_a_shard_is_null():
    table = unified(({"a": pa.array([1]), "b": pa.array(["x"])}, {}), ({"b": pa.array(["y"])}, {}))
    assert table.to_pylist() == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]


def test_stored_names_are_distinct_for_distinct_columns():
    corpus = CorpusConfig(sources=("x",), text="{text} {title}")
    names = [prefix + name for prefix in ("", "source_", "source_source_") for name in ("row", "x", "text", "layer_1")]
    names += ["source", "source_source", "source_source_source_row"]
    stored = [stored_name(name, corpus) for name in names]
    assert len(set(stored)) == len(names)
    assert not {"row", "source", "source_row", "x", "text", "layer_1"} & set(stored)
    assert stored_text_column(corpus) == "text"
    assert stored_text_column(CorpusConfig(sources=("x",), text="label")) == "source_label"
