"""`latentscale verify` finds every modification, names the object and gives a hint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.storage.artifacts import Part, find_record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer, read_parquet, write_parquet
from latentscale.storage.records import content_of
from latentscale.storage.sealed import seal
from latentscale.upkeep.verify import verify_workspace
from tests.conftest import rewrite_json


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """A workspace of 600 documents in twelve shards, with rejects and documents without a vector."""
    folder = tmp_path_factory.mktemp("verify")
    demo.head(600).write_ndjson(folder / "a.jsonl")
    with (folder / "a.jsonl").open("a") as file:
        file.write('not json\n{"package": "x", "text": "日本語"}\n')
    out = folder / "made"
    latentscale.run(
        folder / "a.jsonl",
        out=out,
        text="text",
        progress="quiet",
        ingest={"shard_rows": 50},
        project={"n_epochs": 50},
        cluster={"min_cluster_size": 10},
    )
    return out


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def faults(workspace: Path, *, quick: bool = False) -> list[str]:
    return [str(fault) for fault in verify_workspace(Store(str(workspace)), quick=quick).faults]


def the_map(workspace: Path) -> Path:
    return next((workspace / "maps").iterdir())


def test_an_intact_workspace_has_no_faults(made: Path) -> None:
    report = verify_workspace(Store(str(made)))
    assert report.faults == []
    assert report.rows == 601
    held = [path for path in made.rglob("*") if path.is_file()]
    assert report.objects == len(held)
    assert report.bytes == sum(path.stat().st_size for path in held)
    assert faults(made, quick=True) == []


def flip(path: Path) -> None:
    """Flip a bit of the data; the footer of a parquet object has no checksum of its own."""
    data = bytearray(path.read_bytes())
    place = len(data) // 2
    if path.suffix == ".parquet":
        chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
        place = chunk.data_page_offset + chunk.total_compressed_size // 2
        if chunk.dictionary_page_offset:
            place = chunk.dictionary_page_offset + chunk.total_compressed_size - 2
    data[place] ^= 1
    path.write_bytes(data)


OBJECTS = {
    "documents": "documents/*/*.parquet",
    "rejects": "rejects/*/*.parquet",
    "vectors": "embeddings/*/*/*.parquet",
    "graph": "neighbors/*/graph-*.parquet",
    "coordinates": "projections/*/coordinates-*.parquet",
    "members": "clusters/*/members-*.parquet",
    "labels": "labels/*/labels-*.parquet",
    "points": "maps/*/points/*/*.parquet",
    "thumbnail": "maps/*/thumbnail.png",
    "tile": "maps/*/viewer/tiles/*.parquet",
    "picture of links": "viewer/link.png",
    "receipts of documents": "receipts/documents/*.parquet",
    "receipts of vectors": "receipts/embedding-*/*.parquet",
}
# Whatever is missing of these is read from the shards.
CACHES = {"receipts of documents", "receipts of vectors"}


@pytest.mark.parametrize("pattern", OBJECTS.values(), ids=OBJECTS)
def test_a_flipped_bit_is_found_in_any_object_and_the_object_is_named(workspace: Path, pattern: str) -> None:
    path = sorted(workspace.glob(pattern))[0]
    flip(path)
    found = faults(workspace)
    assert any(fault.startswith(path.relative_to(workspace).as_posix()) for fault in found), found


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("pattern", [OBJECTS[name] for name in OBJECTS if name not in CACHES])
def test_a_missing_object_is_found_without_reading_the_others(workspace: Path, pattern: str, quick: bool) -> None:
    path = sorted(workspace.glob(pattern))[0]
    if pattern == OBJECTS["rejects"]:
        path = next(path for path in workspace.glob(pattern) if len(path.relative_to(workspace).parts) == 3)
    if pattern == OBJECTS["vectors"] and quick:
        pytest.skip("which vectors there must be is worked out with the points")
    path.unlink()
    found = faults(workspace, quick=quick)
    assert any(path.relative_to(workspace).as_posix() in fault and "does not exist" in fault for fault in found), found


@pytest.mark.parametrize(
    "pattern",
    [
        *("workspace.json", "HEAD.json", "viewer/manifest.json", "maps/*/map.json", "clusters/*/artifact.json"),
        *("runs/*/run.json", "snapshots/snapshot-*.parquet"),
    ],
)
def test_a_record_cut_short_is_found(workspace: Path, pattern: str) -> None:
    path = sorted(workspace.glob(pattern))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = faults(workspace, quick=True)
    assert any(path.relative_to(workspace).as_posix() in fault for fault in found), found


def rewrite(workspace: Path, path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a table with other content, whole and with right checksums."""
    store, name = Store(str(workspace)), path.relative_to(workspace).as_posix()
    write_parquet(store, name, change(read_parquet(store, name)), facts=read_footer(store, name).facts)


def record_again(workspace: Path, path: Path) -> None:
    """Make the record agree with a part that was changed, so that only what it says can tell."""
    import hashlib

    folder = next(f for f in path.parents if (f / "map.json").exists() or (f / "artifact.json").exists())
    name = folder / ("map.json" if (folder / "map.json").exists() else "artifact.json")
    record = {key: value for key, value in json.loads(name.read_text()).items() if key != "digest"}
    for part in record["parts"]:
        if part["name"] == path.relative_to(folder).as_posix():
            data = path.read_bytes()
            rows = read_footer(Store(str(workspace)), path.relative_to(workspace).as_posix()).rows
            part |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "rows": rows}
    record["content"] = content_of(Part(**part) for part in record["parts"])
    name.write_bytes(seal(record))


def test_lost_and_duplicate_points_are_found_by_their_numbers(workspace: Path) -> None:
    part = next(the_map(workspace).rglob("part-*.parquet"))

    def change(table: pa.Table) -> pa.Table:
        order = np.arange(table.num_rows)
        order[5] = 6
        return table.take(pa.array(order))

    rewrite(workspace, part, change)
    record_again(workspace, part)
    found = [fault for fault in faults(workspace) if "points for" in fault]
    assert found, faults(workspace)
    assert "1 are missing, 1 are repeated, 0 are of no document" in found[0]


def test_a_duplicate_column_is_found(workspace: Path) -> None:
    part = next((the_map(workspace) / "points").rglob("*.parquet"))
    rewrite(workspace, part, lambda table: table.append_column("x", table["y"]))
    record_again(workspace, part)
    assert any("has the column 'x' twice" in fault for fault in faults(workspace))


def test_a_point_of_no_document_is_found(workspace: Path) -> None:
    part = next(the_map(workspace).rglob("part-*.parquet"))

    def change(table: pa.Table) -> pa.Table:
        ids = table["row_id"].to_numpy().copy()
        ids[3] = 1_000_000
        return table.set_column(0, "row_id", pa.array(ids))

    rewrite(workspace, part, change)
    record_again(workspace, part)
    assert any("1 are missing, 0 are repeated, 1 are of no document" in fault for fault in faults(workspace))


def test_sizes_of_clusters_that_do_not_add_up_are_found(workspace: Path) -> None:
    for pattern in (OBJECTS["labels"], "clusters/*/tree-*.parquet"):
        path = sorted(workspace.glob(pattern))[0]

        def change(table: pa.Table) -> pa.Table:
            sizes = table["size"].to_numpy().copy()
            sizes[0] += 1
            return table.set_column(table.schema.get_field_index("size"), "size", pa.array(sizes))

        rewrite(workspace, path, change)
        record_again(workspace, path)
        folder = path.parent.relative_to(workspace).as_posix()
        assert any(folder in fault and "size" in fault for fault in faults(workspace)), faults(workspace)


def test_vectors_of_another_width_or_number_are_found(workspace: Path) -> None:
    first, second = sorted(workspace.glob(OBJECTS["vectors"]))[:2]
    rewrite(workspace, first, lambda table: table.slice(1))
    store = Store(str(workspace))
    facts = read_footer(store, second.relative_to(workspace).as_posix()).facts | {"dim": 3}
    short = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(facts["rows"] * 3, dtype=np.float16)), 3)
    table = pa.table({"row": pa.array(np.arange(facts["rows"], dtype=np.int32)), "vector": short})
    facts |= {"embedded": facts["rows"]}
    write_parquet(store, second.relative_to(workspace).as_posix(), table, facts=facts)
    for quick in (False, True):
        found = faults(workspace, quick=quick)
        assert any(first.name in fault and "footer says" in fault for fault in found), found
        assert any(second.name in fault and "of width 3, the others have" in fault for fault in found), found


def test_documents_that_are_numbered_wrongly_are_found(workspace: Path) -> None:
    path = sorted(workspace.glob(OBJECTS["documents"]))[0]
    rewrite(workspace, path, lambda table: table.take(pa.array(np.arange(table.num_rows)[::-1])))
    assert any(path.name in fault and "number its rows" in fault for fault in faults(workspace))


def test_a_column_of_another_type_is_found_in_a_part(workspace: Path) -> None:
    path = sorted(workspace.glob(OBJECTS["members"]))[0]
    rewrite(workspace, path, lambda t: t.set_column(1, "cluster", t["cluster"].cast(pa.int64())))
    record_again(workspace, path)
    assert any("'cluster' as int64, not int32" in fault for fault in faults(workspace, quick=True))


def test_an_artifact_made_from_a_parent_that_was_rebuilt_is_found(workspace: Path) -> None:
    path = sorted(workspace.glob("projections/*/artifact.json"))[0]
    rewrite_json(path, lambda values: values | {"content": "0" * 16})
    assert any("as it was before that was rebuilt" in fault for fault in faults(workspace, quick=True))


def test_a_head_or_page_that_refers_to_no_map_is_found(workspace: Path) -> None:
    (workspace / "HEAD.json").write_text('{"schema": 2, "map": "map-00000000", "written": ""}')
    manifest = json.loads((workspace / "viewer" / "manifest.json").read_text())
    manifest["generations"][0]["url"] = "../maps/map-00000000/viewer/"
    (workspace / "viewer" / "manifest.json").write_text(json.dumps(manifest))
    next((workspace / "viewer" / "assets").glob("*.js")).unlink()
    found = faults(workspace, quick=True)
    assert any(fault.startswith("HEAD.json names map-00000000, which does not exist") for fault in found)
    assert any(fault.startswith("viewer/manifest.json shows maps/map-00000000/viewer") for fault in found)
    assert any(fault.startswith("viewer/assets/") and "index.html loads it" in fault for fault in found)


def test_a_map_without_any_document_of_its_fit_is_intact(tmp_path: Path, demo: pl.DataFrame) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "out"
    corpus.mkdir()
    demo.head(200).write_parquet(corpus / "a.parquet")
    settings: dict[str, Any] = {"project": {"n_epochs": 30}, "update": {"max_removed_fraction": 1}}
    latentscale.run(corpus, out=out, id="package", progress="quiet", **settings)
    (corpus / "a.parquet").unlink()
    demo.slice(20, 200).write_parquet(corpus / "b.parquet")
    grown = latentscale.open(out).update()
    assert [segment["documents"] for segment in grown.record.segments] == [0, 200]
    report = verify_workspace(Store(str(out)))
    assert report.faults == []
    assert report.notes == []


def test_following_the_advice_of_each_fault_mends_the_workspace(workspace: Path, made: Path) -> None:
    flip(sorted(workspace.glob(OBJECTS["documents"]))[3])
    flip(sorted(workspace.glob(OBJECTS["vectors"]))[4])
    flip(sorted(workspace.glob(OBJECTS["points"]))[0])
    flip(sorted(workspace.glob(OBJECTS["coordinates"]))[0])
    found = verify_workspace(Store(str(workspace))).faults
    assert all(fault.next.startswith("latentscale repair") for fault in found)
    assert latentscale.open(workspace).repair().report.faults == []
    record = find_record(Store(str(made)), "map", the_map(made).name)
    again = find_record(Store(str(workspace)), "map", the_map(workspace).name)
    assert record is not None
    assert again is not None
    assert [p.sha256 for p in record.parts if p.name.startswith("points")] == [
        p.sha256 for p in again.parts if p.name.startswith("points")
    ]
