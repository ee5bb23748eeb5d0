"""Workspaces for cases: warm caches, runs by the command line, and their records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.corpora import Context, Corpus, sample
from benchmarks.processes import Usage, latentscale, run_command

STAGES = {
    "embed": "embed",
    "neighbors": "neighbors",
    "project": "project 2-D",
    "layout": "project 5-D",
    "cluster": "cluster",
    "label": "label",
    "publish": "publish",
}


def warm(context: Context) -> None:
    """Fill the shared cache of compiled code by small runs with each layout mode and neighbour search."""
    done = context.compiled / "warm"
    if done.exists():
        return
    small = sample(context, 2_500)
    for mode, method in (("fast", "pynndescent"), ("exact", "exact"), ("exact", "pynndescent")):
        out = context.folder("warm") / f"{mode}-{method}"
        settings = ["--set", f"project.mode={mode}", "--set", f"neighbors.method={method}"]
        run_corpus(small, out, *settings, compiled=context.compiled)
    done.touch()


def run_corpus(corpus: Corpus, out: Path, *settings: str, compiled: Path, verb: str = "run") -> Usage:
    """Make the map of a corpus by the command line."""
    command = latentscale(verb, corpus.path, "--text", corpus.text, "--out", out, "--progress", "quiet", *settings)
    return run_command(command, compiled=compiled)[0]


def last_run(workspace: Path) -> dict[str, Any]:
    """Read the record of the last run, with its events."""
    folder = max((workspace / "runs").iterdir())
    events = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads((folder / "run.json").read_text(encoding="utf-8")) | {"events": [json.loads(e) for e in events]}


def record(workspace: Path, stage: str) -> dict[str, Any]:
    """Read the record of the artifact that a stage of the last run made or reused."""
    identity = last_run(workspace)["facts"]["artifacts"][stage]
    (path,) = (*workspace.glob(f"*/{identity}/artifact.json"), *workspace.glob(f"*/{identity}/map.json"))
    return json.loads(path.read_text(encoding="utf-8"))


def stage_rows(workspace: Path, usage: Usage) -> list[dict[str, Any]]:
    """A row per stage from its record, and one for the rest of the run."""
    walls = {e["stage"]: e["seconds"] for e in last_run(workspace)["events"] if e["event"] == "stage done"}
    rows: list[dict[str, Any]] = []
    for stage, title in STAGES.items():
        cost = record(workspace, stage)["cost"]
        rows.append(
            {
                "what": f"· {title}",
                "cpu_s": cost["cpu_seconds"],
                "wall_s": cost["seconds"],
                "peak_mb": cost["peak_bytes"] / 1e6,
            }
        )
    rest = {
        "what": f"· the rest: start, imports, ingest ({walls['ingest']:.1f} s wall)",
        "cpu_s": usage.cpu_s - sum(row["cpu_s"] for row in rows),
        "wall_s": usage.wall_s - sum(row["wall_s"] for row in rows),
    }
    return [rest, *rows]
