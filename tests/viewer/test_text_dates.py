"""Text columns in which every value is a date are date columns on the page."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from latentscale.viewer.columns import ColumnValues
from latentscale.viewer.text_dates import iso_days


def days(moment: datetime) -> float:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-31", datetime(2024, 1, 31, tzinfo=UTC)),
        (" 1969-12-31 ", datetime(1969, 12, 31, tzinfo=UTC)),
        ("2024-02-29T12:30:15Z", datetime(2024, 2, 29, 12, 30, 15, tzinfo=UTC)),
        ("2024-02-29 12:30", datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
        ("2024-02-29T00:30:00.250+02:00", datetime(2024, 2, 28, 22, 30, 0, 250_000, tzinfo=UTC)),
        ("2024-02-29T23:00-0130", datetime(2024, 3, 1, 0, 30, tzinfo=UTC)),
    ],
)
def test_an_iso_8601_date_is_parsed_to_its_moment(text: str, moment: datetime) -> None:
    found = iso_days(pa.array([text, None, "  "]))
    assert found is not None
    assert found[0] == pytest.approx(days(moment), abs=1e-9)
    assert np.isnan(found[1:]).all()


@pytest.mark.parametrize(
    "other",
    [
        *("2024-02-30", "2024-13-01", "2024-1-3", "03/01/2024", "2024", "2009-10", "20240101", "2024-01-01T24:30"),
        *("soon", "2024-01-01 and then", "2024-01-01T10:00 CET"),
    ],
)
def test_a_single_other_value_makes_a_date_column_text(other: str) -> None:
    assert iso_days(pa.array(["2024-01-31", other])) is None


def finished(scratch: Path, *batches: list[str | None], like: dict[str, Any] | None = None) -> tuple[Any, Any]:
    rows = sum(map(len, batches))
    column = ColumnValues("when", column_id="c0", rows=rows, scratch=scratch, like=like)
    start = 0
    for batch in batches:
        column.add(start, pa.array(batch, pa.large_string()))
        start += len(batch)
    entry = column.finish()
    values = None if entry is None else column.take(np.arange(rows)).to_pylist()
    column.close()
    assert not list(scratch.iterdir())
    return entry, values


def test_a_column_with_any_number_of_dates_is_a_date_column(tmp_path: Path) -> None:
    many = [str(date(1900, 1, 1) + timedelta(days=i)) for i in range(30_000)]
    entry, values = finished(tmp_path, [None, None], many[:10_000], [*many[10_000:], ""])
    assert (entry["kind"], entry["from"], entry["nulls"]) == ("dates", "text", 3)
    assert (entry["min"], entry["max"]) == (-25_567, 4_432)
    assert values[2] == -25_567
    assert np.isnan(values[0])
    assert np.isnan(values[-1])


def test_a_column_with_a_late_value_that_is_no_date_has_its_usual_kind(tmp_path: Path) -> None:
    entry, values = finished(tmp_path, ["2024-01-01", "2024-01-01"], ["never", "2024-01-02"])
    assert entry["kind"] == "categories"
    assert "from" not in entry
    assert entry["categories"] == [["2024-01-01", 2], ["2024-01-02", 1], ["never", 1]]
    assert values == [0, 0, 2, 1]
    many = [str(date(1900, 1, 1) + timedelta(days=i)) for i in range(30_000)]
    assert finished(tmp_path, many, ["never"])[0] is None
    assert finished(tmp_path, [None, " "])[0]["kind"] == "categories"


def test_an_update_keeps_the_kind_of_a_column(tmp_path: Path) -> None:
    first, _ = finished(tmp_path, ["2024-01-01", "2024-03-01"])
    later, values = finished(tmp_path, ["2025-01-01T12:00Z", None], like=first)
    assert (later["kind"], later["from"], later["max"]) == ("dates", "text", 20_089.5)
    assert values[0] == 20_089.5
    assert finished(tmp_path, ["2025-01-01", "unknown"], like=first)[0] is None
    named = {"id": "c0", "name": "when", "kind": "categories", "categories": [["2024-01-01", 2]], "other": [0, 0]}
    same, values = finished(tmp_path, ["2024-01-01", "2024-01-02"], like={**named, "nulls": 0})
    assert (same["kind"], values) == ("categories", [0, 1])
