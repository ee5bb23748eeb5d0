"""Kill a run in the middle of embedding, give the same command again, and count what is done twice."""

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
# At which share of the vectors the run is killed.
MOMENTS = (0.25, 0.5, 0.75)


def run(context: Context) -> Result:
    """Corpus to page in shards of a thousand: undisturbed, and killed three times while embedding."""
    workspaces.warm(context)
    corpus = corpora.full_corpus(context)
    folder = context.emptied("resume")
    rows_a_shard = SHARD_ROWS if not context.quick else 100

    def command(out: Path) -> list[str]:
        settings = ("--text", corpus.text, "--progress", "quiet", "--set", f"ingest.shard_rows={rows_a_shard}")
        return [str(part) for part in latentscale("run", corpus.path, "--out", out, *settings)]

    whole, _ = run_command(command(folder / "whole"), compiled=context.compiled)
    wanted = _written(folder / "whole", "documents") | _written(folder / "whole", "embeddings")
    vectors = len(_written(folder / "whole", "embeddings"))
    out = folder / "killed"
    used = 0.0
    again = 0
    kept: dict[str, int] = {}
    kills: list[dict[str, Any]] = []
    for moment in MOMENTS:
        cpu = _killed_at(command(out), out, round(vectors * moment), context)
        used += cpu
        now = _written(out, "documents") | _written(out, "embeddings")
        again += sum(now[name] != when for name, when in kept.items())
        kept = now
        kills.append({"what": f"killed at {moment:.0%} of the vectors", "shards": len(now), "cpu_s": cpu})
    last, _ = run_command(command(out), compiled=context.compiled)
    found = _written(out, "documents") | _written(out, "embeddings")
    again += sum(found[name] != when for name, when in kept.items())
    if {n.split("/", 1)[1] for n in found} != {n.split("/", 1)[1] for n in wanted}:
        raise PartFailedError("the killed run did not end with the shards of the undisturbed one")
    rows = [
        {"what": "undisturbed", "shards": len(wanted), "cpu_s": whole.cpu_s},
        *kills,
        {"what": "the same command, to the end", "shards": len(found), "cpu_s": last.cpu_s},
        {"what": "with three kills, in all", "shards": len(found), "cpu_s": used + last.cpu_s},
    ]
    return Result(
        title="A run, corpus to page, that is killed three times while it embeds, beside one that is not.",
        parameters=corpus.facts() | {"rows a shard": rows_a_shard},
        rows=rows,
        targets=[Target(what="finished shards that were written again after a kill", value=again, limit=0)],
        notes=[
            "Shards are objects of documents and of vectors. The killed process had one shard in hand: that one "
            "is done again, and the start of a process, which is most of what three kills cost here.",
            f"Three kills cost {used + last.cpu_s - whole.cpu_s:.1f} CPU-s more than none.",
        ],
    )


def _written(workspace: Path, folder: str) -> dict[str, int]:
    """Shards of a folder of a workspace, and when each was written."""
    found = (workspace / folder).rglob("*-*.parquet")
    return {
        path.relative_to(workspace).as_posix(): path.stat().st_mtime_ns
        for path in found
        if not path.name.startswith(".")
    }


def _killed_at(command: list[str], out: Path, vectors: int, context: Context) -> float:
    """Start a run, end it by SIGKILL once so many shards of vectors are there, and return its processor time."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(context.compiled)}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(_written(out, "embeddings")) < vectors:
        time.sleep(0.002)
    if process.returncode is not None:
        raise PartFailedError("the run ended before it could be killed")
    process.send_signal(signal.SIGKILL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime
