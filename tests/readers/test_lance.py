"""Tables of LanceDB: every row, at the listed version."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import latentscale as ls
from latentscale.config import CorpusConfig, IngestConfig
from latentscale.errors import CorpusError, MissingPackageError
from latentscale.readers import read_input
from latentscale.readers.check import check_corpus
from latentscale.readers.inputs import list_inputs

lance: Any = pytest.importorskip("lance", reason="tables of LanceDB are written by the package pylance")
WIDTH = 8


def rows(begin: int, stop: int) -> pa.Table:
    numbers = np.arange(begin, stop)
    angles = numbers[:, None] % 7 + np.arange(WIDTH)[None, :]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.cos(angles).ravel(), pa.float32()), WIDTH)
    return pa.table({"id": numbers, "text": [f"document {n} of group {n % 7}" for n in numbers], "vector": vectors})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "base" / "docs.lance"
    lance.write_dataset(rows(0, 300), str(path))
    lance.write_dataset(rows(300, 500), str(path), mode="append").delete("id >= 40 AND id < 60")
    return path


def read(path: Path) -> pl.DataFrame:
    (file,) = list_inputs(CorpusConfig(sources=(str(path),)))
    blocks = [block.table for block in read_input(file, CorpusConfig(sources=(str(path),)), IngestConfig())]
    return pl.DataFrame(pa.concat_tables(blocks))


def test_every_row_that_was_not_deleted_is_read_in_order(table: Path) -> None:
    expected = [n for n in range(500) if not 40 <= n < 60]
    found = read(table)
    assert found["id"].to_list() == expected
    assert found["text"].to_list() == [f"document {n} of group {n % 7}" for n in expected]
    np.testing.assert_array_equal(
        np.stack(found["vector"].to_list()), pl.DataFrame(rows(0, 500))["vector"].to_numpy()[expected]
    )
    corpus = CorpusConfig(sources=(str(table),), text="text", vectors="vector")
    assert check_corpus(list_inputs(corpus), corpus).rows == 480


def test_the_listed_version_is_read_despite_later_writes(table: Path) -> None:
    corpus = CorpusConfig(sources=(str(table),))
    (file,) = list_inputs(corpus)
    lance.write_dataset(rows(500, 510), str(table), mode="append")
    assert sum(block.size for block in read_input(file, corpus, IngestConfig())) == 480
    assert read(table).height == 490


def test_the_names_of_versions_in_both_orders_give_the_newest(table: Path) -> None:
    versions = table / "_versions"
    for name in [one.name for one in versions.glob("*.manifest")]:
        number = 2**64 - 1 - int(name.removesuffix(".manifest"))
        (versions / name).rename(versions / f"{number}.manifest")
    (file,) = list_inputs(CorpusConfig(sources=(str(table),)))
    assert file.url.endswith("_versions/3.manifest")


def test_a_map_of_a_table_with_its_vectors_grows_with_it(table: Path, tmp_path: Path) -> None:
    made = ls.run(
        str(table),
        out=tmp_path / "map",
        text="text",
        id="id",
        vectors="vector",
        cluster={"min_cluster_size": 8},
        project={"n_epochs": 20},
        progress="quiet",
    )
    before = made.points().collect()
    assert before.height == 480
    lance.write_dataset(rows(500, 520), str(table), mode="append").delete("id < 5")
    after = ls.open(tmp_path / "map").update().points().collect()
    assert set(after["id"].cast(pl.Int64)) == {n for n in range(5, 520) if not 40 <= n < 60}
    kept = before.join(after, on="row_id", how="inner", suffix="_after")
    assert kept.height == 475
    assert (kept["x"] == kept["x_after"]).all()


def test_a_missing_part_is_reported(table: Path) -> None:
    next((table / "data").iterdir()).unlink()
    with pytest.raises(CorpusError, match=r"docs\.lance is not a complete table of LanceDB"):
        read(table)


def test_a_data_base_wants_the_name_of_a_table(table: Path) -> None:
    with pytest.raises(CorpusError, match="holds no readable file") as raised:
        read(table.parent)
    assert "name one of them, FOLDER/NAME.lance" in str(raised.value.hint)


def test_a_missing_extra_is_named(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(MissingPackageError) as raised:
        read(table)
    assert "latentscale[lance]" in str(raised.value.hint)
