"""Workspaces whose maps list their parts in a table: updates, promotion, verify and gc."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

import latentscale
from latentscale.storage import artifacts, segments
from latentscale.storage.artifacts import find_artifact, find_record, read_record
from latentscale.storage.objects import Store
from latentscale.upkeep.gc import find_garbage
from latentscale.upkeep.verify import verify_workspace

SETTINGS = {"ingest": {"shard_rows": 100}, "cluster": {"min_cluster_size": 10}, "project": {"n_epochs": 50}}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than two parts are many."""
    monkeypatch.setattr(artifacts, "MAX_LISTED_PARTS", 2)
    monkeypatch.setattr(segments, "MAX_LISTED_PARTS", 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A fit in partitions and the map that an update grew from it, with parts in tables."""
    root = tmp_path_factory.mktemp("parts")
    (root / "corpus").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "MAX_LISTED_PARTS", 2)
        patch.setattr(segments, "MAX_LISTED_PARTS", 2)
        demo.head(500).write_parquet(root / "corpus" / "a.parquet")
        settings = SETTINGS | {"publish": {"partition_by": "section"}}
        latentscale.run(str(root / "corpus"), out=root / "ws", progress="quiet", **settings)
        shutil.copytree(root / "ws", root / "fit")
        demo[500:560].write_parquet(root / "corpus" / "b.parquet")
        latentscale.open(root / "ws").update()
    return root / "ws"


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


@pytest.fixture
def fit(made: Path, tmp_path: Path) -> Path:
    """The workspace before its map grew."""
    return Path(shutil.copytree(made.parent / "fit", tmp_path / "fit"))


def map_records(workspace: Path) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in workspace.glob("maps/*/map.json")}


def test_maps_are_complete_and_have_no_garbage(workspace: Path) -> None:
    for record in map_records(workspace).values():
        assert record["parts"] == []
        assert record["parts_table"]
    opened = latentscale.open(workspace)
    assert opened.current is not None
    points = opened.current.points().collect()
    assert points.height == opened.current.record.counts["documents"] > 500
    fitted, own = segments.segments_of(opened.current.record)
    assert fitted.points is None
    assert len(segments.point_names(fitted)) > 2
    assert segments.point_names(own)
    assert verify_workspace(Store(str(workspace))).faults == []
    found = find_garbage(Store(str(workspace)), grace=0)
    assert not [item.info.name for item in found.garbage if item.info.name.startswith("maps/")]


def test_an_earlier_map_is_promoted_without_its_table(workspace: Path) -> None:
    opened = latentscale.open(workspace)
    assert opened.current is not None
    first = str(opened.current.record.request["update"]["parent"])
    tables = list(workspace.glob("maps/*/parts.*.parquet"))
    assert len(tables) == 2
    for path in tables:
        path.unlink()
    # What is current, what there is and what the page shows is in the records.
    assert opened.promote(first).id == first
    assert {shown.id for shown in opened.maps} == set(map_records(workspace))


def test_a_missing_or_damaged_table_of_parts_is_reported_and_repaired(fit: Path) -> None:
    store = Store(str(fit))
    (identity,) = map_records(fit)
    (table,) = (fit / "maps" / identity).glob("parts.*.parquet")
    whole = table.read_bytes()
    table.write_bytes(whole[:-20] + bytes(20))
    assert any("lists the parts of an artifact, is not what" in f.problem for f in verify_workspace(store).faults)
    table.unlink()
    (fault,) = verify_workspace(store).faults
    assert fault.object == f"maps/{identity}/{table.name}"
    assert "lists its parts in it" in fault.problem
    record = find_record(store, "map", identity)
    assert record is not None
    parents = [read_record(store, parent) for parent in record.parents]
    assert find_artifact(store, "map", record.request, parents) is None
    table.write_bytes(whole)
    assert find_artifact(store, "map", record.request, parents) == record
    assert verify_workspace(store).faults == []
