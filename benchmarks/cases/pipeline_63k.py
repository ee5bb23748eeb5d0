"""From a parquet file of 63 thousand package descriptions to the page."""

from __future__ import annotations

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context
from benchmarks.processes import PartFailedError
from benchmarks.report import Result, Target


def run(context: Context) -> Result:
    """Run the command line once, with code compiled by smaller runs before."""
    workspaces.warm(context)
    corpus = corpora.full_corpus(context)
    out = context.emptied("pipeline") / "workspace"
    usage = workspaces.run_corpus(corpus, out, compiled=context.compiled)
    map_record = workspaces.record(out, "publish")
    rejects = sum(workspaces.last_run(out)["facts"]["rejects"].values())
    documents = map_record["counts"]["documents"]
    if documents + rejects != corpus.rows:
        raise PartFailedError(f"{corpus.rows:,} rows became {documents:,} points and {rejects:,} rejects")
    rows = [
        {"what": "latentscale run, parquet to page", **usage.columns(), "documents_per_cpu_s": documents / usage.cpu_s},
        *workspaces.stage_rows(out, usage),
    ]
    counts = map_record["counts"]
    return Result(
        title="Package descriptions from one parquet file to the page, a fresh process with a warm numba cache.",
        parameters=corpus.facts()
        | {"clusters": counts["clusters"], "noise": counts["noise_share"], "neighbours": _method(out)},
        rows=rows,
        targets=[
            Target(what="whole run, processor time", value=usage.cpu_s, limit=34, unit="CPU-s"),
            Target(what="whole run, peak memory", value=usage.peak_mb, limit=2_500, unit="MB"),
        ],
        notes=[
            "Stages are from the records of the artifacts: processor time of all threads, and the most resident "
            "memory while the stage ran, which holds what earlier stages keep.",
        ],
    )


def _method(workspace: object) -> str:
    from pathlib import Path

    graph = workspaces.record(Path(str(workspace)), "neighbors")
    return f"{graph['choices']['method']} (recall {graph['counts']['recall']:.3f})"
