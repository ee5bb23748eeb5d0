"""Columns of every type of parquet: their values in points, exports and on the page equal those of the corpus."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import latentscale as ls
from latentscale.viewer.values import displayable

ROWS = 120
WIDE = Decimal("1234567890123456789012345678901234567890.12")
# Each value with what a person reads of it: on the page, and in CSV where that differs.
VALUES: dict[str, tuple[Any, pa.DataType | None, Any, str | None]] = {
    "list": (["a", "b"], None, '["a", "b"]', None),
    "fixed_list": ([1, 2], pa.list_(pa.int8(), 2), "[1, 2]", None),
    "struct": ({"a": 1, "b": b"\xff", "c": float("nan")}, None, '{"a": 1, "b": "ff", "c": null}', None),
    "map": ([("k", 1)], pa.map_(pa.string(), pa.int64()), '{"k": 1}', None),
    "bytes": (b"\x00\xff", None, "00ff", None),
    "fixed_bytes": (b"ab", pa.binary(2), "6162", None),
    "took": (dt.timedelta(days=1, seconds=5.5), None, "P1DT5.5S", None),
    "time": (dt.time(1, 2, 3), None, "01:02:03", "01:02:03.000000000"),
    "exact_time": (5, pa.time64("ns"), "00:00:00.000000005", None),
    "decimal": (Decimal("1.10"), None, "1.10", None),
    "small": (Decimal("1E-10"), pa.decimal128(20, 10), "0.0000000001", None),
    "wide": (WIDE, pa.decimal256(50, 2), str(WIDE), None),
    "wide_list": ([WIDE], pa.list_(pa.decimal256(50, 2)), f'["{WIDE}"]', None),
    "nothing": (None, pa.null(), None, ""),
    "half": (1.5, pa.float16(), 1.5, None),
    "code": ("a", pa.dictionary(pa.int8(), pa.string()), "a", None),
    "id": (2**60 + 1, None, 2**60 + 1, str(2**60 + 1)),
    "unsigned": (2**64 - 1, pa.uint64(), 2**64 - 1, None),
    "moment": (1_600_000_000_000_000_001, pa.timestamp("ns"), "2020-09-13 12:26:40.000000001", None),
    "day": (dt.date(1422, 6, 3), None, dt.date(1422, 6, 3), "1422-06-03"),
    "view": ("x", pa.string_view(), "x", None),
    "nested": ([{"a": [Decimal("1.1")], "t": dt.time(1)}], None, '[{"a": ["1.1"], "t": "01:00:00"}]', None),
}


def table(rows: int, demo: pl.DataFrame) -> pa.Table:
    columns = {name: pa.array([value] * rows, kind) for name, (value, kind, _, _) in VALUES.items()}
    others = {"order": pa.array([2**60 + i for i in range(rows)]), "few": pa.array([i % 3 for i in range(rows)])}
    return pa.table({"text": demo["text"].head(rows).to_arrow(), **columns, **others})


@pytest.fixture(scope="module")
def workspace_folder(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    root = tmp_path_factory.mktemp("types")
    (root / "corpus").mkdir()
    pq.write_table(table(ROWS, demo), root / "corpus" / "a.parquet")
    ls.run(str(root / "corpus"), out=root / "out", text="text", progress="quiet", project={"n_epochs": 5})
    return root


def test_the_page_shows_each_value_as_it_stood(workspace_folder: Path) -> None:
    (pack,) = (workspace_folder / "out" / "maps").glob("*/viewer/rows/*.parquet")
    shown = pl.read_parquet(pack).select(list(VALUES))
    for name, (_, _, page, _) in VALUES.items():
        assert shown[name].unique().to_list() == [page], name


def test_integers_beyond_float64_are_categories_only_if_distinguishable(workspace_folder: Path) -> None:
    (index,) = (workspace_folder / "out" / "maps").glob("*/viewer/index.json")
    colours = {one["name"]: one for one in json.loads(index.read_text())["colours"]}
    assert colours["order"]["kind"] == "numbers"
    assert colours["few"]["categories"] == [["0", 40], ["1", 40], ["2", 40]]
    assert colours["id"]["categories"] == [[str(2**60 + 1), ROWS]]


def test_every_format_holds_every_type(workspace_folder: Path, tmp_path: Path, demo: pl.DataFrame) -> None:
    opened = ls.open(workspace_folder / "out").the_map()
    for suffix in ("csv", "jsonl", "parquet"):
        opened.export(tmp_path / f"points.{suffix}")
    text = pl.read_csv(tmp_path / "points.csv", infer_schema=False).with_columns(pl.all().fill_null(""))
    for name, (_, _, page, csv) in VALUES.items():
        if name not in ("moment", "half"):
            assert text[name].unique().to_list() == [str(page) if csv is None else csv], name
    lines = [json.loads(line) for line in (tmp_path / "points.jsonl").read_text().splitlines()]
    assert len(lines) == ROWS
    assert lines[0]["list"] == ["a", "b"]
    assert lines[0]["id"] == 2**60 + 1
    same = pl.read_parquet(tmp_path / "points.parquet")
    assert same["id"].unique().to_list() == [2**60 + 1]
    assert same["nested"][0].to_list() == VALUES["nested"][0]
    # A night's points have the types of the fit.
    pq.write_table(table(20, demo).slice(10), workspace_folder / "corpus" / "b.parquet")
    grown = ls.open(workspace_folder / "out").update()
    grown.export(tmp_path / "grown.csv")
    schema = opened.points().collect_schema()
    assert {name: grown.points().collect_schema()[name] for name in VALUES} == {name: schema[name] for name in VALUES}
    assert len(pl.read_csv(tmp_path / "grown.csv", infer_schema=False)) == ROWS + 10
    assert ls.open(workspace_folder / "out").verify().faults == []


def test_times_that_milliseconds_hold_stay_times() -> None:
    kept = displayable(pa.array([dt.datetime(2020, 1, 2, 3, 4, 5), None]))
    assert kept.type == pa.timestamp("ms")
    assert displayable(pa.array([-1, None], pa.timestamp("us"))).to_pylist() == ["1969-12-31 23:59:59.999999", None]
    assert displayable(pa.array([dt.timedelta(seconds=-3), dt.timedelta(0)])).to_pylist() == ["-PT3S", "PT0S"]
