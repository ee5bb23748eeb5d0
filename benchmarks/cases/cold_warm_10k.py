"""Compilation time: 10,000 documents to the page in fresh processes, compared with umap-learn, pynndescent, hdbscan."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import byhand, corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import Usage, fresh
from benchmarks.report import Result, Target

DOCUMENTS = 10_000
WARM_RUNS = 3
LAYOUT_STAGES = ("neighbors", "project", "layout", "cluster")


def run(context: Context) -> Result:
    """Measure a run with an empty cache of compiled code, later runs, and the libraries by hand, twice."""
    corpus = corpora.sample(context, 2_000 if context.quick else DOCUMENTS)
    folder = context.emptied("cold_warm")
    usages = [
        workspaces.run_corpus(corpus, folder / f"workspace-{number}", compiled=folder / "compiled")
        for number in range(1 + WARM_RUNS)
    ]
    cold, warm = usages[0], _median(usages[1:])
    vectors = folder / "vectors.npy"
    fresh(byhand.save_vectors, workspace=folder / f"workspace-{WARM_RUNS}", path=vectors)
    # Twice: the second process has the caches that the libraries keep.
    hand = [fresh(byhand.layouts_and_clusters, vectors=vectors) for _ in range(2)]
    ours = [workspaces.record(folder / f"workspace-{WARM_RUNS}", stage)["cost"] for stage in LAYOUT_STAGES]
    steps = hand[1][1]["steps"]
    rows: list[dict[str, Any]] = [
        {"what": "latentscale run, corpus to page, nothing compiled yet", **cold.columns()},
        {"what": f"latentscale run again, corpus to page (median of {WARM_RUNS})", **warm.columns()},
        {
            "what": "· of it graph, two layouts and clusters",
            "cpu_s": sum(cost["cpu_seconds"] for cost in ours),
            "wall_s": sum(cost["seconds"] for cost in ours),
        },
        {"what": "by hand, vectors to clusters, first process", **hand[0][0].columns()},
        {"what": "by hand, vectors to clusters, second process", **hand[1][0].columns()},
        *({"what": f"· {name}", **cost} for name, cost in steps.items()),
    ]
    return Result(
        title="Documents to the page in a fresh process, before and after code is compiled and kept.",
        parameters=corpus.facts(),
        rows=rows,
        targets=[
            Target(what="first run, corpus to page, wall time", value=cold.wall_s, limit=10, unit="s"),
            Target(what="second run, corpus to page, wall time", value=warm.wall_s, limit=8, unit="s"),
            Target(
                what="second run, corpus to page, CPU-seconds of vectors to clusters by hand",
                value=warm.cpu_s / hand[1][0].cpu_s,
                limit=1,
            ),
        ],
        notes=[
            "By hand: one pynndescent graph, umap-learn's UMAP in 2-D and in 5-D from it with PCA start, hdbscan, "
            "noise to the nearest centroid; the vectors are given, nothing is read, labelled or written.",
            "A run of LatentScale is everything: reading, embedding, layouts, clusters, labels, points, page.",
        ],
    )


def _median(usages: list[Usage]) -> Usage:
    return Usage(
        wall_s=statistics.median(usage.wall_s for usage in usages),
        cpu_s=statistics.median(usage.cpu_s for usage in usages),
        peak_mb=max(usage.peak_mb for usage in usages),
    )
