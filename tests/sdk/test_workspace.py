"""What a notebook can do with a workspace: all that the command line can."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest
import typer.main

import latentscale
from latentscale.cli.main import app
from latentscale.config import SCHEMA_VERSION
from latentscale.errors import ConfigError, DamagedObjectError, RequestError, WorkspaceError
from latentscale.storage.runs import read_run
from latentscale.storage.sealed import seal


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> latentscale.Workspace:
    out = tmp_path_factory.mktemp("sdk") / "map"
    latentscale.run(
        small_corpus,
        out=out,
        text="text",
        id="package",
        progress="quiet",
        ingest={"shard_rows": 100},
        embed={"max_tokens": 64},
        project={"n_epochs": 50},
        cluster={"min_cluster_size": 12},
        engine={"threads": 1},
    )
    return latentscale.open(out)


# What a person types, and what does the same in Python.
METHODS = {
    "run": latentscale.run,
    "update": latentscale.Workspace.update,
    "promote": latentscale.Workspace.promote,
    "ingest": latentscale.Workspace.ingest,
    **dict.fromkeys(("embed", "neighbors", "project", "cluster", "label"), latentscale.Workspace.run_stages),
    "publish": latentscale.Workspace.map,
    "view": latentscale.Map.view,
    "clusters": latentscale.Map.tree,
    "labels": latentscale.Workspace.import_labels,
    "search": latentscale.Map.find,
    "sample": latentscale.Map.sample,
    "duplicates": latentscale.Map.duplicates,
    "quality": latentscale.Map.quality,
    "export": latentscale.Map.export,
    "place": latentscale.Map.place,
    "plan": latentscale.plan,
    "status": latentscale.Workspace.status,
    "list": latentscale.Workspace.artifacts,
    "show": latentscale.Workspace.artifact,
    "diff": latentscale.Workspace.diff,
    "compare": latentscale.Workspace.compare,
    "gallery": latentscale.Workspace.gallery,
    "verify": latentscale.Workspace.verify,
    "repair": latentscale.Workspace.repair,
    "migrate": latentscale.Workspace.migrate,
    "gc": latentscale.Workspace.gc,
    "init": latentscale.init,
    "doctor": latentscale.doctor,
    "models": latentscale.list_models,
}


def test_every_command_has_its_like_in_python() -> None:
    command = typer.main.get_command(app)
    assert set(getattr(command, "commands", {})) == set(METHODS)


def test_all_public_names_can_be_imported_and_are_listed() -> None:
    assert {name for name in latentscale.__all__ if not hasattr(latentscale, name)} == set()
    assert dir(latentscale) == sorted(latentscale.__all__)
    with pytest.raises(AttributeError):
        _ = latentscale.nothing  # pyright: ignore[reportAttributeAccessIssue]


def test_verify_status_diff_and_artifact(workspace: latentscale.Workspace) -> None:
    report = workspace.verify(quick=True)
    assert (report.faults, report.rows) == ([], 600)
    facts = workspace.status()
    assert (facts["documents"], facts["document_shards"], facts["current_map"]) == (600, 6, workspace.the_map().id)
    layouts = [record for record in workspace.artifacts if record.kind == "projection"]
    assert workspace.artifact(layouts[0].id) == layouts[0]
    assert "projection.n_components" in workspace.diff(layouts[0].id, layouts[1].id)["settings"]
    with pytest.raises(WorkspaceError, match="there is no artifact"):
        workspace.artifact("map-0000000000000000")


def test_gc_finds_nothing_in_a_new_workspace_and_deletes_nothing_unasked(workspace: latentscale.Workspace) -> None:
    found = workspace.gc(grace=0, keep_maps=0)
    assert found.garbage == []
    assert workspace.gc().garbage == []
    assert workspace.verify(quick=True).faults == []


def test_a_plan_of_files_and_one_of_the_workspace_write_nothing(
    workspace: latentscale.Workspace, small_corpus: Path, tmp_path: Path
) -> None:
    planned = latentscale.plan(small_corpus, out=tmp_path / "new", text="text", ingest={"shard_rows": 200})
    assert (planned.documents, planned.stages[0].shards) == (600, 3)
    assert list(tmp_path.iterdir()) == []
    assert workspace.plan().stages[0].shards == 6
    with pytest.raises(RequestError, match="a plan looks at files"):
        latentscale.plan(pl.DataFrame({"text": ["a"]}), out=tmp_path / "new")
    with pytest.raises(ConfigError, match="there is no setting"):
        latentscale.plan(small_corpus, out=tmp_path / "new", project={"neighbours": 3})


def test_doctor_init_and_models(tmp_path: Path) -> None:
    assert {choice.stage for choice in latentscale.doctor().stages} >= {"embed", "project"}
    assert [path.name for path in latentscale.init(tmp_path)] == ["job.yaml", "job.schema.json"]
    with pytest.raises(RequestError):
        latentscale.init(tmp_path)
    assert latentscale.shipped_models()[0].name == "static"


# --------------------------------------------------------------------------------------------- settings of the last run


def test_another_clustering_keeps_all_other_settings_of_the_last_run(workspace: latentscale.Workspace) -> None:
    first = workspace.the_map()
    embeddings = {record.id for record in workspace.artifacts if record.kind == "embedding"}
    other = workspace.map(cluster={"min_cluster_size": 30})
    assert {record.id for record in workspace.artifacts if record.kind == "embedding"} == embeddings
    for parent in ("embedding", "neighbors", "projection"):
        assert other.record.request[parent] == first.record.request[parent]
    job = workspace.runs[-1]["job"]
    assert (job["embed"]["max_tokens"], job["engine"]["threads"]) == (64, 1)
    assert job["cluster"]["min_cluster_size"] == 30


def test_a_group_with_another_method_begins_at_its_defaults(workspace: latentscale.Workspace) -> None:
    workspace.map(cluster={"method": "column", "column": "section"})
    workspace.map(cluster={"method": "hdbscan", "min_cluster_size": 12})
    job = workspace.runs[-1]["job"]
    assert job["cluster"]["column"] is None
    assert job["embed"]["max_tokens"] == 64


def test_settings_that_a_run_failed_by_are_not_those_of_the_next(workspace: latentscale.Workspace) -> None:
    with pytest.raises(ConfigError, match="sektion"):
        workspace.map(quality={"against": "sektion"})
    assert workspace.map().record.request["quality"]["against"] is None


def test_a_corpus_that_is_read_again_keeps_the_settings_of_the_stages(
    workspace: latentscale.Workspace, small_corpus: Path
) -> None:
    snapshot = workspace.ingest(small_corpus, text="text", id="package")
    assert len(snapshot.shards) == 6
    assert workspace.runs[-1]["job"]["embed"]["max_tokens"] == 64


def test_a_workspace_that_moved_finds_the_frame_that_it_holds(tmp_path: Path, small_corpus: Path) -> None:
    frame = pl.read_parquet(small_corpus).head(80).select("text")
    latentscale.run(frame, out=tmp_path / "a", text="text", progress="quiet", project={"n_epochs": 20})
    before = latentscale.open(tmp_path / "a").the_map().id
    (tmp_path / "a").rename(tmp_path / "b")
    assert latentscale.open(tmp_path / "b").update().id == before


# ----------------------------------------------------------------------------------------------------- what is recorded


def test_a_run_of_a_program_records_nothing_of_its_command_line(
    tmp_path: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program.py", "--api-key", "canary-4711"])
    workspace = latentscale.Workspace(tmp_path / "map")
    workspace.ingest(small_corpus, text="text", limit=20)
    assert [run["command"] for run in workspace.runs] == [None]
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"canary" not in held


# ------------------------------------------------------------------------------------------------------------- versions


@pytest.mark.parametrize(("schema", "words"), [(1, "an earlier version"), (99, "a later version"), ("x", "version")])
def test_a_workspace_of_another_version_is_refused(tmp_path: Path, schema: object, words: str) -> None:
    document = {"schema": schema, "name": "x", "text_column": "text", "id_column": None, "corpus": {}, "created": ""}
    (tmp_path / "workspace.json").write_text(json.dumps(document))
    workspace = latentscale.Workspace(tmp_path)
    for act in (workspace.status, workspace.verify, workspace.gc, workspace.update, workspace.the_map):
        with pytest.raises(WorkspaceError, match=words) as refused:
            act()
        assert refused.value.exit_code == 2
        assert "--out" in str(refused.value)


def test_the_version_that_wrote_a_workspace_is_named(tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text(json.dumps({"schema": 9, "latentscale": "7.1.0"}))
    with pytest.raises(WorkspaceError, match=r"was written by LatentScale 7\.1\.0"):
        latentscale.open(tmp_path)


def test_a_workspace_says_which_version_wrote_it(workspace: latentscale.Workspace) -> None:
    document = json.loads(workspace.store.read_bytes("workspace.json"))
    assert (document["schema"], document["latentscale"]) == (SCHEMA_VERSION, latentscale.__version__)


def test_records_and_runs_of_another_schema_are_refused_and_damaged_ones_are_named(
    tmp_path: Path, small_corpus: Path
) -> None:
    workspace = latentscale.Workspace(tmp_path / "map")
    workspace.ingest(small_corpus, text="text", limit=20)
    name = f"runs/{workspace.runs[0]['id']}/run.json"
    document = json.loads(workspace.store.read_bytes(name))
    workspace.store.put_bytes(name, json.dumps(document | {"schema": 99}).encode())
    with pytest.raises(WorkspaceError, match="a later version"):
        read_run(workspace.store, document["id"])
    workspace.store.put_bytes(name, b"")
    with pytest.raises(DamagedObjectError, match="not the record of a run"):
        workspace.status()


def test_a_record_with_the_name_of_the_first_builds_is_read(workspace: latentscale.Workspace) -> None:
    record = workspace.artifacts[0]
    name = f"{record.folder}/artifact.json"
    whole = workspace.store.read_bytes(name)
    workspace.store.put_bytes(
        name, seal({k: v for k, v in json.loads(whole).items() if k != "digest"} | {"name": None})
    )
    assert workspace.artifact(record.id) == record
    workspace.store.put_bytes(name, whole)
