"""Ingest and embed with the local engine, compared with the version that was one loop in one process."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.corpora import Context
from benchmarks.processes import REPOSITORY, PartFailedError, fresh, run_command
from benchmarks.report import Result, Target

# The last commit whose local engine was a loop.
BEFORE = "7ee1065"
FORMATS = ("csv", "jsonl", "parquet")
# Copies of the 8,000 documents of the demo corpus, numbered so that all differ.
COPIES = 40
FILES = 16
REPEATS = 2
# Works with both versions: runs the corpus and reads the stages' seconds from the events of the run.
SCRIPT = """
import json, sys, time
import latentscale
sources, out, settings = sys.argv[1:]
workspace = latentscale.Workspace(out)
started = time.perf_counter()
workspace.run({"corpus": {"sources": [sources], "text": "text"}, **json.loads(settings)}, until="embed")
wall = time.perf_counter() - started
events = workspace.store.read_bytes(f"runs/{workspace.runs[0]['id']}/events.jsonl").splitlines()
events = [json.loads(line) for line in events]
seconds = {event["stage"]: event["seconds"] for event in events if event["event"] == "stage done"}
print(json.dumps({"wall_s": wall, **{f"{stage}_s": seconds[stage] for stage in ("ingest", "embed")}}))
"""


def run(context: Context) -> Result:
    """Run each format with both versions, alternating, and a small corpus, which must not be slower."""
    folder = context.emptied("local-engine")
    before = _checkout(folder / "before")
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for kind in FORMATS:
        corpus = folder / kind
        _, written = fresh(make_corpus, path=corpus, kind=kind, copies=4 if context.quick else COPIES, files=FILES)
        runs, spread = _compare_versions(before, corpus, folder, repeats=1 if context.quick else REPEATS)
        ratio = runs["before"]["wall_s"] / runs["now"]["wall_s"]
        megabytes = sum(path.stat().st_size for path in corpus.iterdir()) / 1e6
        for version, facts in runs.items():
            rows.append({"what": f"{kind}, {written['rows']:,} documents, {megabytes:.0f} MB, {version}", **facts})
        targets.append(
            Target(
                what=f"{kind}: times as fast as before, wall time",
                value=ratio,
                limit=1.7,
                at_least=True,
                spread=ratio * spread,
            )
        )
        shutil.rmtree(corpus)
    corpus = folder / "small"
    fresh(make_corpus, path=corpus, kind="csv", copies=1, files=4)
    runs, spread = _compare_versions(before, corpus, folder, repeats=3)
    rows += [{"what": f"csv, 8,000 documents in 4 files, {version}", **facts} for version, facts in runs.items()]
    added = 100 * (runs["now"]["wall_s"] / runs["before"]["wall_s"] - 1)
    targets.append(Target(what="a small corpus, added wall time", value=added, limit=5, unit="%", spread=100 * spread))
    corpus = folder / "alone"
    fresh(make_corpus, path=corpus, kind="csv", copies=4, files=8)
    rows += _compare_workers(corpus, folder)
    return Result(
        title="Ingest and embed through the local engine, beside the version in which it was one loop.",
        parameters={"before": BEFORE, "files": FILES, "repeats": REPEATS, "shard_rows": "default"},
        rows=rows,
        targets=targets,
        notes=[
            "Both versions run in processes of their own, in turns, from the same files; the fastest run of each "
            "counts, and the spread of the repeats is that of the target. Wall time is that of "
            "`Workspace.run(until='embed')`: planning, both stages and records, without the start of Python.",
            "`cpu_s` is that of all processes, the start of Python and of the workers included.",
            "A corpus of one CSV, JSON lines or compressed file is one unit of ingest, which one process reads.",
            "`one process`, `threads` and `processes` call the same workers without an engine: why the engine has "
            "processes. Two at once; the start of the processes does not count.",
        ],
    )


def _checkout(folder: Path) -> Path:
    """Check out the earlier package, without its page."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", BEFORE, "latentscale"], cwd=REPOSITORY, capture_output=True, check=False
    )
    if archive.returncode:
        raise PartFailedError(f"there is no commit {BEFORE} here: {archive.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _compare_versions(
    before: Path, corpus: Path, folder: Path, *, repeats: int
) -> tuple[dict[str, dict[str, float]], float]:
    """Return the fastest run of each version, and the largest relative difference between repeats of one."""
    runs: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
    for _ in range(repeats):
        for version, path in (("before", before), ("now", REPOSITORY)):
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            # -P: do not put the current folder, which is this repository, on the import path.
            command = [sys.executable, "-P", "-c", SCRIPT, str(corpus), str(out), "{}"]
            usage, text = run_command(command, variables={"PYTHONPATH": str(path)})
            runs[version].append(json.loads(text) | {"cpu_s": usage.cpu_s})
    walls = [sorted(run["wall_s"] for run in version_runs) for version_runs in runs.values()]
    fastest = {version: min(version_runs, key=lambda run: run["wall_s"]) for version, version_runs in runs.items()}
    return fastest, max(wall[-1] / wall[0] - 1 for wall in walls)


def _compare_workers(corpus: Path, folder: Path) -> list[dict[str, Any]]:
    """Compute the same units and shards with one process, with two threads, and with two processes."""
    facts_by_way = {
        "one process": [fresh(work, corpus=corpus, out=folder / "one", threads=1)[1]],
        "two threads": [fresh(work, corpus=corpus, out=folder / "threads", threads=2)[1]],
    }
    with ThreadPoolExecutor(2) as pool:
        halves = pool.map(
            lambda half: fresh(work, corpus=corpus, out=folder / f"half-{half}", threads=1, half=half)[1], range(2)
        )
        facts_by_way["two processes"] = list(halves)
    return [
        {"what": f"the workers alone, {way}", **{k: max(facts[k] for facts in parts) for k in ("ingest_s", "embed_s")}}
        for way, parts in facts_by_way.items()
    ]


# ------------------------------------------------------------------------------------------------ in fresh processes


def make_corpus(path: str, kind: str, copies: int, files: int) -> dict[str, Any]:
    """Write ``copies`` of the demo corpus to files of one format; each copy's texts end with its number."""
    import polars as pl

    from latentscale.demo import corpus_path

    frame = pl.read_parquet(corpus_path())
    documents = pl.concat([frame.with_columns(pl.col("text") + f"\nCopy {number}.") for number in range(copies)])
    folder = Path(path)
    folder.mkdir(parents=True)
    write = {"csv": pl.DataFrame.write_csv, "jsonl": pl.DataFrame.write_ndjson, "parquet": pl.DataFrame.write_parquet}
    for number, part in enumerate(documents.iter_slices(-(-len(documents) // files))):
        write[kind](part, folder / f"part-{number:02}.{kind}")
    return {"rows": len(documents)}


def work(corpus: str, out: str, threads: int, half: int | None = None) -> dict[str, Any]:
    """Ingest and embed all units, or every second one, with the stages' own workers."""
    import time

    from latentscale.config import CorpusConfig, IngestConfig, parse_job
    from latentscale.embedders import embedder_spec
    from latentscale.readers.inputs import list_inputs
    from latentscale.stages import embed, ingest
    from latentscale.storage.objects import Store
    from latentscale.storage.snapshot import Shard, document_name

    settings, sources = IngestConfig(shard_rows=4_096), CorpusConfig(sources=(corpus,), text="text")
    inputs = list_inputs(sources)
    ingest.check_corpus(inputs, sources, settings)
    units = list(ingest.plan_ingest(inputs, sources, settings))[slice(half, None, 2 if half is not None else 1)]
    store = Store(out)
    job = parse_job({"corpus": {"sources": [corpus], "text": "text"}, "out": out}, where="the benchmark")
    spec = embedder_spec(job.embed)
    request = embed.STAGE.request(spec, job, text_column="text")
    workers = ingest.IngestWorker(store, sources, settings), embed.EmbedWorker(store, spec, request)
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        receipts = [receipt for unit_receipts in pool.map(workers[0], units) for receipt in unit_receipts]
        ingested = time.perf_counter()
        shards = [
            Shard(key=receipt.key, name=document_name(receipt.key), rows=receipt.rows, base=0, bytes=receipt.bytes)
            for receipt in receipts
        ]
        list(pool.map(workers[1], shards))
    return {"ingest_s": ingested - started, "embed_s": time.perf_counter() - ingested}
