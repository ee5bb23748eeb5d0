"""Duplicates of a map, also after an update, and a run without them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.errors import RequestError
from tests.cli.conftest import Ended

SETTINGS = {"project": {"n_epochs": 20}, "cluster": {"min_cluster_size": 10}}


@pytest.fixture(scope="module")
def documents(demo: pl.DataFrame) -> pl.DataFrame:
    """300 documents, 20 copies of the first to the letter, and three that differ in a few words."""
    base = demo.sample(300, seed=8).select("package", "text")
    first = base.row(0, named=True)["text"]
    copies = pl.DataFrame({"package": [f"copy-{i}" for i in range(20)], "text": [first] * 20})
    near = base[1:4].with_columns(pl.col("package") + "-near", pl.col("text") + " This package is great.")
    return pl.concat([base, copies, near])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, documents: pl.DataFrame) -> Path:
    place = tmp_path_factory.mktemp("duplicates")
    (place / "corpus").mkdir()
    documents.write_parquet(place / "corpus" / "a.parquet")
    ls.run(place / "corpus", text="text", id="package", out=place / "map", progress="quiet", **SETTINGS)
    return place


def test_copies_and_near_copies_have_a_representative(made: Path, documents: pl.DataFrame) -> None:
    current = ls.open(made / "map").the_map()
    found = current.duplicates(0.9)
    assert found.documents.columns == [
        *("group", "row_id", "package", "representative", "similarity", "exact", "excerpt")
    ]
    group = found.documents.filter(pl.col("group") == 0)
    first = documents["package"][0]
    assert set(group.filter(pl.col("exact"))["package"]) == {first, *(f"copy-{i}" for i in range(20))}
    assert group["representative"].unique().to_list() == [0]
    for package in documents["package"][1:4]:
        pair = found.documents.filter(pl.col("package").is_in([package, f"{package}-near"]))
        assert pair["group"].n_unique() == 1, pair
        # The longer text represents the two.
        assert pair.row(0, named=True)["similarity"] == pytest.approx(1)
        assert pair.row(0, named=True)["package"] == f"{package}-near"
        assert 0.9 <= pair.row(1, named=True)["similarity"] < 1
    assert np.array_equal(np.sort(np.concatenate([found.kept, found.dropped])), np.arange(len(documents)))
    assert found.summary()["documents"].sum() == len(found.documents) == len(found.dropped) + found.groups
    assert found.summary().row(0, named=True)["documents"] >= 21


def test_exact_duplicates_are_those_of_the_texts(made: Path, documents: pl.DataFrame) -> None:
    found = ls.open(made / "map").the_map().duplicates(exact=True)
    unique = documents.with_row_index("row_id").unique("text", keep="first", maintain_order=True)
    assert found.kept.tolist() == unique["row_id"].to_list()
    assert found.documents["exact"].all()
    assert found.documents["similarity"].unique().to_list() == [1.0]
    assert found.threshold is None


def test_two_commands_make_a_map_without_the_copies(
    made: Path, latentscale: Callable[..., Ended], tmp_path: Path, documents: pl.DataFrame
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True, copy_function=shutil.copy2)
    drop, keep, table, out = (tmp_path / name for name in ("copies.csv", "kept.parquet", "groups.csv", "map"))
    before = ls.open(out).the_map().duplicates(0.9)
    ended = latentscale("duplicates", out, "--threshold", 0.9, "--drop", drop, "--keep", keep, "--out", table)
    assert ended.code == 0, ended.err
    assert ended.out == ""
    assert f"{len(before.kept):,} are left without {len(before.dropped):,} copies" in ended.err
    assert pl.read_csv(drop)["row_id"].to_list() == before.dropped.tolist()
    assert pl.read_parquet(keep)["row_id"].to_list() == before.kept.tolist()
    assert pl.read_csv(table).height == len(before.documents)
    corpus = [tmp_path / "corpus", "--text", "text", "--id", "package", "--out", out, "--progress", "quiet"]
    ended = latentscale("run", *corpus, "--exclude", drop, "--refit")
    assert ended.code == 0, ended.err
    workspace = ls.open(out)
    assert workspace.the_map().points().collect()["row_id"].sort().to_list() == before.kept.tolist()
    assert len(workspace.the_map().duplicates(0.9).dropped) == 0
    # What an update brings is compared with all: a copy of an old document, and one of another new one.
    new = pl.DataFrame(
        {
            "package": ["new-1", "new-2", "new-3"],
            "text": [documents["text"][50], "A set of violins and their bows.", "A set of violins and their bows!"],
        }
    )
    new.write_parquet(tmp_path / "corpus" / "b.parquet")
    workspace.update()
    found = workspace.the_map().duplicates(0.9)
    pairs = found.documents.group_by("group").agg(pl.col("package").sort())["package"].to_list()
    assert sorted(pairs) == sorted([sorted([documents["package"][50], "new-1"]), ["new-2", "new-3"]])
    ended = latentscale("duplicates", out, "--format", "jsonl", "--exact")
    assert [json.loads(line)["exact"] for line in ended.out.splitlines()] == [True, True]
    assert "of one text each" in ended.err


def test_one_file_cannot_be_the_target_of_two_outputs(
    made: Path, latentscale: Callable[..., Ended], tmp_path: Path
) -> None:
    file = tmp_path / "d.csv"
    ended = latentscale("duplicates", made / "map", "--out", file, "--drop", tmp_path / "x" / ".." / "d.csv")
    assert ended.code == 2
    ended = latentscale("duplicates", made / "map", "--drop", file, "--keep", file)
    assert ended.code == 2
    assert "name one file for two things" in ended.err
    assert not file.exists()


def test_wrong_requests_are_refused(made: Path, latentscale: Callable[..., Ended], tmp_path: Path) -> None:
    ended = latentscale("duplicates", made / "map", "--drop", tmp_path / "copies.xlsx")
    assert ended.code == 2
    assert "Use .csv, .parquet." in ended.err
    current = ls.open(made / "map").the_map()
    with pytest.raises(RequestError, match=r"not between 0\.5 and 1"):
        current.duplicates(95)
    with pytest.raises(RequestError, match="not one of central, longest, first"):
        current.duplicates(prefer="shortest")  # type: ignore[arg-type]
