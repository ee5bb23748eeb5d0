"""Kill a run while it embeds, repeat the command, and count shards that are computed twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import REPOSITORY, PartFailedError, latentscale, run_command
from benchmarks.report import Result, Target

SHARD_ROWS = 1_000
# Shares of the vectors at which the run is killed.
MOMENTS = (0.25, 0.5, 0.75)


def run(context: Context) -> Result:
    """Run a corpus to its page in shards of a thousand: uninterrupted, and killed three times while embedding."""
    workspaces.warm(context)
    corpus = corpora.full_corpus(context)
    folder = context.emptied("resume")
    rows_a_shard = SHARD_ROWS if not context.quick else 100

    def command(out: Path) -> list[str]:
        settings = ("--text", corpus.text, "--progress", "quiet", "--set", f"ingest.shard_rows={rows_a_shard}")
        return [str(part) for part in latentscale("run", corpus.path, "--out", out, *settings)]

    uninterrupted, _ = run_command(command(folder / "whole"), compiled=context.compiled)
    expected_shards = _shard_times(folder / "whole", "documents") | _shard_times(folder / "whole", "embeddings")
    vectors = len(_shard_times(folder / "whole", "embeddings"))
    out = folder / "killed"
    killed_cpu_s = 0.0
    rewritten = 0
    shards_so_far: dict[str, int] = {}
    kills: list[dict[str, Any]] = []
    for moment in MOMENTS:
        cpu = _killed_at(command(out), out, round(vectors * moment), context)
        killed_cpu_s += cpu
        shards_now = _shard_times(out, "documents") | _shard_times(out, "embeddings")
        rewritten += sum(shards_now[name] != when for name, when in shards_so_far.items())
        shards_so_far = shards_now
        kills.append({"what": f"killed at {moment:.0%} of the vectors", "shards": len(shards_now), "cpu_s": cpu})
    final_usage, _ = run_command(command(out), compiled=context.compiled)
    final_shards = _shard_times(out, "documents") | _shard_times(out, "embeddings")
    rewritten += sum(final_shards[name] != when for name, when in shards_so_far.items())
    if {n.split("/", 1)[1] for n in final_shards} != {n.split("/", 1)[1] for n in expected_shards}:
        raise PartFailedError("the killed run did not end with the shards of the undisturbed one")
    rows = [
        {"what": "undisturbed", "shards": len(expected_shards), "cpu_s": uninterrupted.cpu_s},
        *kills,
        {"what": "the same command, to the end", "shards": len(final_shards), "cpu_s": final_usage.cpu_s},
        {"what": "with three kills, in all", "shards": len(final_shards), "cpu_s": killed_cpu_s + final_usage.cpu_s},
    ]
    return Result(
        title="A run, corpus to page, that is killed three times while it embeds, beside one that is not.",
        parameters=corpus.facts() | {"rows a shard": rows_a_shard},
        rows=rows,
        targets=[Target(what="finished shards that were written again after a kill", value=rewritten, limit=0)],
        notes=[
            "Shards are objects of documents and of vectors. The killed process had one shard in hand: that one "
            "is done again, and the start of a process, which is most of what three kills cost here.",
            f"Three kills cost {killed_cpu_s + final_usage.cpu_s - uninterrupted.cpu_s:.1f} CPU-s more than none.",
        ],
    )


def _shard_times(workspace: Path, folder: str) -> dict[str, int]:
    """The shards in a folder of a workspace, and the modification time of each."""
    shards = (workspace / folder).rglob("*-*.parquet")
    return {
        path.relative_to(workspace).as_posix(): path.stat().st_mtime_ns
        for path in shards
        if not path.name.startswith(".")
    }


def _killed_at(command: list[str], out: Path, vectors: int, context: Context) -> float:
    """Start a run, kill it with SIGKILL once ``vectors`` shards of vectors exist, and return its CPU time."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(context.compiled)}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(_shard_times(out, "embeddings")) < vectors:
        time.sleep(0.002)
    if process.returncode is not None:
        raise PartFailedError("the run ended before it could be killed")
    process.send_signal(signal.SIGKILL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime
