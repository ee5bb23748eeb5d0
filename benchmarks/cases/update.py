"""Add one per cent of new documents to a map, compared with rebuilding the map."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import corpora, workspaces
from benchmarks.corpora import Context, Corpus
from benchmarks.processes import PartFailedError, Usage, fresh, latentscale, run_command
from benchmarks.report import Result, Target

LARGE = 1_000_000
# Splits the million into shards like a real corpus of that size.
GROUP_ROWS = 20_000


def run(context: Context) -> Result:
    """Make a map of 99 per cent by ``latentscale run``, then add the rest by ``latentscale update``."""
    workspaces.warm(context)
    sizes = {"63 thousand": (corpora.full_corpus(context), 0.05)}
    if not context.quick and context.corpus is None:
        sizes["a million"] = (corpora.windows(context, LARGE, group_rows=GROUP_ROWS), 0.02)
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    notes: list[str] = []
    for name, (corpus, limit) in sizes.items():
        full, update, facts = _measured(context, corpus, name)
        share = update.cpu_s / full.cpu_s
        rows += [
            {"what": f"{name}: run on 99 %", "documents": facts["before"], **full.columns(), "share": 1.0},
            {"what": f"{name}: update by 1 %", "documents": facts["added"], **update.columns(), "share": share},
        ]
        targets.append(
            Target(what=f"update by 1 % at {name}, processor time beside the full run", value=share, limit=limit)
        )
        notes.append(
            f"{name}: neighbours of new documents by {facts['method']}, recall {facts['recall']:.3f} against an exact "
            f"search; {facts['moved']} of {facts['before']:,} old points moved."
        )
    return Result(
        title="An update by one per cent of new documents, beside the run that made the map.",
        parameters={name: corpus.facts() for name, (corpus, _) in sizes.items()},
        rows=rows,
        targets=targets,
        notes=[
            *notes,
            "The million are different stretches of twelve words of the same descriptions, many of which overlap.",
            "pandas, which pyarrow imports wherever it is installed, costs either process about 0.3 CPU-s: "
            + (
                "it is installed here."
                if find_spec("pandas")
                else "it is not installed here, as after pip install latentscale."
            ),
            "Both are fresh processes with a warm numba cache, on the command line, the page included.",
        ],
    )


def _measured(context: Context, corpus: Corpus, name: str) -> tuple[Usage, Usage, dict[str, Any]]:
    folder = context.emptied(f"update-{name.replace(' ', '-')}")
    source, out = folder / "corpus", folder / "workspace"
    source.mkdir()
    fresh(write_parts, source=corpus.path, folder=source, later=folder / "later.parquet", group_rows=GROUP_ROWS)
    first_corpus = Corpus(path=source, text=corpus.text, classes=None, rows=corpus.rows, characters=corpus.characters)
    full = workspaces.run_corpus(first_corpus, out, compiled=context.compiled)
    before = workspaces.record(out, "publish")
    _, points_before = fresh(points, workspace=out)
    (folder / "later.parquet").rename(source / "later.parquet")
    update, _ = run_command(latentscale("update", out, "--progress", "quiet"), compiled=context.compiled)
    after, placement = workspaces.record(out, "publish"), workspaces.record(out, "place")
    added = after["counts"]["documents"] - before["counts"]["documents"]
    if added != placement["counts"]["documents"] or not added:
        raise PartFailedError(f"{added:,} documents were added, {placement['counts']['documents']:,} placed")
    _, points_after = fresh(points, workspace=out, among=before["counts"]["documents"])
    return (
        full,
        update,
        {
            "before": before["counts"]["documents"],
            "added": added,
            "recall": placement["counts"]["recall"],
            "method": placement["choices"]["method"],
            "moved": 0 if points_after["digest"] == points_before["digest"] else "some",
        },
    )


# --------------------------------------------------------------------- in fresh processes: they load the whole corpus


def write_parts(source: str, folder: str, later: str, group_rows: int) -> dict[str, Any]:
    """Write 99 per cent of the rows to one file, and the rest, sampled with a seed, to another."""
    import numpy as np
    import polars as pl

    frame = pl.read_parquet(source)
    is_later = np.zeros(len(frame), dtype=bool)
    is_later[np.random.default_rng(0).choice(len(frame), len(frame) // 100, replace=False)] = True
    frame.filter(~is_later).write_parquet(Path(folder, "first.parquet"), row_group_size=group_rows)
    frame.filter(is_later).write_parquet(later)
    return {}


def points(workspace: str, among: int | None = None) -> dict[str, Any]:
    """Compute a digest of the positions of the current map's points; with ``among``, of that many lowest row ids."""
    import hashlib

    import latentscale as product

    frame = product.open(workspace).current.points().select("row_id", "x", "y").sort("row_id").collect()
    if among is not None:
        frame = frame.head(among)
    state = hashlib.blake2b()
    for column in frame.iter_columns():
        state.update(column.to_numpy().tobytes())
    return {"digest": state.hexdigest()}
