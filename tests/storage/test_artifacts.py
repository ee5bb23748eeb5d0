"""Artifacts: objects written several at a time, a record written last, and many parts in a table of their own."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from latentscale.digest import artifact_id
from latentscale.errors import DamagedObjectError, StorageError, WorkspaceError
from latentscale.storage.artifacts import (
    ArtifactWriter,
    Part,
    Record,
    find_artifact,
    find_record,
    list_records,
    read_table,
)
from latentscale.storage.objects import ObjectInfo, Store
from latentscale.storage.provenance import Cost
from latentscale.storage.records import MAX_LISTED_PARTS
from latentscale.storage.segments import point_objects, segments_of
from latentscale.storage.uploads import Uploads
from tests.conftest import rewrite_json

REQUEST = {"snapshot": "snapshot-0123456789abcdef", "publish": {"title": "A map"}}


def write_map(store: Store, parts: int, request: dict[str, object] = REQUEST) -> Record:
    writer = ArtifactWriter(store, "map", request, [], run=None)
    for number in range(parts):
        writer.put(f"points/part-{number:05d}.parquet", f"part {number}".encode(), rows=number)
    writer.put("viewer/index.json", b"{}")
    return writer.commit(counts={"documents": 7}, cost=Cost())


class Slow(Store):
    """Counts concurrent writes, whose first wait until as many as ``together`` are under way, and can fail."""

    def __init__(self, url: str, *, together: int = 1, failing: str = "") -> None:
        super().__init__(url)
        self.lock = threading.Condition()
        self.together = together
        self.now = self.most = 0
        self.held = self.most_held = 0
        self.failing = failing

    def put_bytes(self, name: str, data: bytes | memoryview) -> ObjectInfo:
        size = memoryview(data).nbytes
        with self.lock:
            self.now += 1
            self.held += size
            self.most, self.most_held = max(self.most, self.now), max(self.most_held, self.held)
            self.lock.notify_all()
            self.lock.wait_for(lambda: self.most >= self.together, timeout=120)
        # Long enough that one more than may would come beside them.
        time.sleep(0.02)
        try:
            if self.failing and self.failing in name:
                raise StorageError(f"cannot write {name}")
            return super().put_bytes(name, data)
        finally:
            with self.lock:
                self.now -= 1
                self.held -= size


def test_objects_are_written_several_at_a_time_in_the_order_of_the_record(tmp_path: Path) -> None:
    store = Slow(str(tmp_path), together=4)
    record = write_map(store, 30)
    assert store.most == 4
    assert [part.name for part in record.parts] == [f"points/part-{n:05d}.parquet" for n in range(30)] + [
        "viewer/index.json"
    ]
    for part in record.parts:
        assert len(store.read_bytes(f"{record.folder}/{part.name}")) == part.bytes
    # The last of them may still be about to end.
    writers = [thread for thread in threading.enumerate() if thread.name == "latentscale-upload"]
    for thread in writers:
        thread.join(60)
    assert not any(thread.is_alive() for thread in writers)


def test_pending_writes_are_bounded(tmp_path: Path) -> None:
    store = Slow(str(tmp_path), together=3)
    uploads = Uploads(store, writers=8, pending_bytes=3_000)
    for number in range(20):
        uploads.put(f"a{number}", bytes(1_000))
    uploads.put("larger than all that may wait", bytes(10_000))
    uploads.wait()
    assert store.most == 3
    assert store.most_held == 10_000
    assert len(store.list()) == 21


def test_an_object_that_cannot_be_written_leaves_no_record(tmp_path: Path) -> None:
    store = Slow(str(tmp_path), failing="part-00003")
    with pytest.raises(StorageError, match="part-00003"):
        write_map(store, 5)
    assert find_record(store, "map", artifact_id("map", REQUEST)) is None


def test_an_error_ends_a_long_publish_early(tmp_path: Path) -> None:
    store = Slow(str(tmp_path), failing="part-00000")
    writer = ArtifactWriter(store, "map", REQUEST, [], run=None)

    def put(parts: int) -> None:
        for number in range(parts):
            writer.put(f"points/part-{number:05d}.parquet", b"x")

    with pytest.raises(StorageError, match="part-00000"):
        put(1_000_000)
    assert find_record(store, "map", artifact_id("map", REQUEST)) is None


def test_ids_have_sixteen_characters() -> None:
    assert len(artifact_id("map", REQUEST)) == len("map-") + 16


def test_a_record_of_another_request_is_never_returned(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = write_map(store, 2)
    found = find_artifact(store, "map", {**REQUEST}, [])
    assert found == record
    name = tmp_path / record.folder / "map.json"
    title = {"title": "Another map"}
    rewrite_json(name, lambda values: values | {"request": values["request"] | {"publish": title}})
    with pytest.raises(DamagedObjectError, match="has the requested id, but another request") as raised:
        find_artifact(store, "map", REQUEST, [])
    assert f"latentscale repair {store.url}" in str(raised.value)


def test_few_parts_are_in_the_record(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = write_map(store, MAX_LISTED_PARTS - 1)
    assert record.parts_table is None
    again = find_record(store, "map", record.id)
    assert again == record
    assert again.to_json() == record.to_json()
    assert len(again.parts) == MAX_LISTED_PARTS


def test_many_parts_are_in_a_table_that_the_record_names(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    few, many = write_map(store, 100, {"n": 1}), write_map(store, 3_000, {"n": 2})
    assert len(many.to_json()) < len(few.to_json()) + 20
    again = find_record(store, "map", many.id)
    assert again == many
    assert again.parts_table is not None
    assert again.parts_table.rows == 3_001
    assert again.listed == ()
    assert again.parts == many.parts
    assert again.parts[7] == Part(name="points/part-00007.parquet", rows=7, bytes=6, sha256=again.parts[7].sha256)
    assert again.parts[-1].rows is None
    assert find_artifact(store, "map", {"n": 2}, []) == many


def test_the_table_is_read_only_where_the_parts_are_asked_for(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = write_map(store, 100)
    assert record.parts_table is not None
    store.delete([f"{record.folder}/{record.parts_table.name}"])
    (again,) = list_records(store)
    assert again.content == record.content
    (segment,) = segments_of(again)
    assert segment.as_json()["points"] is None
    with pytest.raises(WorkspaceError):
        point_objects(segment)
    # The next run rebuilds it.
    assert find_artifact(store, "map", REQUEST, []) is None


def test_a_modified_table_of_parts_is_detected(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = write_map(store, 100)
    assert record.parts_table is not None
    store.put_bytes(f"{record.folder}/{record.parts_table.name}", bytes(record.parts_table.bytes))
    with pytest.raises(DamagedObjectError, match="lists the parts of an artifact, is not what its record says"):
        _ = record.parts


def test_the_points_of_a_segment_are_found_in_the_table_of_its_map(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = write_map(store, 100)
    (segment,) = segments_of(record)
    assert point_objects(segment) == [f"{record.folder}/points/part-{n:05d}.parquet" for n in range(100)]


def test_the_content_says_whether_parts_are_the_same(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    first = write_map(store, 100, {"n": 1})
    assert write_map(store, 100, {"n": 2}).content == first.content
    assert write_map(store, 99, {"n": 3}).content != first.content


def test_a_missing_part_is_detected_among_many(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    record = write_map(store, 100)
    store.delete([f"{record.folder}/points/part-00042.parquet"])
    assert find_artifact(store, "map", REQUEST, []) is None


def test_a_table_of_many_parts_is_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentscale.storage.artifacts.PART_ROWS", 10)
    store = Store(str(tmp_path))
    writer = ArtifactWriter(store, "projection", {"n": 1}, [], run=None)
    table = pa.table({"row_id": pa.array(range(1_005))})
    writer.put_table("coordinates", table)
    record = writer.commit(counts={}, cost=Cost())
    assert record.parts_table is not None
    assert read_table(store, record, "coordinates") == table
