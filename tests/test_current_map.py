"""Commands use the corpus and settings of the current map, and change it only on request."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale as ls
from latentscale.errors import ConfigError, WorkspaceError
from tests.conftest import moved, rewrite_json

SETTINGS: dict[str, Any] = {"project": {"n_epochs": 20}, "cluster": {"min_cluster_size": 10}}


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A folder with one file of games and mail, and a workspace whose first run used all of it."""
    root = tmp_path_factory.mktemp("selection")
    (root / "corpus").mkdir()
    chosen = demo.filter(pl.col("section").is_in(["games", "mail"])).sort("package").head(240)
    chosen.write_parquet(root / "corpus" / "a.parquet")
    ls.run(root / "corpus", out=root / "ws", id="package", progress="quiet", **SETTINGS)
    return root


@pytest.fixture
def copied(first_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(first_run, tmp_path / "copy", copy_function=shutil.copy2)
    moved(tmp_path / "copy" / "ws", first_run / "corpus", tmp_path / "copy" / "corpus")
    return tmp_path / "copy"


@pytest.fixture
def workspace(copied: Path) -> ls.Workspace:
    return ls.open(copied / "ws", must_exist=True)


def packages(shown: ls.Map | None) -> set[str]:
    assert shown is not None
    return set(shown.points().select("package").collect()["package"])


def head(workspace: ls.Workspace) -> tuple[bytes, bytes]:
    return workspace.store.read_bytes("HEAD.json"), workspace.store.read_bytes("viewer/manifest.json")


def run(copied: Path, **corpus: Any) -> ls.Map:
    sources = corpus.pop("sources", copied / "corpus")
    return ls.run(sources, out=copied / "ws", id="package", progress="quiet", corpus=corpus, **SETTINGS)


@pytest.mark.parametrize("selection", [{"where": "section = 'games'"}, {"limit": 150}, {"sample": 0.5}], ids=str)
def test_an_update_selects_as_the_run_of_the_current_map_did(
    copied: Path, workspace: ls.Workspace, selection: dict[str, Any], demo: pl.DataFrame
) -> None:
    second = run(copied, **selection)
    kept = packages(second)
    assert len(kept) < 240
    assert workspace.update().id == second.id
    more = demo.filter(pl.col("section").is_in(["games", "mail"])).sort("package").slice(240, 40)
    more.write_parquet(copied / "corpus" / "b.parquet")
    assert workspace.run_update().map is not None
    added = packages(workspace.current) - kept
    games = set(more.filter(pl.col("section") == "games")["package"])
    assert packages(workspace.current) >= kept
    assert added == (games if "where" in selection else added & set(more["package"]))
    assert len(added) < 40
    # And from the record of the map alone, without those of the runs.
    shutil.rmtree(copied / "ws" / "runs")
    job = workspace.map_settings()
    assert {name: job["corpus"][name] for name in selection} == selection
    assert job["project"]["n_epochs"] == 20


def test_an_update_reads_the_sources_of_the_current_map(
    copied: Path, workspace: ls.Workspace, demo: pl.DataFrame
) -> None:
    more = demo.filter(pl.col("section") == "perl").head(30)
    more.write_parquet(copied / "other.parquet")
    second = run(copied, sources=[copied / "corpus", copied / "other.parquet"])
    assert len(packages(second)) == 270
    assert workspace.update().id == second.id
    assert workspace.plan().documents == 270


def test_stages_go_by_the_current_map_and_by_documents_that_were_read_after_it(
    copied: Path, workspace: ls.Workspace
) -> None:
    whole = workspace.current
    assert whole is not None
    games = run(copied, where="section = 'games'")
    assert workspace.run_stages(until="publish").map == games.record
    other = workspace.map(cluster={"min_cluster_size": 5})
    assert packages(other) == packages(games)
    workspace.promote(whole.id)
    assert workspace.run_stages(until="publish").map == whole.record
    assert workspace.update().id == whole.id
    mail = workspace.ingest(copied / "corpus", id="package", where="section = 'mail'")
    assert workspace.snapshot.id == mail.id
    assert packages(workspace.map()) == packages(whole) - packages(games)
    assert workspace.the_map().id == whole.id


def test_a_map_that_is_tried_leaves_the_current_one_and_the_page_alone(workspace: ls.Workspace) -> None:
    before, current = head(workspace), workspace.the_map()
    assert workspace.map().id == current.id
    tried = [workspace.map(cluster={"min_cluster_size": size}) for size in (5, 20)]
    titled = workspace.map(publish={"title": "Another"})
    assert len({current.id, titled.id, *(one.id for one in tried)}) == 4
    assert head(workspace) == before
    # Each begins from the current map, not from the one before.
    assert titled.record.request["clusters"] == current.record.request["clusters"]
    assert workspace.map(publish=True, cluster={"min_cluster_size": 5}).id == tried[0].id == workspace.the_map().id
    assert head(workspace)[1] != before[1]
    assert ls.open(workspace.url).verify().faults == []


def test_a_map_that_has_grown_is_not_fitted_again_unasked(
    copied: Path, workspace: ls.Workspace, demo: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.filter(pl.col("section") == "mail").sort("package").tail(20).write_parquet(copied / "corpus" / "b.parquet")
    grown, before = workspace.update(), head(workspace)
    with pytest.raises(WorkspaceError, match="has grown by updates since its fit") as refused:
        run(copied)
    assert refused.value.exit_code == 2
    assert "latentscale update" in str(refused.value)
    assert "--refit" in str(refused.value)
    with pytest.raises(WorkspaceError, match="has grown"):
        workspace.run_stages(until="publish")
    assert head(workspace) == before
    values = {**workspace.map_settings(), "out": workspace.url}
    refitted = workspace.published(workspace.run(values, refit=True))
    assert refitted.record.request["align"] == grown.id
    values["corpus"] = {**values["corpus"], "where": "section = 'games'"}
    workspace.run(values, progress="json")
    note = next(line for line in capsys.readouterr().err.splitlines() if "--refit" in line)
    assert f"chosen as that of {refitted.id} was (where: none → section = 'games')" in json.loads(note)["text"]


def test_maps_without_a_current_one_are_named_with_the_way_to_choose(workspace: ls.Workspace) -> None:
    current = workspace.the_map()
    workspace.store.delete(["HEAD.json"])
    with pytest.raises(WorkspaceError, match=f"holds one map and none is the current one .*{current.id}") as refused:
        workspace.update()
    assert f"latentscale promote {workspace.url} {current.id}" in str(refused.value)
    workspace.promote(current.id)
    assert workspace.update().id == current.id


def test_settings_that_are_lost_are_no_defaults(copied: Path, workspace: ls.Workspace) -> None:
    shutil.rmtree(copied / "ws" / "runs")
    for path in (copied / "ws" / "maps").glob("*/map.json"):
        rewrite_json(path, lambda values: {key: value for key, value in values.items() if key != "job"})
    with pytest.raises(WorkspaceError, match=r"settings with which .* was made are lost"):
        workspace.update()


def test_documents_keep_their_row_id_after_promoting_an_earlier_map(
    copied: Path, workspace: ls.Workspace, demo: pl.DataFrame
) -> None:
    fitted = workspace.the_map()
    more = demo.filter(pl.col("section") == "mail").sort("package").tail(35)
    more.write_parquet(copied / "corpus" / "b.parquet")
    ids = dict(workspace.update().points().select("package", "row_id").collect().iter_rows())
    (copied / "corpus" / "b.parquet").rename(copied / "corpus" / "c.parquet")
    workspace.promote(fitted.id)
    after = dict(workspace.update().points().select("package", "row_id").collect().iter_rows())
    assert after == ids
    assert workspace.verify().faults == []


def test_a_job_file_names_the_workspace_and_the_way_to_it(copied: Path) -> None:
    from latentscale.cli.work import existing_workspace

    job = copied / "job.yaml"
    job.write_text(f"out: {copied / 'ws'}\nstorage: {{region: somewhere}}\n")
    opened = existing_workspace(str(job))
    assert (opened.name, opened.store.storage.region) == ("ws", "somewhere")
    opened.check_selection({"sources": str(copied / "corpus"), "where": None, "id": "package"}, where=str(job))
    with pytest.raises(ConfigError, match=r"another \(where: none → section = 'games'\)") as refused:
        opened.check_selection({"where": "section = 'games'"}, where=str(job))
    assert f"latentscale run {job} --refit" in str(refused.value)
