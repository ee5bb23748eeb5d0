"""Write the many objects of a map: how long they take, and how large the record is that lists them."""

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
    """Objects to a disk and to a store that answers after 20 ms, one after the other and as a map does it."""
    counts = [count // 10 for count in OBJECTS] if context.quick else list(OBJECTS)
    rows: list[dict[str, Any]] = []
    shares: dict[str, float] = {}
    for place in ("disk", "store 20 ms away"):
        for count in counts:
            walls: dict[bool, float] = {}
            for alone in (True, False):
                folder = context.emptied("objects")
                usage, found = fresh(written, folder=folder, place=place, count=count, alone=alone)
                walls[alone] = found["wall_s"]
                how = "one after the other" if alone else "as a map does it"
                rows.append({"what": f"{place}, {how}", "objects": count, **found, "cpu_s": usage.cpu_s})
            shares[place] = walls[False] / walls[True]
    records: dict[int, float] = {}
    for count in [count // 10 for count in LISTED] if context.quick else LISTED:
        usage, found = fresh(listed, count=count)
        records[count] = found["map_json_kb"]
        rows.append({"what": "a map's record", "objects": count, **found})
    return Result(
        title="The objects of a map: written several at a time, and listed in a table beside the record.",
        parameters={"bytes of an object": BYTES, "at once": "4 on a disk, 16 (storage.max_requests) elsewhere"},
        rows=rows,
        targets=[
            Target(what="store 20 ms away, beside one after the other", value=shares["store 20 ms away"], limit=0.1),
            Target(what="disk, beside one after the other", value=shares["disk"], limit=1.0),
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


def written(folder: str, place: str, count: int, alone: bool) -> dict[str, Any]:
    """Write ``count`` objects of a map."""
    from latentscale.storage.artifacts import ArtifactWriter
    from latentscale.storage.objects import Store
    from latentscale.storage.provenance import Cost

    store = Store(folder) if place == "disk" else _memory_store(LATENCY)
    data = [bytes([number % 251]) * BYTES for number in range(251)]
    started = time.perf_counter()
    writer = ArtifactWriter(store, "map", {"count": count}, [], run=None)
    for number in range(count):
        if alone:
            store.put_bytes(f"{writer.folder}/viewer/{number}", data[number % 251])
        else:
            writer.put(f"viewer/{number}", data[number % 251])
    writer.commit(counts={}, cost=Cost())
    return {"wall_s": time.perf_counter() - started}


def listed(count: int) -> dict[str, Any]:
    """Write a record of ``count`` objects, and read it again."""
    from latentscale.storage.artifacts import ArtifactWriter, find_record
    from latentscale.storage.provenance import Cost
    from latentscale.storage.records import record_name

    store = _memory_store(0.0)
    writer = ArtifactWriter(store, "map", {"count": count}, [], run=None)
    for number in range(count):
        writer.put(f"points/update=snapshot-0123456789abcdef/part-{number:05d}.parquet", b"x", rows=131_072)
    record = writer.commit(counts={}, cost=Cost())
    started = time.perf_counter()
    found = find_record(store, "map", record.id)
    read_s = time.perf_counter() - started
    assert found is not None
    started = time.perf_counter()
    assert len(found.parts) == count
    parts_s = time.perf_counter() - started
    size = len(store.read_bytes(record_name("map", record.id)))
    table = record.parts_table.bytes if record.parts_table else 0
    return {"map_json_kb": size / 1e3, "parts_table_kb": table / 1e3, "read_s": read_s, "parts_s": parts_s}


def _memory_store(latency: float) -> Any:
    from latentscale.storage.objects import ObjectInfo, Store

    class MemoryStore(Store):
        """Keeps objects in memory and takes its time for each."""

        def __init__(self) -> None:
            super().__init__("memory")
            # Written to as many at a time as a bucket is.
            self.is_local = False
            self.held: dict[str, bytes] = {}

        def put_bytes(self, name: str, data: bytes | memoryview) -> ObjectInfo:
            time.sleep(latency)
            self.held[name] = bytes(data)
            return ObjectInfo(name=name, size=len(data), version="")

        def exists(self, name: str) -> bool:
            return name in self.held

        def read_bytes(self, name: str) -> bytes:
            return self.held[name]

    return MemoryStore()
