"""`latentscale gc` deletes only unreferenced objects."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale.errors import DamagedObjectError, EnvironmentFailure, StorageError
from latentscale.storage import lease
from latentscale.storage.objects import Store
from latentscale.upkeep import gc
from latentscale.upkeep.garbage import Kind
from latentscale.upkeep.gc import delete_garbage, find_garbage
from latentscale.upkeep.verify import verify_workspace
from tests.conftest import rewrite_json

DAY = 86_400.0
SETTINGS: dict[str, Any] = {
    "ingest": {"shard_rows": 100},
    "project": {"n_epochs": 50},
    "cluster": {"min_cluster_size": 10},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    folder = tmp_path_factory.mktemp("gc") / "corpus"
    folder.mkdir()
    demo.head(400).write_ndjson(folder / "a.jsonl")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """Three maps of one snapshot: two layouts, and two clusterings of the second."""
    out = tmp_path_factory.mktemp("gc") / "made"
    latentscale.run(corpus, out=out, progress="quiet", **(SETTINGS | {"project": {"n_epochs": 40}}))
    latentscale.run(corpus, out=out, progress="quiet", **SETTINGS)
    latentscale.run(corpus, out=out, progress="quiet", **(SETTINGS | {"cluster": {"min_cluster_size": 20}}))
    return out


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(made, tmp_path / "copy"))
    grow_old(copy, 30)
    return copy


def grow_old(folder: Path, days: float) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - days * DAY
            os.utime(path, (moment, moment))


def objects(workspace: Path) -> dict[str, bytes]:
    return {p.relative_to(workspace).as_posix(): p.read_bytes() for p in workspace.rglob("*") if p.is_file()}


def litter(workspace: Path) -> dict[str, Kind]:
    """Put there what crashes and changes of mind leave; returns the kind of each object."""
    shard = next(workspace.glob("documents/*/*.parquet")).read_bytes()
    vectors = next(workspace.glob("embeddings/*/*/*.parquet"))
    embedding = vectors.relative_to(workspace).parts[1]
    key = "ab" + "0" * 30 + "-00000e"
    made = {
        f"documents/ab/{key}.parquet": Kind.DOCUMENTS,
        "snapshots/groups-snapshot-0000000000000000.parquet": Kind.UNREFERENCED_SNAPSHOT,
        f"rejects/ab/{key}.parquet": Kind.REJECTS,
        f"rejects/{embedding}/ab/{key}.parquet": Kind.REJECTS,
        f"rejects/embedding-00000000/ab/{key}.parquet": Kind.REJECTS,
        f"embeddings/{embedding}/ab/{key}.parquet": Kind.VECTORS,
        f"embeddings/embedding-11111111/ab/{key}.parquet": Kind.UNRECORDED_PART,
        "projections/projection-00000000/coordinates-00000.12345678.parquet": Kind.UNRECORDED_PART,
        "maps/map-00000000/points/update=snapshot-0000000000000000/part-00000.parquet": Kind.UNRECORDED_PART,
        next((workspace / "neighbors").iterdir()).relative_to(workspace).as_posix()
        + "/graph-00000.00000000.parquet": Kind.UNLISTED_PART,
        "uploads/00000000000000000000000000000000.parquet": Kind.UPLOAD,
        "viewer/assets/index-old.js": Kind.PAGE_FILE,
        "preview.html": Kind.PREVIEW,
        "attempts/20260101T000000.000000Z-abcdef/key/0123": Kind.ATTEMPT,
        "leases/20260101T000000.000000Z-abcdef.json": Kind.EXPIRED_LEASE,
        "documents/ab/.unfinished-0123": Kind.UNFINISHED_WRITE,
        ".unfinished-clock-0123": Kind.UNFINISHED_WRITE,
        "rejects/superseded-snapshot-0000000000000000.parquet": Kind.UNREFERENCED_SNAPSHOT,
        "snapshots/carried-snapshot-0000000000000000.parquet": Kind.UNREFERENCED_SNAPSHOT,
        "receipts/embedding-0000000000000000/0123456789abcdef.parquet": Kind.RECEIPTS,
        f"label-receipts/ab/{'ab' * 16}.json": Kind.LABEL_RECEIPT,
        f"answers/{'ab' * 8}/{key}/{'cd' * 16}.parquet": Kind.ANSWER,
        "spending/20260101T000000.000000Z-abcdef/0123.json": Kind.SPENDING,
    }
    for name in made:
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(shard)
    return made


def test_a_workspace_of_finished_runs_holds_no_garbage(workspace: Path) -> None:
    found = find_garbage(Store(str(workspace)), grace=0)
    assert found.garbage == []
    assert found.objects == len(objects(workspace))


def test_only_leftovers_of_crashes_are_found_and_deleted(workspace: Path) -> None:
    before = objects(workspace)
    made = litter(workspace)
    grow_old(workspace, 8)
    found = find_garbage(Store(str(workspace)))
    assert {item.info.name: item.kind for item in found.garbage} == made
    assert objects(workspace).keys() == before.keys() | made.keys(), "looking deletes nothing"
    deleted = delete_garbage(Store(str(workspace)))
    assert {item.info.name for item in deleted.garbage} == set(made)
    assert objects(workspace) == before
    assert delete_garbage(Store(str(workspace))).garbage == []


def test_nothing_younger_than_the_grace_period_is_deleted(workspace: Path) -> None:
    made = litter(workspace)
    found = delete_garbage(Store(str(workspace)))
    assert found.garbage == []
    assert 10 < found.young <= len(made), "a folder without a record is looked at as one"
    assert set(made) <= objects(workspace).keys()
    grow_old(workspace, 2)
    assert len(find_garbage(Store(str(workspace)), grace=DAY).garbage) == len(made)


def test_the_age_is_by_the_clock_of_the_store_and_not_by_that_of_this_machine(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = litter(workspace)
    # A store whose clock is a month behind: what it wrote just now looks a month old to this machine.
    grow_old(workspace, 30)
    real = Store.clock
    monkeypatch.setattr(Store, "clock", lambda store: real(store) - 30 * DAY)
    assert find_garbage(Store(str(workspace))).garbage == []
    monkeypatch.setattr(Store, "clock", lambda store: real(store) - 20 * DAY)
    assert len(find_garbage(Store(str(workspace))).garbage) == len(made)


def test_work_that_is_resumed_over_several_runs_is_as_young_as_its_last_object(workspace: Path) -> None:
    litter(workspace)
    grow_old(workspace, 30)
    young = workspace / "embeddings" / "embedding-11111111" / "cd" / "cd.parquet"
    young.parent.mkdir()
    young.write_bytes(b"?")
    names = {item.info.name for item in find_garbage(Store(str(workspace))).garbage}
    assert not any("embedding-11111111" in name for name in names)
    run = sorted((workspace / "runs").iterdir())[0] / "run.json"
    rewrite_json(run, lambda values: values | {"status": "running", "facts": values["facts"] | {"snapshot": None}})
    kinds = {item.kind for item in find_garbage(Store(str(workspace))).garbage}
    assert Kind.DOCUMENTS not in kinds, "an ingest that was killed a moment ago will want its shards"
    assert Kind.VECTORS in kinds


def test_older_maps_and_their_artifacts_are_deleted_records_first(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(workspace))
    opened = latentscale.open(workspace)
    first, second, last = opened.maps
    gone = {first.id, first.record.request["projection"], first.record.request["clusters"]}
    monkeypatch.setattr(gc, "BATCH", 3)
    states: list[int] = []

    def look(text: str) -> None:
        states.append(len(objects(workspace)))
        assert verify_workspace(store, quick=True).faults == [], text

    deleted = delete_garbage(store, keep_maps=2, on_progress=look)
    assert gone <= set(deleted.dropped)
    assert len(states) > 5
    assert {m.id for m in opened.maps} == {second.id, last.id}
    delete_garbage(store, keep_maps=1)
    assert [m.id for m in opened.maps] == [last.id]
    assert verify_workspace(store).faults == []
    left = {name.split("/")[1] for name in objects(workspace) if name.split("/")[0] in ("projections", "clusters")}
    assert left == {r.id for r in opened.artifacts if r.kind in ("projection", "clusters")}
    assert second.record.request["projection"] in left, "the last map is of the same layout"
    assert second.record.request["clusters"] not in left


def test_the_current_map_is_kept_and_names_in_old_records_keep_nothing(workspace: Path) -> None:
    store = Store(str(workspace))
    first, second, _ = latentscale.open(workspace).maps
    (workspace / "HEAD.json").write_text(json.dumps({"schema": 2, "map": first.id, "written": ""}))
    path = workspace / "maps" / second.id / "map.json"
    rewrite_json(path, lambda values: values | {"name": "kept"})
    grow_old(workspace, 30)
    dropped = find_garbage(store, keep_maps=0).dropped
    assert first.id not in dropped
    assert second.id in dropped


def test_a_collection_that_ends_in_the_middle_is_resumed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(workspace))
    whole = Path(shutil.copytree(workspace, workspace.parent / "whole"))
    delete_garbage(Store(str(whole)), keep_maps=1)
    monkeypatch.setattr(gc, "BATCH", 1)
    for stop_after in (1, 1, 2, 3, 3, 5, 5):
        calls = 0

        def stop(text: str, stop_after: int = stop_after) -> None:
            nonlocal calls
            calls += 1
            if calls == stop_after:
                raise StorageError("the store is gone")

        with pytest.raises(StorageError):
            delete_garbage(store, keep_maps=1, on_progress=stop)
        assert verify_workspace(store).faults == []
    delete_garbage(store, keep_maps=1)
    assert objects(workspace) == objects(whole)


def test_a_run_under_way_and_one_that_begins_meanwhile_stop_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(workspace))
    made = litter(workspace)
    grow_old(workspace, 30)
    with lease.hold_lease(store, "20260101T000000.000000Z-123456", "run") as held:
        assert held.others() == ()
        with pytest.raises(EnvironmentFailure, match="is being worked on by run 20260101T000000"):
            delete_garbage(store)
        assert set(made) <= objects(workspace).keys()
        assert len(find_garbage(store).garbage) == len(made), "looking is allowed"
    monkeypatch.setattr(gc, "BATCH", 4)
    monkeypatch.setattr(gc, "CHECKED_EVERY", 0.0)
    begun: list[Any] = []

    def begin(text: str) -> None:
        begun.append(lease.hold_lease(store, f"2026-{len(begun)}", "run"))
        begun[-1].__enter__().others()

    with pytest.raises(EnvironmentFailure, match="4 objects were deleted"):
        delete_garbage(store, on_progress=begin)
    for one in begun:
        one.__exit__(None, None, None)
    assert len(objects(workspace).keys() & made.keys()) == len(made) - 4


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("pattern", ["maps/*/map.json", "snapshots/snapshot-*.parquet", "runs/*/run.json"])
def test_nothing_is_deleted_while_a_record_cannot_be_read(workspace: Path, pattern: str) -> None:
    litter(workspace)
    damage(sorted(workspace.glob(pattern))[0])
    grow_old(workspace, 30)
    before = objects(workspace)
    with pytest.raises(DamagedObjectError):
        delete_garbage(Store(str(workspace)))
    assert objects(workspace) == before


def test_row_ids_are_not_reused_after_a_collection(tmp_path: Path, demo: pl.DataFrame) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    settings: dict[str, Any] = SETTINGS | {"progress": "quiet"}

    def write(name: str, start: int, number: int) -> None:
        demo.slice(start, number).write_ndjson(corpus / name)

    write("a.jsonl", 0, 200)
    latentscale.run(corpus, out=out, **settings)
    write("b.jsonl", 200, 100)
    latentscale.run(corpus, out=out, **settings)
    (corpus / "b.jsonl").unlink()
    latentscale.run(corpus, out=out, **settings)
    grow_old(out, 30)
    store = Store(str(out))
    given = {int(i) for m in latentscale.open(out).maps for i in m.points().collect()["row_id"]}
    delete_garbage(store, keep_maps=1)
    write("c.jsonl", 300, 100)
    points = latentscale.run(corpus, out=out, **settings).points().collect()
    fresh = points.filter(pl.col("source") == "c.jsonl")["row_id"]
    assert len(fresh) == 100
    assert not given & set(fresh.to_list())
    assert verify_workspace(store).faults == []


def test_the_command_lists_first_and_deletes_when_asked(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from latentscale.cli.main import main

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["gc", str(workspace), *arguments])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out + err

    made = litter(workspace)
    grow_old(workspace, 30)
    code, said = run()
    assert code == 0
    assert f"{len(made)} would be deleted" in said
    assert "receipts of a deleted embedding" in said
    assert "--delete" in said
    code, said = run("--json", "--grace", "24h")
    document = json.loads(said)
    assert set(document["names"]) == set(made)
    assert document["kinds"]["label-receipt"]["objects"] == document["kinds"]["receipts"]["objects"] == 1
    assert document["deleted"] is False
    assert run("--grace", "soon")[0] == 2
    code, said = run("--delete")
    assert f"{len(made)} deleted" in said
    assert not objects(workspace).keys() & made.keys()
    assert "nothing to delete" in run()[1]
