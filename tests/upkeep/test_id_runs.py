"""Runs of hashed ids: `gc` keeps those that updates read, `verify` finds damaged ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import latentscale
from latentscale.stages.hash_column import HashWorker
from latentscale.storage.id_runs import FOLDER, LIST, list_runs
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer, read_parquet, write_parquet
from latentscale.storage.shard_hashes import hashes_name
from latentscale.storage.snapshots import list_snapshot_ids, read_snapshot
from latentscale.upkeep.garbage import Kind
from latentscale.upkeep.gc import delete_garbage, find_garbage
from latentscale.upkeep.verify import verify_workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A workspace of 300 documents with an id column, grown by 60."""
    folder = tmp_path_factory.mktemp("ids")
    corpus = folder / "corpus"
    corpus.mkdir()
    out = folder / "made"
    settings = {"project": {"n_epochs": 30}, "cluster": {"min_cluster_size": 10}}
    demo.head(300).write_ndjson(corpus / "a.jsonl")
    latentscale.run(corpus, out=out, text="text", id="package", progress="quiet", **settings)
    demo.slice(290, 70).write_ndjson(corpus / "b.jsonl")
    latentscale.open(out).update()
    return out


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def grow_old(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime - 30 * 86_400
            os.utime(path, (moment, moment))


def test_runs_that_an_update_reads_are_kept_and_others_are_garbage(workspace: Path) -> None:
    store = Store(str(workspace))
    kept = list(store.list(FOLDER))
    assert sorted(len(run.keys) for run in list_runs(store)) == [1, 1]
    # The list of a run whose object was lost, one of shards that no snapshot has, one of another version.
    one = store.read_bytes(next(name for name in kept if name.endswith(LIST)))
    table = pa.table({"key": ["0" * 32 + "-00000e"], "rows": [5]})
    facts = read_footer(store, next(name for name in kept if name.endswith(LIST))).facts
    store.put_bytes(f"{FOLDER}/0000000000000000/{LIST}", one)
    write_parquet(store, f"{FOLDER}/1111111111111111/{LIST}", table, facts=facts | {"parts": 0})
    write_parquet(store, f"{FOLDER}/2222222222222222/{LIST}", table, facts=facts | {"hash": "other"})
    store.put_bytes(f"{FOLDER}/3333333333333333/hashes-00000.parquet", one)
    grow_old(workspace)
    found = find_garbage(store)
    assert {item.kind for item in found.garbage} == {Kind.ID_HASHES}
    assert sorted(item.info.name.split("/")[1][0] for item in found.garbage) == ["0", "1", "2", "3"]
    delete_garbage(store)
    assert list(store.list(FOLDER)) == kept
    assert verify_workspace(store).faults == []


def test_hashes_that_a_killed_run_left_by_shard_are_read_and_once_old_deleted(workspace: Path) -> None:
    store = Store(str(workspace))
    shards = read_snapshot(store, list_snapshot_ids(store)[-1]).shards
    receipts = [HashWorker(store, "text")(shard) for shard in shards]
    left = [hashes_name("text", one.key) for one in receipts]
    store.put_bytes(left[0], b"PAR1 damaged")
    report = verify_workspace(store)
    assert report.faults == []
    assert report.notes == [f"{left[0]} cannot be read; it is not used, and gc deletes it."]
    assert report.objects == sum(path.is_file() for path in workspace.rglob("*"))
    assert find_garbage(store).garbage == []
    grow_old(workspace)
    assert sorted((item.kind, item.info.name) for item in delete_garbage(store).garbage) == [
        (Kind.ID_HASHES, name) for name in sorted(left)
    ]


def test_every_object_of_a_run_is_checked(made: Path) -> None:
    report = verify_workspace(Store(str(made)))
    assert report.faults == []
    assert report.objects == sum(path.is_file() for path in made.rglob("*"))


def rewrite(store: Store, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    write_parquet(store, name, change(read_parquet(store, name)), facts=read_footer(store, name).facts)


def with_column(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda table: table.take(pa.array(np.arange(table.num_rows)[::-1])), "is not in order"),
        (lambda table: with_column(table, "row", table["row"].to_numpy() + np.uint32(1)), "no shard of its run has"),
        (lambda table: with_column(table, "shard", table["shard"].to_numpy() + np.uint32(9)), "no shard of its run"),
        (lambda table: with_column(table, "row", table["row"].to_numpy().astype(np.int64)), "other types"),
    ],
)
def test_hashes_that_are_not_those_of_their_run_are_found(
    workspace: Path, change: Callable[[pa.Table], pa.Table], fault: str
) -> None:
    store = Store(str(workspace))
    name = next(name for name in store.list(FOLDER) if "hashes" in name)
    rewrite(store, name, change)
    assert any(str(found).startswith(f"{name} ") and fault in str(found) for found in verify_workspace(store).faults)


@pytest.mark.parametrize("quick", [False, True])
def test_a_run_that_lost_an_object_is_noted_and_one_that_lists_other_rows_a_fault(workspace: Path, quick: bool) -> None:
    store = Store(str(workspace))
    part = next(name for name in store.list(FOLDER) if "hashes" in name)
    store.delete([part])
    other = next(name for name in store.list(FOLDER) if name.endswith(LIST) and name.split("/")[1] not in part)
    rewrite(store, other, lambda table: with_column(table, "rows", table["rows"].to_numpy() + 1))
    report = verify_workspace(store, quick=quick)
    assert [fault.object for fault in report.faults] == [other]
    assert "rows, it holds" in str(report.faults[0])
    assert any(f"lists {part}, which does not exist" in note for note in report.notes)


def test_a_flipped_bit_in_a_run_is_found_and_following_the_advice_mends_it(workspace: Path, demo: pl.DataFrame) -> None:
    store = Store(str(workspace))
    part = next(name for name in store.list(FOLDER) if "hashes" in name)
    path = workspace / part
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    [fault] = verify_workspace(store).faults
    assert fault.object == part
    assert "latentscale repair" in fault.next
    path.unlink()
    corpus = Path(latentscale.open(workspace).runs[-1]["job"]["corpus"]["sources"][0])
    added = corpus / "c.jsonl"
    demo.slice(360, 20).write_ndjson(added)
    try:
        assert latentscale.open(workspace).update() is not None
    finally:
        added.unlink()
    assert max(run.rows.sum() for run in list_runs(store)) >= 300
    assert [fault for fault in verify_workspace(store).faults if fault.object.startswith(FOLDER)] == []
