"""A GPU's texts: how long a device that computes as fast as an H200 is busy, beside the version before."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import REPOSITORY, PartFailedError, fresh, own_cpu_seconds, run_command
from benchmarks.report import Result, Target

# The last commit in which the worker itself tokenised, two shards were unwritten and vectors had statistics.
BEFORE = "26bb6ed"
ROWS, SHARDS, REPEATS, TURNS = 20_000, 12, 4, 2
REMEMBERED = "now, tokens remembered"
LATE_S = 0.2
# What an H200 takes for 20,000 texts that lie ready, and a thread to give them to it (results/gpu/feed.json).
DEVICES: dict[str, dict[str, Any]] = {
    "MiniLM, fp16": {"width": 384, "device_s": 0.2555, "launch_s": 0.1223},
    "BERT base, bf16": {"width": 768, "device_s": 1.0235, "launch_s": 0.2551},
}


def run(context: Context) -> Result:
    """Both versions in turns; of each figure the best one counts."""
    corpus = corpora.sample(context, ROWS)
    before = _checkout(context.emptied("device-feed") / "before")
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for device, facts in DEVICES.items():
        scale = min(1.0, corpus.rows / ROWS)
        options = facts | {name: facts[name] * scale for name in ("device_s", "launch_s")}
        options |= {"texts": str(corpus.path), "column": corpus.text, "rows": ROWS, "late_s": LATE_S, "processes": None}
        options |= {"shards": SHARDS, "repeats": REPEATS, "scratch": str(context.folder("device-feed"))}
        versions = {"before": (before, False), "now": (REPOSITORY, False), REMEMBERED: (REPOSITORY, True)}
        measured: dict[str, list[dict[str, Any]]] = {version: [] for version in versions}
        for _ in range(1 if context.quick else TURNS):
            for version, (path, remembered) in versions.items():
                measured[version].append(_measured(path, options | {"remembered": remembered}))
        for version, runs in measured.items():
            rows += [{"what": f"{device}, {what}, {version}", **one} for what, one in _best(runs).items()]
        best, free = _best(measured["now"]), _best(measured[REMEMBERED])
        most = options["device_s"] - options["launch_s"]
        targets.append(
            Target(
                what=f"{device}, one call: processor time of the worker beside launches, of what the device leaves",
                value=best["one call"]["other_cpu_s"] / most,
                limit=1.0,
            )
        )
        targets.append(
            Target(
                what=f"{device}, shard after shard, {REMEMBERED}: share of the time in which the device is busy",
                value=free["shard after shard"]["busy_share"],
                limit=0.95,
                at_least=True,
            )
        )
    for dtype in ("float16", "float32"):
        _, ways = fresh(written, rows=ROWS, width=DEVICES["MiniLM, fp16"]["width"], dtype=dtype)
        rows += [{"what": f"writing the vectors of a shard, {dtype}, {way}", **one} for way, one in ways.items()]
    return Result(
        title="Texts for a device that computes as fast as an H200: how busy it is, beside the version before.",
        parameters=corpus.facts() | {"before": BEFORE, "shards": SHARDS, "repeats": REPEATS, "turns": TURNS},
        rows=rows,
        targets=targets,
        notes=[
            "Everything runs but the computing: the device takes the time of an H200 by the clock, and giving it a "
            "batch takes a thread the processor time that launches took there, in operations that give Python's lock "
            "away and take it again (`benchmarks/pretended_device.py`).",
            "`busy share`: of the time of a call, or from the first batch of the second shard to that of the last one. "
            "Here two processors do what sixteen do beside an H200: it says how two processors keep up.",
            "`launch processor s` and `launch lock s`: for how long the thread that gives batches to the device waited "
            "for a processor, and for Python's lock.",
            "`other cpu s`: processor time of the worker's process beside launches, a call or a shard. Python's lock "
            "is held for less. Where it and the launches take less than the device computes, the lock cannot keep the "
            "device waiting.",
            "`lock s`: for how long others than launches hold the lock, by a native thread that asks for it "
            "(gilknocker), where that is installed.",
            f"`{REMEMBERED}`: the tokenizer processes answer from memory, and so take next to no processor time, as if "
            "they had processors of their own; everything else is done.",
            f"`late store`: one that takes {LATE_S} s longer for each object.",
        ],
    )


def _measured(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    paths = [str(path), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-P", str(REPOSITORY / "benchmarks" / "pretended_device.py"), json.dumps(options)]
    found = json.loads(run_command(command, variables={"PYTHONPATH": os.pathsep.join(paths)})[1])
    assert Path(found["package"]).parent == path, "another version was measured"
    return found


def _best(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of all runs of a version, those in which the device was busiest."""
    call = min((one for run in runs for one in run["calls"]), key=lambda one: one["wall_s"])
    found = {"one call": call | _lock(runs, "call")}
    for part, name in (("shards", "shard after shard"), ("shards_late", "shard after shard, late store")):
        found[name] = max((run[part] for run in runs), key=lambda one: one["busy_share"])
    found["shard after shard"] |= _lock(runs, "shard")
    return found


def _lock(runs: list[dict[str, Any]], what: str) -> dict[str, float]:
    seconds = [run["lock"][f"{what}_lock_s"] for run in runs if run["lock"]]
    return {"lock_s": min(seconds)} if seconds else {}


def _checkout(folder: Path) -> Path:
    """The package as it was, without its page."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", BEFORE, "latentscale"], cwd=REPOSITORY, capture_output=True, check=False
    )
    if archive.returncode:
        raise PartFailedError(f"there is no commit {BEFORE} here: {archive.stderr.decode(errors='replace').strip()}")
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


# ------------------------------------------------------------------------------------------------ in fresh processes


def written(rows: int, width: int, dtype: str) -> dict[str, Any]:
    """Processor time and bytes of the vectors of a shard as parquet, in other ways, too: the least of five."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from latentscale.stages.embed import vector_table

    vectors = np.random.default_rng(0).standard_normal((rows, width), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = vector_table(vectors, np.ones(rows, np.bool_), dtype)
    values = "vector.list.element"
    common: dict[str, Any] = {"use_dictionary": ["row"], "write_page_checksum": True}
    quiet = common | {"write_statistics": ["row"]}
    ways: dict[str, dict[str, Any]] = {
        "zstd, with statistics (before)": common | {"compression": "zstd", "use_byte_stream_split": [values]},
        "zstd (now)": quiet | {"compression": "zstd", "use_byte_stream_split": [values]},
        "lz4": quiet | {"compression": {"row": "zstd", values: "lz4"}, "use_byte_stream_split": [values]},
        "as they are": quiet | {"compression": {"row": "zstd", values: "none"}},
    }
    found: dict[str, Any] = {}
    for name, options in ways.items():
        seconds: list[float] = []
        size = 0
        for _ in range(5):
            began = own_cpu_seconds()
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink, row_group_size=65_536, **options)
            size = sink.getvalue().size
            seconds.append(own_cpu_seconds() - began)
        found[name] = {"other_cpu_s": min(seconds), "written_mb": size / 1e6}
    return found
