"""SQL conditions use the columns of one row only, and open no file."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from latentscale.errors import ConfigError
from latentscale.readers.conditions import MAX_NODES, SHOWN, evaluate, parse_condition

ROWS = pa.table(
    {
        "n": [1, 2, 3, None],
        "t": ["5", "x", "", "7"],
        "s": ["a", "b", "c", "d"],
        "cluster": [1, 1, 2, 2],
        "where": [True, False, None, True],
        "it": [{"k": 1}, {"k": 2}, None, {"k": 1}],
        "l": [["a"], ["b"], [], None],
        "d": [dt.date(2020, 1, day) for day in (1, 2, 3, 4)],
    }
)


def rows_where(condition: str) -> list[int]:
    """Positions of the rows for which a condition holds."""
    return np.flatnonzero(evaluate(parse_condition(condition), ROWS, where="a.csv").holds).tolist()


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("n = 1 OR n = 2", [0, 1]),
        ("NOT (n = 1 OR n = 2)", [2]),
        ("cluster = 2", [2, 3]),
        ('"where" AND n IS NOT NULL', [0]),
        ("it.k = 1", [0, 3]),
        ("s IN ('a', 'c') AND s NOT LIKE 'c%'", [0]),
        ("s ILIKE 'B' OR s ~ '^[cd]$'", [1, 2, 3]),
        ("n BETWEEN 2 AND 3", [1, 2]),
        ("d >= DATE '2020-01-03'", [2, 3]),
        ("extract(year FROM d) = 2020 AND n % 2 = 1", [0, 2]),
        ("CASE WHEN n > 1 THEN TRUE ELSE FALSE END", [1, 2]),
        ("coalesce(n, 9) = 9", [3]),
        ("upper(s) || 'x' = 'Ax'", [0]),
        ("array_contains(l, 'b')", [1]),
        ("n IS DISTINCT FROM 1", [1, 2, 3]),
        ("t = '5'", [0]),
        ("t > 4", [0, 3]),
        ("t > 4 AND s = 'a'", [0]),
        ("CAST(t AS INT) = 7", [3]),
        ("1 = 1", [0, 1, 2, 3]),
        ("s = 'a' -- ; and no more", [0]),
    ],
)
def test_a_condition_selects_rows(condition: str, rows: list[int]) -> None:
    assert rows_where(condition) == rows


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("n = max(n)", "max"),
        ("n > avg(n) FILTER (WHERE n > 0)", "not allowed"),
        ("row_number() OVER () = 1", "OVER"),
        ("n = first_value(n) OVER (PARTITION BY s)", "OVER"),
        ("count(*) = 1", "count"),
        ("* = 1", r"\*"),
        ("n IN (SELECT 1)", "subquery"),
        ("n IN (TABLE other)", "subquery"),
        ("n IN other", "subquery or a table"),
        ("n = (SELECT 1)", "subquery"),
        ("EXISTS (SELECT 1)", "subquery"),
        ("n = ANY(SELECT 1)", "not allowed"),
        ("unnest(l) = 'a'", "unnest"),
        ("n = 1; DROP TABLE self", "more than one statement"),
        ("n = 1 UNION SELECT 2", "not allowed"),
        ("n = $1", "not allowed"),
        ("", "empty"),
        ("n =", "does not parse"),
        ("(" * 3_000 + "n = 1" + ")" * 3_000, "nested"),
        ("n = " + "+".join("1" * 3_000), "nested"),
        ("n IN (" + ",".join("1" * MAX_NODES) + ")", "parts"),
    ],
)
def test_conditions_on_several_rows_are_refused(condition: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        parse_condition(condition)
    assert len(refused.value.message) < SHOWN + 400
    assert refused.value.where == "corpus.where"


@pytest.mark.parametrize("function", ["read_csv", "read_parquet", "read_ipc", "read_json", "scan_csv", "glob"])
@pytest.mark.parametrize("form", ["s IN (SELECT s FROM {})", "EXISTS (SELECT 1 FROM {})", "s = {}", "s IN ({})"])
def test_no_file_is_opened(tmp_path: Path, function: str, form: str) -> None:
    # polars would say that there is no such file, or what is wrong with it.
    file = tmp_path / "secret.csv"
    with pytest.raises(ConfigError) as refused:
        parse_condition(form.format(f"{function}('{file}')"))
    assert "No such file" not in refused.value.message


def test_thousands_of_terms_are_no_matter() -> None:
    values = pa.table({"n": np.arange(20_000), "s": [str(i) for i in range(20_000)]})
    terms = [f"n = {i}" for i in range(0, 10_000, 2)]
    assert evaluate(parse_condition(" OR ".join(terms)), values, where="a.csv").holds.sum() == 5_000
    others = " AND ".join(f"s <> {i}" for i in range(100))
    assert evaluate(parse_condition(others), values, where="a.csv").holds.sum() == 19_900
    mixed = parse_condition(" OR ".join(f"n = {i} AND s LIKE '%{i}'" for i in range(300)))
    assert evaluate(mixed, values.slice(0, 2_000), where="a.csv").holds.sum() == 300


def test_rows_that_cannot_be_compared_are_distinguished_from_null() -> None:
    assert np.flatnonzero(evaluate(parse_condition("t > 4"), ROWS, where="").unknown).tolist() == [1]
    assert np.flatnonzero(evaluate(parse_condition("TRY_CAST(t AS INT) > 4"), ROWS, where="").unknown).tolist() == [1]
    assert not evaluate(parse_condition("n > 1"), ROWS, where="").unknown.any()
    # Which is compared as what depends on the types alone: blocks of one file are read alike.
    assert not evaluate(parse_condition("t > '4'"), ROWS.slice(0, 1), where="").unknown.any()


def test_whole_numbers_of_text_are_exact() -> None:
    ids = pa.table({"id": ["9007199254740992", "9007199254740993", "9007199254740994"]})
    assert evaluate(parse_condition("id = 9007199254740993"), ids, where="").holds.tolist() == [False, True, False]


def test_conditions_that_are_not_boolean_are_refused() -> None:
    for condition in ("n", "s", "n + 1", "upper(s)"):
        with pytest.raises(ConfigError, match="not true or false"):
            evaluate(parse_condition(condition), ROWS, where="a.csv")
    with pytest.raises(ConfigError, match="cannot be evaluated") as refused:
        evaluate(parse_condition("d >= '2020-01-01'"), ROWS, where="a.csv")
    assert "DATE '2020" in str(refused.value.hint)


def test_errors_of_a_regular_expression_are_reported() -> None:
    with pytest.raises(ConfigError, match=r"cannot be evaluated: .*unclosed group"):
        evaluate(parse_condition("s ~ 'wh(ale'"), ROWS, where="a.csv")
