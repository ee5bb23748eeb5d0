"""Cost of labels without a model: keyphrases, exemplars, columns and scores of the clusters of a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

CLUSTERS, MANY_CLUSTERS = 100, 5_000
DOCUMENTS = 1_000_000
# Rounds of K-means: more would change the clusters slightly, but not the time to label them.
ROUNDS = 3


def run(context: Context) -> Result:
    """Label the corpus in 100 clusters, then a million short texts in 5,000; by K-means, coarser layers by Ward."""
    rows: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []
    million = corpora.windows(context, DOCUMENTS // (50 if context.quick else 1), group_rows=65_536)
    for corpus, clusters in ((corpora.full_corpus(context), CLUSTERS), (million, MANY_CLUSTERS)):
        clusters = min(clusters, corpus.rows // 20)
        folder = str(context.emptied("labels") / "workspace")
        _, layers = fresh(cluster_corpus, path=corpus.path, text=corpus.text, folder=folder, clusters=clusters)
        usage, figures = fresh(label_corpus, folder=folder)
        measured.append(figures | {"peak_mb": usage.peak_mb})
        what = f"{corpus.rows:,} documents, clusters: {', '.join(f'{n:,}' for n in layers['layers'])}"
        rows.append({"what": what, **figures, "peak_mb": usage.peak_mb})
    return Result(
        title="Labels by keyphrases with their evidence and scores, of clusters that are there.",
        parameters={"clusters": CLUSTERS, "many_clusters": MANY_CLUSTERS},
        rows=rows,
        targets=[
            Target(what="63 thousand documents, 100 clusters", value=measured[0]["cpu_s"], limit=3, unit="CPU-s"),
            Target(what="a million documents, 5,000 clusters", value=measured[1]["wall_s"], limit=180, unit="s"),
            Target(what="the same, peak memory", value=measured[1]["peak_mb"], limit=3_000, unit="MB"),
        ],
        notes=[
            "Texts of the million are overlapping stretches of twelve words; imports are counted, start is not. "
            f"K-means, which is not measured, has {ROUNDS} rounds."
        ],
    )


def cluster_corpus(path: Path, text: str, folder: str, clusters: int) -> dict[str, Any]:
    """Embed a corpus into a workspace and cluster its vectors."""
    import latentscale as ls
    from latentscale.backends.cpu import clustering
    from latentscale.config.load import parse_job
    from latentscale.pipeline.observe import Observer
    from latentscale.pipeline.run import run_job
    from latentscale.stages.cluster import STAGE, ClustersRequest
    from latentscale.stages.stage import StageContext

    values = {"corpus": {"sources": [str(path)], "text": text}, "out": folder}
    run_job(parse_job(values, where="the benchmark"), Observer("quiet"), until="embed")
    workspace = ls.open(folder)
    embedding = next(artifact for artifact in workspace.artifacts if artifact.kind == "embedding")
    request = ClustersRequest(
        snapshot=str(workspace.snapshot.id),
        embedding=embedding.id,
        method="kmeans",
        layer_factor=5.0,
        max_layers=3,
        n_clusters=clusters,
        seed=0,
    )
    clustering.MOST_ITERATIONS = ROUNDS
    record = STAGE.make(StageContext(store=workspace.store), request)
    return {"layers": record.counts["layers"]}


def label_corpus(folder: str) -> dict[str, Any]:
    """Label the clusters, and score the labels."""
    import time

    import latentscale as ls
    from latentscale.quality.labels import label_scores
    from latentscale.stages.label import STAGE, LabelsRequest
    from latentscale.stages.stage import StageContext
    from latentscale.storage.artifacts import read_table

    workspace = ls.open(folder)
    clusters = next(artifact for artifact in workspace.artifacts if artifact.kind == "clusters")
    request = LabelsRequest(
        clusters=clusters.id,
        text=workspace.record.text_column,
        method="keyphrases",
        max_keyphrases=10,
        exemplars=8,
        max_documents_per_cluster=1_000,
        seed=42,
        labeler={},
    )
    started, used = time.perf_counter(), time.process_time()
    record = STAGE.make(StageContext(store=workspace.store), request)
    scores = label_scores(read_table(workspace.store, record, "labels").to_pylist())
    figures = {"cpu_s": time.process_time() - used, "wall_s": time.perf_counter() - started}
    assert scores is not None
    return figures | {"labels": scores["labels"], "unique": scores["unique"], "coverage": scores["coverage"]}
