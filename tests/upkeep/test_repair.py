"""`latentscale repair` rebuilds what can be computed, under the same names, and reports what is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import latentscale as ls
from latentscale.cli.main import main
from latentscale.errors import DamagedObjectError, WorkspaceError
from tests.conftest import moved


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A corpus and its workspace: a fit, an update that adds and replaces, one that only removes; with rejects."""
    root = tmp_path_factory.mktemp("repair")
    corpus = root / "corpus"
    corpus.mkdir()
    chosen = demo.filter(pl.col("section").is_in(["games", "mail"])).sort("package")
    chosen[:200].write_ndjson(corpus / "a.jsonl")
    with (corpus / "a.jsonl").open("a") as file:
        file.write('not json\n{"package": "x", "text": "日本語"}\n')
    settings = {"project": {"n_epochs": 20}, "cluster": {"min_cluster_size": 10}}
    ls.run(corpus, out=root / "ws", id="package", progress="quiet", **settings)
    workspace = ls.open(root / "ws")
    chosen[190:240].write_ndjson(corpus / "b.jsonl")
    workspace.update()
    chosen[190:230].write_ndjson(corpus / "b.jsonl")
    workspace.update()
    report = workspace.verify()
    assert (report.faults, report.notes) == ([], [])
    return root


@pytest.fixture
def place(grown: Path, tmp_path: Path) -> Path:
    shutil.copytree(grown, tmp_path / "copy", copy_function=shutil.copy2)
    moved(tmp_path / "copy" / "ws", grown / "corpus", tmp_path / "copy" / "corpus")
    return tmp_path / "copy"


def shown(workspace: ls.Workspace) -> pl.DataFrame:
    return workspace.the_map().points().collect().sort("row_id")


def delete(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path) -> None:
    """Alter a value of a JSON object that stays one."""
    values = json.loads(path.read_text())
    name = next(name for name in ("created", "written", "started", "title") if name in values)
    path.write_text(json.dumps({**values, name: f"{values[name]} "}))


# Patterns below the workspace; the oldest object of each is the one that is hurt: of the fit, where there are several.
DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a layout of the fit": ("projections/*/coordinates-*", flip),
    "clusters of the fit": ("clusters/*/members-*", delete),
    "labels of the fit": ("labels/*/labels-*", cut),
    "the graph's record": ("neighbors/*/artifact.json", change),
    "a placement": ("placements/*/placed-*", flip),
    "a placement's record": ("placements/*/artifact.json", cut),
    "points of the fit": ("maps/*/points/*/part-*", flip),
    "a tile": ("maps/*/viewer/tiles/*", flip),
    "a map's record": ("maps/*/map.json", cut),
    "the embedding's record": ("embeddings/*/artifact.json", delete),
    "vectors": ("embeddings/*/*/*.parquet", flip),
    "documents": ("documents/*/*.parquet", cut),
    "rejects": ("rejects/[0-9a-f][0-9a-f]/*.parquet", delete),
    "a snapshot": ("snapshots/snapshot-*.parquet", cut),
    "superseded rejects": ("rejects/superseded-*.parquet", delete),
    "a script of the page": ("viewer/assets/*.js", flip),
    "the manifest": ("viewer/manifest.json", delete),
    "a title in the manifest": ("viewer/manifest.json", change),
    "HEAD, deleted": ("HEAD.json", delete),
    "HEAD, changed": ("HEAD.json", change),
    "the workspace's record": ("workspace.json", change),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_computable_objects_are_rebuilt_and_the_map_is_unchanged(place: Path, damage: str) -> None:
    workspace = ls.open(place / "ws")
    before, current = shown(workspace), workspace.the_map().id
    pattern, hurt = DAMAGE[damage]
    path = min((place / "ws").glob(pattern), key=lambda path: (path.stat().st_mtime_ns, path))
    name = path.relative_to(place / "ws").as_posix()
    hurt(path)
    if name == "workspace.json":  # nothing more can be said of a workspace without its record
        with pytest.raises(DamagedObjectError, match="latentscale repair"):
            workspace.verify()
    else:
        faults = workspace.verify().faults
        assert any(name in (told := f"{fault.object} {fault.problem}") or path.parent.name in told for fault in faults)
        assert all("repair" in fault.next or "promote" in fault.next for fault in faults), faults
    done = workspace.repair()
    assert (done.report.faults, done.lost) == ([], [])
    assert done.mended
    assert workspace.the_map().id == current
    columns = ["row_id", "package", "x", "y", "cluster", "probability"]
    assert shown(workspace).select(columns).equals(before.select(columns))
    assert workspace.update().id == current


def test_objects_that_cannot_be_computed_are_reported_and_left(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = min((place / "ws" / "documents").rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    cut(documents)
    held = documents.read_bytes()
    (place / "corpus" / "a.jsonl").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["repair", str(place / "ws"), "--progress", "quiet"])
    assert ended.value.code == 4
    out = capsys.readouterr().out.replace("\n", " ")
    assert "LOST" in out
    assert documents.name in out
    assert documents.read_bytes() == held


@pytest.mark.parametrize("pattern", ["maps/*/points/*/part-*", "maps/*/viewer/tiles/*", "maps/*/quality.json"])
def test_an_update_does_not_build_on_a_map_of_which_an_object_is_cut(place: Path, pattern: str) -> None:
    workspace = ls.open(place / "ws")
    path = min((place / "ws").glob(pattern), key=lambda path: path.stat().st_mtime_ns)
    cut(path)
    with pytest.raises(DamagedObjectError, match=path.name) as refused:
        workspace.update()
    assert f"latentscale repair {workspace.url}" in str(refused.value)
    assert workspace.repair().report.faults == []
    workspace.update()


def test_a_truncated_report_is_deleted_and_reported(place: Path) -> None:
    workspace = ls.open(place / "ws")
    first, last = sorted((place / "ws" / "runs").iterdir())[:: len(workspace.runs) - 1]
    change(first / "run.json")
    events = (last / "events.jsonl").read_bytes()
    (last / "events.jsonl").write_bytes(events[:-1])
    assert {fault.object.split("/")[-1] for fault in workspace.verify().faults} == {"run.json", "events.jsonl"}
    done = workspace.repair()
    assert done.report.faults == []
    assert [text.split(":")[0].split("/")[-1] for text in done.lost] == ["run.json", "events.jsonl"]
    # The settings of the map are in its own record too.
    assert workspace.map_settings()["cluster"]["min_cluster_size"] == 10


@pytest.mark.parametrize("pattern", ["HEAD.json", "runs/*/run.json", "labels/*/artifact.json"])
def test_objects_of_a_later_version_are_no_damage(place: Path, pattern: str) -> None:
    path = max((place / "ws").glob(pattern))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    before = {name: info.version for name, info in ls.open(place / "ws").store.list().items()}
    with pytest.raises(WorkspaceError, match="a later version"):
        ls.open(place / "ws").repair()
    assert {name: info.version for name, info in ls.open(place / "ws").store.list().items()} == before


def test_an_intact_workspace_is_unchanged(place: Path) -> None:
    before = {name: info.version for name, info in ls.open(place / "ws").store.list().items()}
    done = ls.open(place / "ws").repair()
    assert (done.mended, done.lost, done.report.faults) == ([], [], [])
    assert {name: info.version for name, info in ls.open(place / "ws").store.list().items()} == before
