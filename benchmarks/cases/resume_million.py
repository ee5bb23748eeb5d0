"""Resume a million finished shards: the work of a run after its listings when everything is done."""

from __future__ import annotations

import ctypes
import gc
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.cases.planning import FILE_BYTES, listed_files, listed_shards
from benchmarks.corpora import Context
from benchmarks.processes import fresh, own_cpu_seconds
from benchmarks.report import Result, Target

SIZES = (10_000, 100_000, 1_000_000)
ROWS = 20_000
# Number of nightly updates since the first run, each with a table of its own, and their total share of the shards.
NIGHTS, NIGHTLY_SHARE = 7, 0.02


def run(context: Context) -> Result:
    """Run without work over 10,000 to 1,000,000 finished shards, and over a million with distinct receipts."""
    sizes = tuple(size // 20 for size in SIZES) if context.quick else SIZES
    rows: list[dict[str, Any]] = []
    for files in sizes:
        rows += _measured(context, files, varied=False, parents=(True, False) if files == sizes[-1] else (True,))
    worst = _measured(context, sizes[-1], varied=True, parents=(True,))
    largest = [row for row in rows if row["shards"] == sizes[-1]]
    return Result(
        title="A run that finds every shard finished, from its listings to the record of the embedding.",
        parameters={"shards": sizes[-1], "tables of receipts of a group": NIGHTS + 1},
        rows=[*rows, *worst],
        targets=[
            Target(
                what="seconds after listing",
                value=max(row["wall_s"] for row in largest),
                limit=10.0,
                unit="s",
            ),
            Target(
                what="peak memory beyond the listings and the plan",
                value=max(row["peak_mb"] for row in largest),
                limit=500.0,
                unit="MB",
            ),
            Target(
                what="seconds after listing where each shard has its own examples, reasons, languages and types",
                value=worst[0]["wall_s"],
                limit=20.0,
                unit="s",
            ),
            Target(
                what="peak memory beyond the listings and the plan, then",
                value=worst[0]["peak_mb"],
                limit=1000.0,
                unit="MB",
            ),
        ],
        notes=[
            "The listings are made in memory, and no shard is there: a run that opened one would fail. Tables of "
            "receipts, the snapshot and the record of the embedding are real objects on a disk.",
            "The seconds are those of the functions that a run calls: ingest_corpus, resolve_columns, embed_snapshot. "
            "Before they begin, free memory is given back to the system, so that nothing that is used again hides "
            "what resuming takes.",
        ],
    )


def _measured(context: Context, files: int, *, varied: bool, parents: tuple[bool, ...]) -> list[dict[str, Any]]:
    folder = context.emptied(f"resume-million-{files}-{'varied' if varied else 'alike'}")
    fresh(finished, files=files, varied=varied, folder=folder)
    rows: list[dict[str, Any]] = []
    for parent in parents:
        usage, measured = fresh(resumed, files=files, folder=folder, parent=parent)
        what = "no two shards alike" if varied else "nothing to do" if parent else "killed before its first map"
        rows.append({"what": what, "shards": files, **measured, "process_peak_mb": usage.peak_mb})
    return rows


def _config(folder: str) -> Any:
    from latentscale.config import JobConfig

    return JobConfig.model_validate(
        {
            "corpus": {"sources": ["s3://bucket/corpus"], "text": "text", "vectors": "numbers"},
            "embed": {"model": "column"},
            "quality": {"against": "topic"},
            "out": folder,
        }
    )


def _plan(files: int, config: Any) -> Any:
    from latentscale.readers.input_table import InputTable
    from latentscale.stages import ingest

    inputs = InputTable(listed_files(files, FILE_BYTES))
    return ingest.plan_ingest(inputs, config.corpus, config.ingest)


def _embedding(config: Any) -> str:
    from latentscale.storage.artifacts import artifact_id

    return artifact_id("embedding", _request(config))


def finished(files: int, varied: bool, folder: str) -> dict[str, Any]:
    """Write the output of a finished run except the shards: receipts, a snapshot, the record of the embedding."""
    import numpy as np
    import polars as pl
    import pyarrow as pa

    from latentscale.stages.embed_receipt import EmbedReceipt
    from latentscale.stages.ingest import ShardReceipt
    from latentscale.storage.arrow_types import type_name
    from latentscale.storage.artifacts import ArtifactWriter
    from latentscale.storage.objects import Store
    from latentscale.storage.provenance import measured
    from latentscale.storage.receipts import Receipts, receipt_schema, write_receipts
    from latentscale.storage.snapshots import make_snapshot

    config, store = _config(folder), Store(folder)
    units = _plan(files, config)
    n = len(units)
    keys = pa.array([f"{key}-00000e" for key in units.keys.to_pylist()], pa.string())
    number = np.arange(n)
    columns: list[list[str]] = [["text", "string"], ["topic", "string"], *([f"c{i}", "string"] for i in range(4))]
    columns.append(["numbers", type_name(pa.list_(pa.float32(), 256))])
    texts: dict[str, Any] = {"columns": [json.dumps(columns)], "renamed": ["{}"], "types": ['{"topic": []}']}
    texts |= {"reasons": ["{}"], "examples": ["[]"], "languages": ['{"English": 100}']}
    if varied:
        kinds = ("int64", "float64", "bool", "date", "timestamp")
        texts["types"] = [_types(i, kinds) for i in range(n)]
        texts["reasons"] = [f'{{"blank_text": {i % 1_009}, "too_long": {i // 1_009}}}' for i in range(n)]
        texts["examples"] = [
            f'["part-{i:07d}.parquet:17 blank_text", "part-{i:07d}.parquet:93 too_long"]' for i in range(n)
        ]
        texts["languages"] = [f'{{"English": {i % 1_009}, "German": {i // 1_009}}}' for i in range(n)]

    def text(name: str) -> pa.Array:
        values = pa.array(texts[name], pa.string()).dictionary_encode()
        return values if len(values) == n else pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), values.dictionary)

    def constant(value: int) -> pa.Array:
        return pa.array(np.full(n, value))

    rows = {
        "rows": constant(ROWS - 1),
        "rows_in": constant(ROWS),
        "rejected": constant(1),
        "filtered": constant(0),
        "unwanted": constant(0),
    }
    documents = {"key": keys, **rows, "bytes": pa.array(7_000_000 + number % 1_000_000), "vector_width": constant(256)}
    documents |= {name: text(name) for name in ("reasons", "examples", "columns", "types", "renamed")}
    vectors = {"key": keys, "rows": constant(ROWS - 1), "embedded": constant(ROWS - 1), "unique": constant(ROWS - 7)}
    vectors |= {
        "tokens": constant(0),
        "unknown": constant(0),
        "truncated": constant(0),
        "dim": constant(256),
        "reused": constant(0),
    }
    vectors |= {"languages": text("languages")}
    embedding = _embedding(config)
    # A run finishes shards roughly in the order of the input; each night adds shards from all of it.
    nightly = np.sort(np.random.default_rng(0).permutation(n)[: int(n * NIGHTLY_SHARE)])
    first = np.delete(number, nightly)
    for group, kind, receipts in (("documents", ShardReceipt, documents), (embedding, EmbedReceipt, vectors)):
        schema = receipt_schema(kind)
        table = pa.table({name: receipts[name] for name in schema.names}, schema=schema)
        for indices in (first, *np.array_split(nightly, NIGHTS)):
            write_receipts(store, group, Receipts(kind, table.take(pa.array(indices))), {})
        del table
    frame = pl.DataFrame(
        {"key": pl.from_arrow(keys), "rows": np.full(n, ROWS - 1), "bytes": 7_000_000 + number % 1_000_000}
    )
    snapshot = make_snapshot(store, frame, id_column=None, text_column="text")
    with measured() as cost:
        pass
    ArtifactWriter(store, "embedding", _request(config), [], run=None).commit(counts={"dim": 256}, cost=cost)
    return {"snapshot": snapshot.id}


def _request(config: Any) -> dict[str, Any]:
    from latentscale.embedders import embedder_spec
    from latentscale.stages import embed

    spec = embedder_spec(config.embed, vectors_column="numbers")
    return dict(embed.STAGE.request(spec, config, text_column="text").identity())


def _types(number: int, kinds: tuple[str, ...]) -> str:
    types = {
        f"c{column}": [k for bit, k in enumerate(kinds) if number >> (5 * column + bit) & 1] for column in range(4)
    }
    return json.dumps(types)


def resumed(files: int, folder: str, parent: bool) -> dict[str, Any]:
    """Do the work of a run between its listings and the stages after the embedding, with all shards finished."""
    import pyarrow as pa

    from latentscale.machine import forget_peak, peak_bytes
    from latentscale.pipeline.context import RunContext
    from latentscale.pipeline.observe import Observer
    from latentscale.pipeline.shards import embed_snapshot, ingest_corpus
    from latentscale.stages import publish
    from latentscale.storage import provenance
    from latentscale.storage.listing import Listing
    from latentscale.storage.objects import Store
    from latentscale.storage.remote.protocol import ObjectInfo
    from latentscale.storage.snapshots import list_snapshot_ids, read_snapshot
    from latentscale.storage.workspace_record import WorkspaceRecord

    config = _config(folder)
    embedding = _embedding(config)
    units = _plan(files, config)
    documents = Listing(listed_shards(units), brief=True)

    def listed_vectors() -> Any:
        for name in documents:
            yield ObjectInfo(
                name=f"embeddings/{embedding}/{name.removeprefix('documents/')}", size=9_000_000, version=""
            )

    vectors = Listing(listed_vectors(), brief=True)

    class Listed(Store):
        def list(self, prefix: str = "", *more: str, brief: bool = False) -> Listing:
            folders = {"documents": documents, f"embeddings/{embedding}": vectors}
            return folders.get(prefix) or super().list(prefix, *more, brief=brief)

    context = RunContext(config, Observer("quiet"))
    context.store = store = Listed(folder)
    (snapshot_id,) = list_snapshot_ids(store)
    workspace = WorkspaceRecord(name="m", text_column="text", id_column=None, corpus={}, created="")
    # A run reads the snapshot of the current map before it plans.
    current = read_snapshot(store, snapshot_id) if parent else None
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)
    # The stages reset the measurement of peak memory; here it covers everything.
    provenance.forget_peak = lambda: None
    resident_before = _resident()
    forget_peak()
    seconds: dict[str, float] = {}
    started, cpu_before = time.perf_counter(), own_cpu_seconds()
    snapshot = ingest_corpus(context, units, current, growing=False)
    seconds["ingest_s"] = time.perf_counter() - started
    publish.resolve_columns(store, snapshot, config, "text", context.vectors_column)
    seconds["columns_s"] = time.perf_counter() - started - sum(seconds.values())
    embed_snapshot(context, snapshot, workspace, parent=current)
    seconds["embed_s"] = time.perf_counter() - started - sum(seconds.values())
    wall, cpu = time.perf_counter() - started, own_cpu_seconds() - cpu_before
    assert snapshot.id == snapshot_id, "the same snapshot is found"
    assert context.outcome.made == [], "nothing is made again"
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        **seconds,
        "peak_mb": (peak_bytes() - resident_before) / 1e6,
        "held_mb": resident_before / 1e6,
    }


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096
