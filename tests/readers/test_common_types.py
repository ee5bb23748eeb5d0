"""Columns with values of several types preserve the values."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentscale.errors import CorpusError
from latentscale.readers.columns import concat, conform, unify_columns
from latentscale.readers.values import column_of
from latentscale.storage.common_types import cast_values, plain_type, value_facts, within_calendar, without_surrogates

LONG = [2**60 + at for at in range(3)]


def unified(*arrays: pa.Array) -> pa.Table:
    tables = [pa.table({"a": array}) for array in arrays]
    facts = [{"types": {"a": found} if (found := value_facts(table["a"])) else {}} for table in tables]
    schema = unify_columns([(table.schema, one) for table, one in zip(tables, facts, strict=True)])
    return pa.concat_tables([conform(table, schema) for table in tables])


@pytest.mark.parametrize("join", [unified, lambda *arrays: concat([pa.table({"a": array}) for array in arrays])])
def test_large_integers_keep_their_digits_in_columns_with_floats(join):
    whole = join(pa.array(LONG), pa.array([1.0, None, 3.0]))["a"]
    assert whole.type == pa.int64()
    assert whole.to_pylist() == [*LONG, 1, None, 3]
    mixed = join(pa.array(LONG), pa.array([0.5]))["a"]
    assert mixed.to_pylist() == [*map(str, LONG), "0.5"]
    unsigned = join(pa.array([2**64 - 1], pa.uint64()), pa.array([1.0]))["a"]
    assert unsigned.to_pylist() == [str(2**64 - 1), "1.0"]
    assert join(pa.array([1, 2]), pa.array([0.5]))["a"].to_pylist() == [1.0, 2.0, 0.5]


@pytest.mark.parametrize("join", [unified, lambda *arrays: concat([pa.table({"a": array}) for array in arrays])])
def test_times_far_away_do_not_wrap_around(join):
    far = pa.array([64_000_000_000], pa.timestamp("s"))
    near = pa.array([1], pa.timestamp("ns"))
    assert join(far, near)["a"].to_pylist()[0] == "3998-01-29 17:46:40"
    assert join(pa.array([1], pa.timestamp("s")), near)["a"].type == pa.timestamp("ns")


def test_times_outside_of_the_years_that_python_knows_are_text_of_iso_8601():
    days = within_calendar(pa.chunked_array([pa.array([2_932_897, None, -719_163, 1], pa.date32())]))
    assert days.to_pylist() == ["10000-01-01", None, "0000-12-31", "1970-01-02"]
    # What DuckDB writes for "infinity", which Arrow itself cannot write.
    for unit, text in (("us", "294247-01-10 04:00:54.775807"), ("s", "292277026596-12-04 15:30:07")):
        for zone, end in ((None, ""), ("Europe/Berlin", "Z")):
            found = within_calendar(pa.array([2**63 - 1, None], pa.timestamp(unit, zone)))
            assert found.to_pylist() == [text + end, None]
    lists = within_calendar(pa.array([[1], [10**7, None], None, []], pa.list_(pa.date32())))
    assert lists.to_pylist() == [["1970-01-02"], ["29349-01-26", None], None, []]
    pairs = within_calendar(pa.array([[1, 2], None, [10**7, None]], pa.list_(pa.date32(), 2)))
    assert pairs.to_pylist() == [["1970-01-02", "1970-01-03"], None, ["29349-01-26", None]]
    maps = within_calendar(
        pa.array([[("a", 1)], None, [("b", 10**7), ("c", None)], []], pa.map_(pa.string(), pa.date32()))[1:]
    )
    assert maps.to_pylist() == [None, [("b", "29349-01-26"), ("c", None)], []]
    moment = pa.struct([("t", pa.timestamp("us")), ("n", pa.int8())])
    found = within_calendar(pa.array([{"t": 2**63 - 1, "n": 1}, None, {"t": 1, "n": None}], moment)[0:2])
    assert found.to_pylist() == [{"t": "294247-01-10 04:00:54.775807", "n": 1}, None]
    for kept in (
        pa.array([[1], None], pa.list_(pa.date32())),
        pa.array([{"a": [1]}]),
        pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
        pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.date32())),
        pa.array([-719_162, 2_932_896, None], pa.date32()),
        pa.array([-62_135_596_800, 253_402_300_799], pa.timestamp("s")),
        pa.array([2**63 - 1], pa.timestamp("ns")),
        pa.array([None], pa.timestamp("us")),
        pa.array([2**63 - 1]),
    ):
        assert within_calendar(kept) is kept


ARRAYS = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=3).map(lambda v: pa.array(v, pa.int64())),
    st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=3).map(lambda v: pa.array(v, pa.uint64())),
    st.lists(st.integers(-100, 100), max_size=3).map(lambda v: pa.array(v, pa.int8())),
    st.lists(st.none() | st.floats(allow_nan=False), max_size=3).map(lambda v: pa.array(v, pa.float64())),
    st.lists(st.integers(-(2**52), 2**52).map(float), max_size=3).map(lambda v: pa.array(v, pa.float64())),
    st.lists(st.none() | st.booleans(), max_size=3).map(lambda v: pa.array(v, pa.bool_())),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=3), max_size=3).map(lambda v: pa.array(v, pa.string())),
    st.integers(0, 3).map(pa.nulls),
)


@settings(max_examples=300)
@given(arrays=st.lists(ARRAYS, min_size=1, max_size=4))
def test_values_of_any_types_come_back_or_are_text(arrays: list[pa.Array]):
    values = [value for array in arrays for value in array.to_pylist()]
    for read in (unified(*arrays), concat([pa.table({"a": array}) for array in arrays])):
        for value, found in zip(values, read["a"].to_pylist(), strict=True):
            if isinstance(found, str) and not isinstance(value, str):
                found = json.loads(found) if found not in ("inf", "-inf") else float(found)
            assert found == value
            # Python compares whole numbers and floats by their exact values.
            assert isinstance(found, int | float) == isinstance(value, int | float)


def test_vectors_of_several_files_stay_vectors():
    parts = (
        pa.array([[0.5, 1.0]], pa.list_(pa.float32(), 2)),
        pa.array([[2.0, 3.0]], pa.list_(pa.float64())),
        pa.array([[]], pa.list_(pa.null())),
    )
    assert unified(*parts)["a"].to_pylist() == [[0.5, 1.0], [2.0, 3.0], []]


def test_a_value_outside_the_common_type_is_refused_naming_the_column():
    with pytest.raises(CorpusError, match="column 'id' is int64"):
        cast_values(pa.chunked_array([LONG]), pa.float64(), name="id")


def test_zones_without_a_name_become_utc_in_nested_values_too():
    zone = pa.timestamp("us", "+05:30")
    assert plain_type(zone) == pa.timestamp("us", "UTC")
    assert plain_type(pa.timestamp("us", "Europe/Berlin")) == pa.timestamp("us", "Europe/Berlin")
    assert plain_type(pa.list_(pa.struct([("at", zone)]))) == pa.list_(pa.struct([("at", pa.timestamp("us", "UTC"))]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2**60 + 1, 1.5], ["1152921504606846977", "1.5"]),
        ([1, 1.5], [1.0, 1.5]),
        ([2**64, None], ["18446744073709551616", None]),
        (["cut \ud83d", None], ["cut \ufffd", None]),
        (["\ud83d\ude00"], ["\U0001f600"]),
    ],
)
def test_values_of_json_keep_their_digits_and_characters(values: list[object], expected: list[object]):
    assert column_of(values).to_pylist() == expected


@settings(max_examples=200)
@given(st.text(st.characters(codec=None, exclude_categories=[]), max_size=20))
def test_text_without_surrogates_is_unchanged_utf8(text: str):
    cleaned = without_surrogates(text)
    cleaned.encode()
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned == text


def test_long_numbers_of_json_lines_keep_their_digits(tmp_path: Path):
    from latentscale.config import CorpusConfig, IngestConfig
    from latentscale.readers import read_input
    from latentscale.readers.inputs import list_inputs

    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "n": 123456789012345678901234567890, "l": [18446744073709551616]}\n'
        '{"text": "say: -12345678901234567890", "n": 1, "l": []}\n'
        '{"text": "far", "n": 1e999}\n'
    )
    corpus = CorpusConfig(sources=(str(tmp_path),))
    (block,) = read_input(list_inputs(corpus)[0], corpus, IngestConfig())
    assert block.table["n"].to_pylist() == ["123456789012345678901234567890", "1", "1e999"]
    assert block.table["l"].to_pylist() == ["[18446744073709551616]", "[]", None]
    assert block.table["text"].to_pylist() == ["a", "say: -12345678901234567890", "far"]
