"""Whole runs on ten thousand to a million texts of about 400 characters, compared with the estimates of ``plan``."""

from __future__ import annotations

import json
import math
from typing import Any

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import PartFailedError, latentscale, run_command
from benchmarks.report import Result, Target

SIZES = (10_000, 100_000, 1_000_000)
# Splits the corpus into shards like a real one of that size.
GROUP_ROWS = 20_000


def run(context: Context) -> Result:
    """Plan and run each size by the command line, in fresh processes with a warm cache of compiled code."""
    workspaces.warm(context)
    rows: list[dict[str, Any]] = []
    for documents in (2_000, 4_000) if context.quick else SIZES:
        rows += measured(context, documents)
    runs = [row for row in rows if "documents" in row]
    targets = [growth(runs)]
    if not context.quick:
        million = runs[-1]
        targets += [
            Target(what="a million, processor time", value=million["cpu_s"], limit=900, unit="CPU-s"),
            Target(what="a million, peak memory", value=million["peak_mb"], limit=6_000, unit="MB"),
        ]
    targets += [
        Target(what=f"{row['documents']:,}: {what} beside the measured one", value=row[share], limit=limit)
        for row in runs
        for what, share, limit in (
            ("planned processor time, off by", "cpu_off", 0.3),
            ("planned memory, off by", "memory_off", 0.15),
        )
    ]
    return Result(
        title="Texts of about 400 characters from parquet to the page, at sizes ten times apart, beside the plan.",
        parameters={"documents": [row["documents"] for row in runs], "characters": runs[-1]["characters"]},
        rows=rows,
        targets=targets,
        notes=[
            "Documents are stretches of 50 to 70 words of the package descriptions of a section, one after the other "
            "in the order of their names; they begin at random words, and overlap the more the larger the number is.",
            "`planned`: `latentscale plan` on the same file just before, by its rates and its look at this machine.",
            "Stages are from the records of the artifacts.",
        ],
    )


def measured(context: Context, documents: int) -> list[dict[str, Any]]:
    """Measure a run on so many documents: a row for the whole run with its plan, and rows for its stages."""
    corpus = corpora.passages(context, documents, group_rows=GROUP_ROWS)
    out = context.emptied(f"scale-{documents}") / "workspace"
    _, stdout = run_command(latentscale("plan", corpus.path, "--text", corpus.text, "--out", out, "--json"))
    plan = json.loads(stdout)
    usage = workspaces.run_corpus(corpus, out, compiled=context.compiled)
    counts = workspaces.record(out, "publish")["counts"]
    if counts["documents"] != corpus.rows:
        raise PartFailedError(f"{corpus.rows:,} rows became {counts['documents']:,} points")
    planned_mb = plan["memory_gb"] * 1e3
    run_row = {
        "what": f"{documents:,} documents",
        "documents": documents,
        "characters": round(corpus.characters),
        **usage.columns(),
        "planned_cpu_s": plan["cpu_seconds"],
        "planned_peak_mb": planned_mb,
        "cpu_off": abs(plan["cpu_seconds"] / usage.cpu_s - 1),
        "memory_off": abs(planned_mb / usage.peak_mb - 1),
        "clusters": counts["clusters"],
        "noise": counts["noise_share"],
    }
    by_stage = {stage["stage"]: stage for stage in plan["stages"]}
    stages = workspaces.stage_rows(out, usage)
    for row in stages:
        planned = by_stage.get(row["what"].removeprefix("· "))
        if planned is not None:
            row |= {"planned_cpu_s": planned["cpu_seconds"], "planned_peak_mb": planned["memory_gb"] * 1e3}
    return [run_row, *stages]


def growth(rows: list[dict[str, Any]]) -> Target:
    """The exponent of the growth of CPU time from the smallest to the largest size."""
    first, last = rows[0], rows[-1]
    exponent = math.log(last["cpu_s"] / first["cpu_s"]) / math.log(last["documents"] / first["documents"])
    what = f"growth of processor time from {first['documents']:,} to {last['documents']:,} documents, exponent"
    return Target(what=what, value=exponent, limit=1.1)
