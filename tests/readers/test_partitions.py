"""Columns that stand in the path of a file."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from latentscale.errors import ConfigError
from latentscale.readers.partitions import partitions_of

TEXTS = [f"text {i}" for i in range(40)]


@pytest.fixture
def hive(tmp_path: Path) -> Path:
    table = pa.table(
        {
            "text": TEXTS,
            "kind": [["a b", "c/d", "é=%", None][i % 4] for i in range(40)],
            "year": [2000 + i % 2 for i in range(40)],
        }
    )
    ds.write_dataset(table, tmp_path / "h", format="parquet", partitioning=["kind", "year"], partitioning_flavor="hive")
    return tmp_path / "h"


def test_the_columns_of_a_hive_data_set_are_those_that_polars_reads(hive: Path, ingested: Callable[..., Any]):
    made = ingested(hive)
    expected = pl.scan_parquet(hive, hive_partitioning=True).collect().sort("text")
    got = pl.DataFrame(made.table.select(["text", "kind", "year"])).sort("text")
    assert got.equals(expected.select(got.columns).cast({"kind": pl.String, "year": pl.Int64}))
    assert made.table.schema.field("year").type == pa.int64()
    assert "the columns kind, year" in " ".join(made.check.notes)


def test_they_can_be_used_in_conditions_and_templates(hive: Path, ingested: Callable[..., Any]):
    made = ingested(hive, where="kind = 'c/d' AND year >= 2001", text="{kind}: {text}")
    assert sorted(made.texts) == sorted(f"c/d: text {i}" for i in range(40) if i % 4 == 1 and i % 2)
    with pytest.raises(ConfigError, match="names 'kinds'"):
        ingested(hive, where="kinds = 'x'")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "md"])
def test_every_format_has_them(tmp_path: Path, ingested: Callable[..., Any], kind: str):
    content = {"csv": "text,n\none,1\n", "jsonl": '{"text": "one", "n": 1}\n', "md": "one"}[kind]
    for day in ("2024-01-31", "2024-02-01"):
        path = tmp_path / f"day={day}" / "code=007" / f"x.{kind}"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    made = ingested(tmp_path, where="code = '007'")
    assert made.table.column("day").to_pylist() == [datetime.date(2024, 1, 31), datetime.date(2024, 2, 1)]
    # Zeros in front say that it is a name.
    assert made.table.column("code").to_pylist() == ["007", "007"]


def test_a_column_of_the_file_itself_stays_as_it_is(tmp_path: Path, ingested: Callable[..., Any]):
    (tmp_path / "n=5").mkdir()
    (tmp_path / "n=5/a.jsonl").write_text('{"text": "one", "n": 1}\n')
    assert ingested(tmp_path).rows == [{"text": "one", "n": 1}]


def test_a_folder_or_file_of_a_data_set_keeps_its_columns(hive: Path, ingested: Callable[..., Any]):
    one = next(hive.glob("kind=a%20b/year=2000/*.parquet"))
    for source in (one, one.parent, one.parent / "*.parquet"):
        made = ingested(source)
        assert set(made.table.column("kind").to_pylist()) == {"a b"}
        assert set(made.table.column("year").to_pylist()) == {2000}


def test_they_are_read_from_a_store_too(ingested: Callable[..., Any]):
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/hive-store/lang=de/a.csv", b"text\neins\n")
    memory.pipe_file("/hive-store/lang=en/a.csv", b"text\none\n")
    assert ingested("memory://hive-store").rows == [{"text": "eins", "lang": "de"}, {"text": "one", "lang": "en"}]
    assert ingested("memory://hive-store/lang=en").rows == [{"text": "one", "lang": "en"}]


def test_reading_a_path():
    assert partitions_of("a=1/b%20c=x%2Fy/d=__HIVE_DEFAULT_PARTITION__/e=/f=1.csv") == {
        "a": "1",
        "b c": "x/y",
        "d": None,
        "e": "",
    }
    assert partitions_of("plain/=x/a.csv") == {}
