"""Write the many objects of a map: time, and size of the record that lists them."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

OBJECTS = (400, 1_600)
LISTED = (50, 1_000, 10_000, 100_000)
BYTES = 20_000
LATENCY = 0.02


def run(context: Context) -> Result:
    """Write objects to a disk and to a store with 20 ms latency, one by one and as a map does."""
    counts = [count // 10 for count in OBJECTS] if context.quick else list(OBJECTS)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for place in ("disk", "store 20 ms away"):
        for count in counts:
            walls: dict[bool, float] = {}
            for sequential in (True, False):
                folder = context.emptied("objects")
                usage, measured = fresh(written, folder=folder, place=place, count=count, sequential=sequential)
                walls[sequential] = measured["wall_s"]
                order = "one after the other" if sequential else "as a map does it"
                rows.append({"what": f"{place}, {order}", "objects": count, **measured, "cpu_s": usage.cpu_s})
            ratios[place] = walls[False] / walls[True]
    records: dict[int, float] = {}
    for count in [count // 10 for count in LISTED] if context.quick else LISTED:
        usage, measured = fresh(listed, count=count)
        records[count] = measured["map_json_kb"]
        rows.append({"what": "a map's record", "objects": count, **measured})
    return Result(
        title="The objects of a map: written several at a time, and listed in a table beside the record.",
        parameters={"bytes of an object": BYTES, "at once": "4 on a disk, 16 (storage.max_requests) elsewhere"},
        rows=rows,
        targets=[
            Target(what="store 20 ms away, beside one after the other", value=ratios["store 20 ms away"], limit=0.1),
            Target(what="disk, beside one after the other", value=ratios["disk"], limit=1.0),
            Target(
                what=f"map.json of {max(records):,} objects, about those of a hundred million documents",
                value=records[max(records)],
                limit=1_000,
                unit="kB",
            ),
        ],
        notes=[
            "The store that is 20 ms away keeps objects in memory and sleeps for each; records are of such a store "
            "without the sleep. `read_s` is what `list` and `promote` take for the record, `parts_s` what `verify` and "
            "`gc` take for its parts.",
        ],
    )


def written(folder: str, place: str, count: int, sequential: bool) -> dict[str, Any]:
    """Write ``count`` objects of a map."""
    from latentscale.storage.artifacts import ArtifactWriter
    from latentscale.storage.objects import Store
    from latentscale.storage.provenance import Cost

    store = Store(folder) if place == "disk" else _memory_store(LATENCY)
    data = [bytes([number % 251]) * BYTES for number in range(251)]
    started = time.perf_counter()
    writer = ArtifactWriter(store, "map", {"count": count}, [], run=None)
    for number in range(count):
        if sequential:
            store.put_bytes(f"{writer.folder}/viewer/{number}", data[number % 251])
        else:
            writer.put(f"viewer/{number}", data[number % 251])
    writer.commit(counts={}, cost=Cost())
    return {"wall_s": time.perf_counter() - started}


def listed(count: int) -> dict[str, Any]:
    """Write a record of ``count`` objects, and read it."""
    from latentscale.storage.artifacts import ArtifactWriter, find_record
    from latentscale.storage.provenance import Cost
    from latentscale.storage.records import record_name

    store = _memory_store(0.0)
    writer = ArtifactWriter(store, "map", {"count": count}, [], run=None)
    for number in range(count):
        writer.put(f"points/update=snapshot-0123456789abcdef/part-{number:05d}.parquet", b"x", rows=131_072)
    record = writer.commit(counts={}, cost=Cost())
    started = time.perf_counter()
    record_read = find_record(store, "map", record.id)
    read_s = time.perf_counter() - started
    assert record_read is not None
    started = time.perf_counter()
    assert len(record_read.parts) == count
    parts_s = time.perf_counter() - started
    size = len(store.read_bytes(record_name("map", record.id)))
    table = record.parts_table.bytes if record.parts_table else 0
    return {"map_json_kb": size / 1e3, "parts_table_kb": table / 1e3, "read_s": read_s, "parts_s": parts_s}


def _memory_store(latency: float) -> Any:
    from latentscale.storage.objects import ObjectInfo, Store

    class MemoryStore(Store):
        """Stores objects in memory, with a delay for each."""

        def __init__(self) -> None:
            super().__init__("memory")
            # Use the concurrency of a bucket.
            self.is_local = False
            self.objects: dict[str, bytes] = {}

        def put_bytes(self, name: str, data: bytes | memoryview) -> ObjectInfo:
            time.sleep(latency)
            self.objects[name] = bytes(data)
            return ObjectInfo(name=name, size=len(data), version="")

        def exists(self, name: str) -> bool:
            return name in self.objects

        def read_bytes(self, name: str) -> bytes:
            return self.objects[name]

    return MemoryStore()
