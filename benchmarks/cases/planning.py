"""Plan a million shards: the work of a run between its listings and the first shard."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

FILES = 1_000_000
# One shard in so many is missing, as after a kill.
MISSING = 1_000
FILE_BYTES = 8 << 20
SMALL_BYTES = 4 << 10


def run(context: Context) -> Result:
    """Plan a million files of one shard each, nearly done; a million small ones; and an update of a million shards."""
    files = FILES // 20 if context.quick else FILES
    rows: list[dict[str, Any]] = []
    for what, size in (("files of 8 MiB, a shard each", FILE_BYTES), ("files of 4 kB, read in groups", SMALL_BYTES)):
        usage, measured = fresh(planned, files=files, size=size)
        rows.append({"what": what, "files": files, **measured, "process_peak_mb": usage.peak_mb})
    usage, measured = fresh(listed, files=files)
    rows.append(
        {
            "what": "update: what a snapshot of a million shards lacks",
            "files": files,
            **measured,
            "process_peak_mb": usage.peak_mb,
        }
    )
    return Result(
        title="Planning a million shards, from listings that are there to the units that are left.",
        parameters={"files": files, "missing": f"one shard in {MISSING:,}"},
        rows=rows,
        targets=[
            Target(what="seconds after listing", value=max(row["wall_s"] for row in rows), limit=5.0, unit="s"),
            Target(
                what="peak memory of the whole process, listings and interpreter included",
                value=max(row["process_peak_mb"] for row in rows),
                limit=500.0,
                unit="MB",
            ),
        ],
        notes=[
            "The listings are those of a store with such files, made in memory: what a disk or a bucket takes to list "
            "them is another case (object_store).",
            "What finished shards say of themselves is read afterwards, from tables: see resume_million.",
        ],
    )


def planned(files: int, size: int) -> dict[str, Any]:
    """Plan the ingest of a corpus of which one shard in a thousand is missing."""
    from latentscale.config import CorpusConfig, IngestConfig
    from latentscale.readers.input_table import InputTable
    from latentscale.stages import ingest
    from latentscale.storage.listing import Listing

    corpus, settings = CorpusConfig(sources=("s3://bucket/corpus",), text="text"), IngestConfig()
    inputs = InputTable(listed_files(files, size))
    first = ingest.plan_ingest(inputs, corpus, settings)
    listing = Listing(listed_shards(first, MISSING), brief=True)
    del first
    started, used = time.perf_counter(), time.process_time()
    units = ingest.plan_ingest(inputs, corpus, settings)
    pending, done = ingest.pending_units(units, listing)
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    assert len(pending) == -(-len(units) // MISSING), "one unit in a thousand is left"
    assert len(done) == len(units) - len(pending), "each unit has one shard"
    return {"units": len(units), "left": len(pending), "wall_s": wall, "cpu_s": cpu, "peak_mb": _peak()}


def listed(files: int) -> dict[str, Any]:
    """Plan an update: find those of a million planned units that have no shard in a snapshot."""
    import numpy as np
    import pyarrow as pa

    from latentscale.config import CorpusConfig, IngestConfig
    from latentscale.readers.input_table import InputTable
    from latentscale.stages import ingest
    from latentscale.storage.columns import StringColumn
    from latentscale.storage.snapshot import ShardTable, Snapshot

    corpus, settings = CorpusConfig(sources=("s3://bucket/corpus",), text="text"), IngestConfig()
    inputs = InputTable(listed_files(files, FILE_BYTES))
    units = ingest.plan_ingest(inputs, corpus, settings)
    existing = np.flatnonzero(np.arange(len(units)) % MISSING != 0)
    column = StringColumn()
    for index in existing.tolist():
        column.append(f"{units.keys[index]}-00000e")
    keys = column.finish().cast(pa.string())
    del column
    rows = np.full(len(existing), 20_000)
    shards = ShardTable(keys=keys, rows=rows, bases=np.cumsum(rows) - rows, bytes=rows * 400)
    snapshot = Snapshot(id="snapshot-0000000000000000", shards=shards, superseded=np.empty(0, dtype=np.int64))
    del units
    started, used = time.perf_counter(), time.process_time()
    units = ingest.plan_ingest(inputs, corpus, settings)
    left = ingest.units_without(units, snapshot)
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    assert len(left) == -(-len(units) // MISSING), "one unit in a thousand is new"
    return {"units": len(units), "left": len(left), "wall_s": wall, "cpu_s": cpu, "peak_mb": _peak()}


def listed_files(files: int, size: int) -> Iterator[Any]:
    """Yield the files of a corpus, of ``size`` bytes each."""
    from latentscale.readers.input_table import InputFile

    for number in range(files):
        path = f"year={2000 + number * 20 // files}/part-{number:07d}.parquet"
        yield InputFile(
            url=f"s3://bucket/corpus/{path}",
            path=path,
            size=size,
            version=f"{number:032x}",
            format="parquet",
            compression="none",
        )


def listed_shards(units: Any, missing: int | None = None) -> Iterator[Any]:
    """Yield the single shard of each unit as a store lists it; with ``missing``, one unit in so many has none."""
    import pyarrow.compute as pc

    from latentscale.storage.remote.protocol import ObjectInfo
    from latentscale.storage.snapshot import document_name

    # A store lists by name.
    for index in pc.call_function("array_sort_indices", [units.keys]).to_numpy():
        if missing is None or index % missing:
            key = units.keys[index]
            yield ObjectInfo(
                name=document_name(f"{key}-00000e"), size=8_000_000, version=f"{index:032x}", modified=1.8e9
            )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
