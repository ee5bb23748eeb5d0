"""The lines of jobs/README.md, given to `ray job submit` as they stand there, at a real cluster with a token."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import latentscale

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[2]


def documented(what: str) -> list[str]:
    """The words after `ray job submit` of the documented line that has ``what``, without its address."""
    text = (ROOT / "jobs" / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in re.findall(r"^ray job submit .+$", text, re.MULTILINE) if what in line]
    words = shlex.split(line)[3:]
    at = words.index("--address")
    words[at : at + 2] = []
    # The nodes of the tests have the package in this environment, and not from an index.
    words[words.index("python")] = sys.executable
    return ["jobs/runtime_env.yaml" if word == "jobs/runtime_env.pip.yaml" else word for word in words]


def submission(words: list[str]) -> str:
    return words[words.index("--submission-id") + 1]


def status(cluster: Any, job: str) -> str:
    return cluster.ray_job("status", job).stdout


def the_same_map(out: Path, local: Path) -> None:
    made, wanted = latentscale.open(out).current, latentscale.open(local).current
    assert made is not None
    assert wanted is not None
    assert made.id == wanted.id
    assert made.points().collect().equals(wanted.points().collect()), "an exact map is the same to the bit"


def test_the_demo_by_the_line_for_a_cluster_is_that_by_the_line_for_a_laptop(cluster: Any, tmp_path: Path) -> None:
    local, out = tmp_path / "local" / "demo", tmp_path / "maps" / "demo"
    words = [sys.executable, "jobs/run.py", "jobs/demo.yaml", "--set", f"out={local}"]
    alone = subprocess.run(words, cwd=ROOT, env=cluster.environment, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    words = [word.replace("/shared/maps", str(tmp_path / "maps")) for word in documented("run.py demo.yaml")]
    done = cluster.ray_job("submit", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'demo-1' succeeded" in done.stdout.replace('"', "'")
    the_same_map(out, local)
    engine = latentscale.open(out).runs[-1]["facts"]["engine"]
    assert (engine["engine"], engine["submission"], engine["nodes"]) == ("ray", "demo-1", 3)
    whole = latentscale.open(out).snapshot
    assert sum(engine["hosts"]["embed"].values()) == len(whole.shards)
    assert set(engine["hosts"]["embed"]) <= {node.host for node in cluster.nodes}
    listed = cluster.ray_job("list")
    assert re.search(r"metadata=\{[^}]*'purpose': 'try'", listed.stdout), listed.stdout
    records = json.dumps(latentscale.open(out).runs)
    assert cluster.token.read_text() not in done.stdout + listed.stdout + records
    # The same id once more is refused: nothing runs twice.
    again = cluster.ray_job("submit", *words)
    assert again.returncode != 0
    assert "already exists" in again.stdout + again.stderr
    assert len(latentscale.open(out).runs) == 1


def test_the_lines_for_buckets_and_for_every_night(cluster: Any, bucket: Any, corpus: Path) -> None:
    frame = pl.concat([pl.read_parquet(path) for path in sorted(corpus.glob("*.parquet"))]).rename({"package": "url"})
    (*parts, late) = (part.write_ndjson().encode() for part in frame.iter_slices(100))
    for i, part in enumerate(parts):
        bucket.put("example-raw", f"news/part-{i}.jsonl.zst", pa.compress(part, codec="zstd", asbytes=True))
    # Only what the reader edits, and less memory than the file's cluster has.
    edits = {"storage.endpoint_url": bucket.endpoint, "storage.region": "us-east-1"}
    edits |= {f"engine.resources.{stage}.memory": "1GB" for stage in ("neighbors", "project")}
    settings = [word for name, value in edits.items() for word in ("--set", f"{name}={value}")]
    done = cluster.ray_job("submit", *documented("run.py s3-cpu-cluster.yaml"), *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    out = latentscale.open("s3://example-maps/news", storage=bucket.storage)
    first = out.current
    assert first is not None
    old = first.points().collect()
    assert sorted(old["url"]) == sorted(frame["url"][: 100 * len(parts)])
    engine = out.runs[-1]["facts"]["engine"]
    assert engine["submission"] == "news-2026-11-21"
    assert sum(engine["hosts"]["embed"].values()) == len(out.snapshot.shards)

    bucket.put("example-raw", "news/part-9.jsonl.zst", pa.compress(late, codec="zstd", asbytes=True))
    storage = [word for name, value in bucket.storage.items() for word in ("--storage", f"{name}={value}")]
    done = cluster.ray_job("submit", *documented("update.py"), *storage)
    assert done.returncode == 0, done.stdout + done.stderr
    grown = out.current
    assert grown is not None
    new = grown.points().collect()
    assert sorted(new["url"]) == sorted(frame["url"])
    places = ["url", "x", "y", "cluster"]
    assert new.select(places).join(old.select("url"), on="url", how="semi").equals(old.select(places))
    engine = out.runs[-1]["facts"]["engine"]
    assert engine["submission"] == "news-nightly-2026-11-22"
    assert sum(engine["hosts"]["ingest"].values()) == 1, "only the new file is read"
    said = done.stdout + json.dumps(out.runs) + cluster.ray_job("list").stdout
    assert bucket.secret not in said


def test_a_gpu_request_is_refused_without_gpus(cluster: Any, ray_nodes: ModuleType, bucket: Any, corpus: Path) -> None:
    frame = pl.read_parquet(corpus / "part-00.parquet").rename({"package": "url"})
    data = io.BytesIO()
    frame.write_parquet(data)
    bucket.put("example-raw", "news/part-0.parquet", data.getvalue())
    words = documented("run.py gpu-embedding.yaml")
    words += [word for name, value in bucket.storage.items() for word in ("--set", f"storage.{name}={value}")]
    done = cluster.ray_job("submit", *words)
    assert done.returncode == 0, "it does not wait for the end"
    name = submission(words)
    ray_nodes.until(lambda: "failed" in status(cluster, name), seconds=90, message="it is not refused")
    said = cluster.ray_job("logs", name).stdout
    assert "stage embed asks for 4 CPU, 1 GPU, 16.0 GB memory for a worker" in said
    assert "3 × (1 CPU" in said or "1 blue" in said, "what the cluster has"
    assert "Add a node with GPUs" in said
    assert "Traceback" not in said
    assert "exit code 4" in cluster.ray_job("list").stdout
    assert bucket.keys("example-maps", "news-gpu") == []


def test_a_stopped_job_resumes_under_a_new_submission_id(
    cluster: Any, ray_nodes: ModuleType, corpus: Path, local: Path, tmp_path: Path
) -> None:
    out = tmp_path / "map"
    (tmp_path / "job").mkdir()
    for path in (ROOT / "jobs").glob("*.py"):
        (tmp_path / "job" / path.name).write_bytes(path.read_bytes())
    job = {
        "corpus": {"sources": str(corpus), "text": "body", "id": "package"},
        "out": str(out),
        "ingest": {"shard_rows": 64},
        "quality": {"sample": 100},
    }
    (tmp_path / "job" / "corpus.yaml").write_text(json.dumps(job))

    def submit(name: str, *options: str) -> subprocess.CompletedProcess[str]:
        folder = ["--working-dir", tmp_path / "job"]
        entry = ["--", sys.executable, "run.py", "corpus.yaml"]
        return cluster.ray_job("submit", "--submission-id", name, *folder, *options, *entry)

    assert submit("stopped-1", "--no-wait").returncode == 0
    done = list(out.glob("documents/*/[!.]*.parquet"))

    def some_are_there() -> bool:
        done[:] = out.glob("documents/*/[!.]*.parquet")
        return len(done) >= 3

    ray_nodes.until(some_are_there, seconds=120, message=cluster.ray_job("logs", "stopped-1").stdout)
    stopped = cluster.ray_job("stop", "stopped-1")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "was stopped" in status(cluster, "stopped-1")
    # Ray gives a job three seconds to end; on a busy machine they may be too short for the record.
    assert latentscale.open(out).runs[-1]["status"] in ("interrupted", "running")
    before = {path: path.stat().st_mtime_ns for path in done}
    again = submit("stopped-2")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [path for path, written in before.items() if path.stat().st_mtime_ns != written] == []
    the_same_map(out, local)
