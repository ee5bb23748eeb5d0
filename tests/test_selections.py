"""Excluded and selected documents: updates keep to the selection, and everything else is unchanged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale as ls
from latentscale.errors import ConfigError, CorpusError, LatentScaleError, WorkspaceError

QUICK: dict[str, Any] = {"project": {"n_epochs": 20}, "cluster": {"min_cluster_size": 8}, "publish": {"viewer": False}}


@pytest.fixture
def corpus(tmp_path: Path, demo: pl.DataFrame) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    demo.head(120).write_parquet(folder / "a.parquet")
    demo.slice(120, 120).write_parquet(folder / "b.parquet")
    return folder


@pytest.fixture(params=["package", None], ids=["by id", "by text"])
def identity(request: pytest.FixtureRequest) -> str | None:
    return request.param


def run(corpus: Path, identity: str | None, **selection: Any) -> ls.Map:
    return ls.run(
        corpus, out=corpus.parent / "map", id=identity, text="text", progress="quiet", corpus=selection, **QUICK
    )


def packages(made: ls.Map) -> dict[str, int]:
    """``row_id`` of each document, by its package."""
    points = made.points().select("package", "row_id").collect()
    return dict(zip(points["package"], points["row_id"], strict=True))


def test_excluded_documents_leave_the_map_and_stay_out_when_their_file_changes(
    corpus: Path, identity: str | None, demo: pl.DataFrame
) -> None:
    before = packages(run(corpus, identity))
    out = sorted(before)[:20]
    ids = corpus.parent / "ids.csv"
    column = pl.DataFrame({identity: out} if identity else {"row_id": [before[name] for name in out], "note": "junk"})
    column.write_csv(ids)
    made = run(corpus, identity, exclude=str(ids))
    kept = {name: row_id for name, row_id in before.items() if name not in out}
    assert packages(made) == kept
    workspace = ls.open(corpus.parent / "map")
    # Nothing was read or embedded again, and every row is still accounted for.
    assert not {"ingest", "embed"} & set(workspace.runs[-1]["facts"]["made"])
    rejects = made.rejects()
    assert rejects["reason"].to_list() == ["excluded"] * 20
    assert workspace.runs[-1]["facts"]["rejects"] == {"excluded": 20}
    assert workspace.verify().faults == []
    # The record says what was left out, whatever becomes of the file.
    (name,) = workspace.runs[-1]["job"]["corpus"]["exclude"]
    assert name.startswith("selection-")
    ids.unlink()

    # A night: a file was renamed and has another document, and new ones came.
    (corpus / "a.parquet").unlink()
    demo.slice(0, 120).vstack(demo.slice(240, 1)).write_parquet(corpus / "renamed.parquet")
    demo.slice(241, 30).write_parquet(corpus / "c.parquet")
    grown = run_update(workspace, name)
    now = packages(grown)
    assert not set(out) & set(now)
    assert {package: now[package] for package in kept} == kept
    assert len(now) == 220 + 31
    assert workspace.verify().faults == []
    assert run_update(workspace, name).id == grown.id

    # Let in again, the documents are those that they were.
    settings = workspace.map_settings()
    settings["corpus"] |= {"exclude": []}
    again = packages(workspace.published(workspace.run(settings, refit=True)))
    assert {package: again[package] for package in before} == before


def run_update(workspace: ls.Workspace, name: str) -> ls.Map:
    return workspace.update(corpus={"exclude": [name]})


def test_a_list_takes_documents_alone_and_its_absence_brings_the_others_back(corpus: Path) -> None:
    whole = run(corpus, "package")
    wanted = sorted(packages(whole))[:90]
    listed = corpus.parent / "ids.txt"
    listed.write_text("\n".join([*wanted, "", "no-such-package"]))
    made = run(corpus, "package", only=str(listed))
    assert sorted(packages(made)) == wanted
    events = (corpus.parent / "map" / "runs" / str(made.record.run) / "events.jsonl").read_text()
    assert "90 of the 91 ids" in events
    assert run(corpus, "package").id == whole.id


def test_clusters_of_the_current_map_are_left_out_one_after_the_other(corpus: Path) -> None:
    first = run(corpus, None)
    points = first.points().select("row_id", "cluster").collect()
    sizes = points.filter(pl.col("cluster") >= 0)["cluster"].value_counts(sort=True)
    junk = int(sizes["cluster"][0])
    gone = set(points.filter(pl.col("cluster") == junk)["row_id"])
    second = run(corpus, None, exclude_clusters=[junk])
    left = set(second.points().collect()["row_id"])
    assert left == set(points["row_id"]) - gone
    other = second.points().filter(pl.col("cluster") == 0).collect()
    third = run(corpus, None, exclude_clusters=[0])
    assert set(third.points().collect()["row_id"]) == left - set(other["row_id"])
    selections = sorted((corpus.parent / "map" / "selections").iterdir())
    assert len(selections) == 2
    assert ls.open(corpus.parent / "map").verify().faults == []


def test_lists_as_spreadsheets_and_pandas_write_them(tmp_path: Path) -> None:
    pl.DataFrame({"id": range(9), "text": [f"text {i}" for i in range(9)]}).write_csv(tmp_path / "a.csv")
    (tmp_path / "semicolons.csv").write_bytes("\ufeffid;name, and more\r\n3;a\r\n4;b\r\n".encode())
    # An id that is missing makes floats of all of them.
    pl.DataFrame({"id": [3.0, None, 4.0, float("nan")]}).write_parquet(tmp_path / "floats.parquet")
    pl.DataFrame({"number": [3, 4]}).write_parquet(tmp_path / "one.parquet")
    for name in ("semicolons.csv", "floats.parquet", "one.parquet"):
        workspace = ls.Workspace(tmp_path / name.partition(".")[0])
        workspace.ingest(tmp_path / "a.csv", id="id", text="text", exclude=str(tmp_path / name))
        gone = workspace.rejects().filter(pl.col("reason") == "excluded")
        assert sorted(gone["source_row"]) == [3, 4], name


@pytest.mark.parametrize(
    ("text", "name", "selection", "error", "told"),
    [
        (None, "ids.csv", "exclude", ConfigError, "there is no file"),
        ("a,b\n1,2\n", "ids.csv", "exclude", ConfigError, "no column of ids; its columns are a, b"),
        # Without a header: the first id would be the name of the column, and stay in.
        ("nobody\nsomebody\n", "ids.csv", "exclude", ConfigError, "a list without a header is a .txt file"),
        ("", "ids.txt", "exclude", ConfigError, "holds no id"),
        ("x\n", "ids.json", "only", ConfigError, "is not read"),
        ("row_id\n7\nseven\n", "ids.csv", "exclude", ConfigError, "'seven' is no row id"),
        ("package\nnobody\n", "ids.csv", "only", CorpusError, "no document is left"),
    ],
)
def test_a_list_that_cannot_be_is_refused(
    text: str | None, name: str, selection: str, error: type[LatentScaleError], told: str, corpus: Path
) -> None:
    path = corpus.parent / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=told) as caught:
        ls.Workspace(corpus.parent / "map").ingest(corpus, id="package", text="text", **{selection: str(path)})
    assert caught.value.exit_code == 2


def test_a_cluster_that_does_not_exist_is_refused(corpus: Path) -> None:
    with pytest.raises(WorkspaceError, match="no map yet"):
        run(corpus, None, exclude_clusters=[3])
    run(corpus, None)
    with pytest.raises(WorkspaceError, match="has no cluster 4711"):
        run(corpus, None, exclude_clusters=[4711])


def test_the_options_of_the_command_are_those_settings(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from latentscale.cli.main import app

    ids = corpus.parent / "ids.csv"
    ids.write_text("row_id\n3\n4\n")
    out = corpus.parent / "map"
    common = ["run", str(corpus), "--out", str(out), "--json", "--progress", "quiet"]
    common += ["--set", "project.n_epochs=20", "--set", "cluster.min_cluster_size=8"]
    app(args=[*common, "--exclude", str(ids)], standalone_mode=False, obj=["latentscale"])
    assert json.loads(capsys.readouterr().out)["rejects"] == {"excluded": 2}
    app(args=[*common, "--exclude-clusters", "0"], standalone_mode=False, obj=["latentscale"])
    assert json.loads(capsys.readouterr().out)["rejects"]["excluded"] > 2
    shutil.rmtree(out)
