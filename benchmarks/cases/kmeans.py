"""Spherical K-means with one and with several thousand clusters, compared with scikit-learn's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from benchmarks import corpora
from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

DOCUMENTS, CLUSTERS = 100_000, 1_000
MANY_DOCUMENTS, MANY_CLUSTERS = 1_000_000, 5_000
OURS, FULL, BATCHES = "latentscale", "scikit-learn KMeans, one start", "scikit-learn MiniBatchKMeans, three starts"


def run(context: Context) -> Result:
    """Cluster the same vectors by all, each in a fresh process; the million only by ours."""
    divisor = 10 if context.quick else 1
    million_corpus = corpora.windows(context, MANY_DOCUMENTS // divisor, group_rows=65_536)
    vectors = context.folder("kmeans") / f"vectors-{million_corpus.rows}.npy"
    fresh(write_vectors, path=million_corpus.path, text=million_corpus.text, vectors=vectors)
    rows: list[dict[str, Any]] = []
    results: dict[str, dict[str, Any]] = {}
    sizes: dict[str, Any] = {
        "documents": min(DOCUMENTS // divisor, million_corpus.rows),
        "clusters": CLUSTERS // divisor,
    }
    for method in (OURS, FULL, BATCHES):
        usage, results[method] = fresh(cluster, vectors=vectors, method=method, compiled=context.compiled, **sizes)
        rows.append({"what": method, **sizes, **results[method], "peak_mb": usage.peak_mb})
    sizes = {"documents": million_corpus.rows, "clusters": MANY_CLUSTERS // divisor}
    usage, million = fresh(cluster, vectors=vectors, method=OURS, compiled=context.compiled, **sizes)
    rows.append({"what": OURS, **sizes, **million, "peak_mb": usage.peak_mb})
    matrix_mb = million_corpus.rows * 256 * 4 / 1e6
    return Result(
        title="K-means on vectors with many clusters, beside scikit-learn's on the same vectors.",
        parameters={"dimensions": 256, "threads": 2, "matrix of all documents, MB": matrix_mb},
        rows=rows,
        targets=[
            Target(
                what=f"{sizes_of(rows[0])}: CPU-seconds of scikit-learn's KMeans",
                value=results[OURS]["cpu_s"] / results[FULL]["cpu_s"],
                limit=0.5,
            ),
            Target(
                what=f"{sizes_of(rows[0])}: mean cosine of scikit-learn's KMeans",
                value=results[OURS]["mean_cosine"] / results[FULL]["mean_cosine"],
                limit=0.995,
                at_least=True,
            ),
            Target(what=f"{sizes_of(rows[-1])}", value=million["cpu_s"], limit=480, unit="CPU-s"),
        ],
        notes=[
            "Twelve-word stretches of descriptions, many of which overlap, by the shipped static model. "
            "`mean_cosine`: of documents with the mean direction of their cluster; `other_nearest`: the share of "
            "those to which that of another cluster is nearer.",
            "Peak memory holds the pages of the mapped vectors, which the system takes back when it needs them.",
        ],
    )


def sizes_of(row: dict[str, Any]) -> str:
    """Describe the size of a row, for targets."""
    return f"{row['documents']:,} documents, {row['clusters']:,} clusters"


def write_vectors(path: Path, text: str, vectors: str) -> dict[str, Any]:
    """Embed a column with the shipped static model."""
    import numpy as np
    import polars as pl

    from latentscale.backends.cpu.vectors import unit_rows
    from latentscale.embedders.static import StaticEmbedder

    if not Path(vectors).exists():
        embedder, texts = StaticEmbedder(), pl.read_parquet(path)[text]
        parts = [embedder.embed(texts[start : start + 50_000].to_list()) for start in range(0, len(texts), 50_000)]
        np.save(vectors, unit_rows(np.concatenate([part.vectors[part.embeddable] for part in parts])))
    return {}


def cluster(vectors: str, documents: int, clusters: int, method: str) -> dict[str, Any]:
    """Fit, after imports and compilation."""
    import time

    import numpy as np
    from sklearn.cluster import KMeans, MiniBatchKMeans

    from latentscale.backends.cpu.centroids import assign, means
    from latentscale.backends.cpu.clustering import kmeans

    unit = np.load(vectors, mmap_mode="r")[:documents]
    kmeans(np.array(unit[:1_000]), n_clusters=300, seed=0, threads=2)
    started, used = time.perf_counter(), time.process_time()
    if method == OURS:
        labels = kmeans(unit, n_clusters=clusters, seed=0, threads=2).labels
    else:
        estimator: Any = KMeans if method == FULL else MiniBatchKMeans
        fitted = estimator(n_clusters=clusters, n_init=cast(Any, 1 if method == FULL else 3), random_state=0)
        labels = fitted.fit_predict(np.array(unit))
    figures: dict[str, Any] = {
        "cpu_s": time.process_time() - used,
        "wall_s": time.perf_counter() - started,
    }
    labels = np.asarray(labels, np.int32)
    centers = means(unit, labels, clusters, threads=2)
    nearest, _ = assign(unit, centers, threads=2)
    cosines = [
        np.einsum("ij,ij->i", unit[start : start + 8192], centers[labels[start : start + 8192]])
        for start in range(0, documents, 8192)
    ]
    return figures | {
        "mean_cosine": float(np.concatenate(cosines).mean(dtype=np.float64)),
        "other_nearest": float((nearest != labels).mean()),
    }
