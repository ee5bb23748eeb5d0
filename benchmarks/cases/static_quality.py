"""The shipped static model compared with its teacher: K-means against known classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

ROWS = 6_000
SEEDS = 3
STARTS = 2
REVISIONS = ("1", "2")


def run(context: Context) -> Result:
    """Embed each labelled set with the teacher and with each revision of the shipped model."""
    rows: list[dict[str, Any]] = []
    limit = 300 if context.quick else ROWS
    for path, text, classes in _sets(context):
        options = {"path": path, "text": text, "classes": classes, "limit": limit}
        _, teacher = fresh(score, revision=None, **options)
        row = {"what": path.stem, "documents": teacher["documents"], "classes": teacher["classes"]}
        row["teacher"] = teacher["nmi"]
        for revision in REVISIONS:
            row[f"revision {revision}"] = fresh(score, revision=revision, **options)[1]["nmi"]
        row["of_teacher"] = row[f"revision {REVISIONS[-1]}"] / row["teacher"]
        row["of_revision_1"] = row[f"revision {REVISIONS[-1]}"] / row["revision 1"]
        rows.append(row)
    mean = sum(row["of_teacher"] for row in rows) / len(rows)
    worst = min(row["of_revision_1"] for row in rows)
    return Result(
        title="K-means on the shipped static model's vectors beside K-means on its teacher's: NMI with known classes.",
        parameters={"sets": len(rows), "rows_at_most": limit, "seeds": SEEDS},
        rows=rows,
        targets=[
            Target(what="mean over the sets, NMI of the teacher's", value=mean, limit=0.88, at_least=True),
            Target(what="worst set, NMI of revision 1's", value=worst, limit=0.99, at_least=True),
        ],
        notes=[
            f"K-means with as many clusters as classes on vectors of length 1, the best of {STARTS} starts, mean of "
            f"{SEEDS} seeds; the same documents for all, drawn with a seed.",
            "The teacher is all-MiniLM-L6-v2 in float32, cut at its 256 tokens.",
        ],
    )


def _sets(context: Context) -> list[tuple[Path, str, str]]:
    """The ``--labelled`` files, with columns ``text`` and ``label``; by default the corpus of the run."""
    if context.labelled:
        return [(path.resolve(), "text", "label") for path in context.labelled]
    corpus = corpora.full_corpus(context)
    if corpus.classes is None:
        raise ValueError("the corpus has no known classes: give --classes, or --labelled FILES")
    return [(corpus.path, corpus.text, corpus.classes)]


# ------------------------------------------------------------------------------------------------ in fresh processes


def score(path: str, text: str, classes: str, limit: int, revision: str | None) -> dict[str, Any]:
    """Compute NMI of K-means on the vectors of a set, by a revision of the shipped model or by the teacher."""
    import numpy as np
    import polars as pl
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score

    read = pl.read_parquet if path.endswith(".parquet") else pl.read_csv
    options = {} if path.endswith((".parquet", ".csv")) else {"separator": "\t", "quote_char": None}
    frame = read(path, **options).select(pl.col(text).cast(pl.String).alias("text"), pl.col(classes).alias("label"))
    frame = frame.drop_nulls().unique(maintain_order=True)
    if len(frame) > limit:
        frame = frame[np.sort(np.random.default_rng(0).choice(len(frame), limit, replace=False))]
    labels = frame["label"].cast(pl.String).rank("dense").to_numpy()
    classes_count = int(labels.max())
    vectors = _vectors(frame["text"].to_list(), revision)
    clusterings = [
        KMeans(classes_count, n_init=STARTS, max_iter=100, random_state=seed).fit_predict(vectors)
        for seed in range(SEEDS)
    ]
    nmi = float(np.mean([normalized_mutual_info_score(labels, clusters) for clusters in clusterings]))
    return {"documents": len(frame), "classes": classes_count, "nmi": nmi}


def _vectors(texts: list[str], revision: str | None) -> Any:
    from latentscale.config import EmbedConfig
    from latentscale.embedders import embedder_spec
    from latentscale.models.distill import TEACHER_PACKAGE, teacher_path

    if revision is None:
        config = EmbedConfig(model=str(teacher_path(TEACHER_PACKAGE)), kind="transformers")
    else:
        config = EmbedConfig(options={"revision": revision})
    return embedder_spec(config).open().embed(texts).vectors
