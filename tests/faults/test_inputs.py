"""Inputs that change during a run: the listed version is read, or the run reports that it is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from harness import check_so_far

import latentscale
from latentscale.errors import CorpusError, LatentScaleError, StorageError
from latentscale.stages.ingest import worker

SETTINGS: dict[str, Any] = {
    "ingest": {"shard_rows": 40},
    "project": {"n_epochs": 50},
    "cluster": {"min_cluster_size": 8},
    "progress": "quiet",
}
Meddle = Callable[[], object]


@pytest.fixture
def corpus(tmp_path: Path, demo: pl.DataFrame) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    demo.slice(0, 150).write_ndjson(folder / "a.jsonl")
    demo.slice(150, 150).write_ndjson(folder / "b.jsonl")
    return folder


def meddle_once(monkeypatch: pytest.MonkeyPatch, file: str, meddle: Meddle, *, when: str) -> None:
    """Let somebody else do something before ``file`` is opened, or when a block of it has been read."""
    real = worker.read_input
    done: list[bool] = []

    def read_input(one: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
        mine = one.path == file and not done
        if mine and when == "before":
            done.append(True)
            meddle()
        for block in real(one, *arguments, **options):
            if mine and when == "while":
                done.append(True)
                meddle()
                mine = False
            yield block

    monkeypatch.setattr(worker, "read_input", read_input)


def names(out: Path) -> list[str]:
    current = latentscale.open(out).current
    assert current is not None
    points = current.points().collect()
    assert points["row_id"].n_unique() == len(points)
    check_so_far_at(out)
    return sorted(points["package"].to_list())


def check_so_far_at(out: Path) -> None:
    from harness import Place

    check_so_far(Place(str(out)))


def expected(corpus: Path) -> list[str]:
    return sorted(pl.concat([pl.read_ndjson(path)["package"] for path in corpus.iterdir()]).to_list())


@pytest.mark.parametrize("when", ["before", "while"])
@pytest.mark.parametrize("how", ["in place", "appended", "by another file"])
def test_an_input_that_is_rewritten_between_plan_and_read_is_noticed_and_never_mixed(
    tmp_path: Path, corpus: Path, demo: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, when: str, how: str
) -> None:
    def rewrite() -> None:
        if how == "appended":
            with (corpus / "b.jsonl").open("ab") as file:
                file.write(demo.slice(300, 20).write_ndjson().encode())
        elif how == "in place":
            demo.slice(170, 140).write_ndjson(corpus / "b.jsonl")
        else:
            demo.slice(170, 140).write_ndjson(tmp_path / "new.jsonl")
            (tmp_path / "new.jsonl").replace(corpus / "b.jsonl")

    before = sorted(demo.slice(0, 300)["package"].to_list())
    meddle_once(monkeypatch, "b.jsonl", rewrite, when=when)
    out = tmp_path / "map"
    with pytest.raises(StorageError, match=r"b\.jsonl was overwritten since the inputs were listed") as error:
        latentscale.run(corpus, out=out, **SETTINGS)
    assert error.value.exit_code == 4
    assert "listed again" in str(error.value)
    check_so_far_at(out)
    latentscale.run(corpus, out=out, **SETTINGS)
    assert names(out) == expected(corpus) != before


def test_the_same_under_an_update_leaves_the_map_as_it_was(
    tmp_path: Path, corpus: Path, demo: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "map"
    latentscale.run(corpus, out=out, **SETTINGS)
    before = names(out)
    demo.slice(300, 60).write_ndjson(corpus / "c.jsonl")
    meddle_once(monkeypatch, "c.jsonl", lambda: demo.slice(320, 70).write_ndjson(corpus / "c.jsonl"), when="while")
    workspace = latentscale.open(out)
    with pytest.raises(StorageError, match=r"c\.jsonl was overwritten"):
        workspace.update()
    assert names(out) == before
    workspace.update()
    assert names(out) == expected(corpus)


@pytest.mark.parametrize("what", ["removed", "renamed"])
def test_an_input_deleted_after_planning_is_reported_and_a_second_run_omits_it(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path = corpus / "b.jsonl"
    go = path.unlink if what == "removed" else lambda: path.rename(corpus / "z.jsonl")
    meddle_once(monkeypatch, "b.jsonl", go, when="before")
    out = tmp_path / "map"
    with pytest.raises(CorpusError, match=r"the input b\.jsonl does not exist any more"):
        latentscale.run(corpus, out=out, **SETTINGS)
    check_so_far_at(out)
    latentscale.run(corpus, out=out, **SETTINGS)
    assert names(out) == expected(corpus)


def test_an_input_that_comes_meanwhile_is_in_the_next_update(
    tmp_path: Path, corpus: Path, demo: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = expected(corpus)
    meddle_once(monkeypatch, "b.jsonl", lambda: demo.slice(300, 50).write_ndjson(corpus / "0.jsonl"), when="before")
    out = tmp_path / "map"
    latentscale.run(corpus, out=out, **SETTINGS)
    assert names(out) == before
    latentscale.open(out).update()
    assert names(out) == expected(corpus)


def test_files_that_change_between_updates_leave_every_row_once(
    tmp_path: Path, corpus: Path, demo: pl.DataFrame
) -> None:
    out = tmp_path / "map"
    latentscale.run(corpus, out=out, **SETTINGS)
    workspace = latentscale.open(out)
    ids = {row["package"]: row["row_id"] for row in workspace.the_map().points().collect().iter_rows(named=True)}

    def step(change: Meddle) -> None:
        change()
        try:
            workspace.update()
        except LatentScaleError as error:
            pytest.fail(str(error))
        assert names(out) == expected(corpus)
        points = workspace.the_map().points().collect()
        for row in points.iter_rows(named=True):
            assert ids.setdefault(row["package"], row["row_id"]) == row["row_id"], "a document keeps its row_id"

    step(lambda: demo.slice(300, 50).write_ndjson(corpus / "c.jsonl"))
    step(lambda: (corpus / "a.jsonl").rename(corpus / "renamed.jsonl"))
    step(lambda: demo.slice(160, 130).vstack(demo.slice(350, 10)).write_ndjson(corpus / "b.jsonl"))
    step((corpus / "c.jsonl").unlink)
