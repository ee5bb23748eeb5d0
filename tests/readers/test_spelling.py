"""What text can be read as: never so that two spellings become one value."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentscale.readers.columns import candidate_types, conform, unify_columns
from latentscale.readers.spelling import common_types

FLOATS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**6), 10**6).map(float),
    st.integers(-(10**6), 10**6).map(lambda n: n / 100),
)
WAYS = {
    "python": repr,
    "polars": lambda number: pl.DataFrame({"a": [number]}).write_csv().split("\n")[1],
    ".2f": lambda number: f"{number:.2f}",
    ".18e": lambda number: f"{number:.18e}",
    ".17g": lambda number: f"{number:.17g}",
}


@pytest.mark.parametrize(
    "names",
    [
        ["3.1", "3.10", "3.100"],
        ["1", "1.0"],
        ["1e5", "2e3"],
        ["12e5", "100"],
        ["NaN", "1.5"],
        ["inf", "1"],
        ["+491234", "491234"],
        ["00.5", "0.5"],
        ["-0", "0"],
        ["12345678901234567890"],
        ["9007199254740993", "0.5"],
        ["0.1234567890123456789"],
        ["True", "true"],
        [".5", "1.5"],
        ["1,5", "2,5"],
    ],
)
def test_names_that_look_like_numbers_stay_text(names: list[str]):
    assert candidate_types(pa.array(names)) == []


@pytest.mark.parametrize(
    "values",
    [["19.90", "5.00", "0.05"], ["1", "2.5", "-0.125"], ["1.0", "2.5"], ["1e+05", "123456", "1.5"], ["1.0E10", "0.5"]],
)
def test_numbers_of_one_way_of_writing_are_numbers(values: list[str]):
    assert any(name.startswith("float64:") for name in candidate_types(pa.array(values)))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=150)
@given(numbers=st.lists(FLOATS, min_size=1, max_size=6))
def test_floats_are_read_as_written_by_common_programs(way: str, numbers: list[float]):
    texts = pa.array([WAYS[way](number) for number in numbers])
    types = candidate_types(texts)
    if way == ".2f" and any(abs(number) >= 1e13 for number in numbers):
        return  # digits that float64 does not hold
    assert types, texts
    schema = unify_columns([(pa.schema([("a", pa.string())]), {"types": {"a": types}})])
    read = conform(pa.table({"a": texts}), schema)["a"].to_pylist()
    assert read == [float(text) for text in texts.to_pylist()]


DIGITS = st.text("0123456789.eE+-", min_size=1, max_size=22)


@settings(max_examples=400)
@given(first=st.lists(st.one_of(DIGITS, st.floats().map(repr)), max_size=4), second=st.lists(DIGITS, max_size=4))
def test_different_spellings_stay_different_values_over_shards(first: list[str], second: list[str]):
    tables = [pa.table({"a": pa.array(values, pa.string())}) for values in (first, second)]
    facts = [{"types": {"a": candidate_types(table["a"])}} for table in tables]
    schema = unify_columns([(table.schema, one) for table, one in zip(tables, facts, strict=True)])
    values = pa.concat_tables([conform(table, schema) for table in tables])["a"].to_pylist()
    assert len(set(map(repr, values))) == len({*first, *second})


def test_a_shard_of_an_earlier_version_allows_each_way_of_writing():
    assert common_types({"float64"}, {"int64", "float64:short"}) == {"float64:short"}
    assert common_types({"float64:.2f"}, {"float64:.1f"}) == set()
