"""From vectors to graph, two layouts and clusters, compared with umap-learn run twice and hdbscan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import corpora, workspaces
from benchmarks.byhand import NEIGHBORS, Clock
from benchmarks.cases.layout_quality import SEED, write_vectors
from benchmarks.corpora import Context
from benchmarks.processes import Usage, fresh, run_command
from benchmarks.report import Result, Target

STRETCHES, WIDTH = 100_000, 384
OURS, BY_HAND, TSNE = "latentscale", "umap.UMAP() twice, hdbscan.HDBSCAN()", "openTSNE.TSNE(), the 2-D layout alone"
MIN_SAMPLES = 10
# The package's defaults, with cosine distances and all processors.
TSNE_SCRIPT = """
import json, sys, time, resource
import numpy as np
import openTSNE
matrix = np.load(sys.argv[1])
openTSNE.TSNE(n_jobs=-1, metric="cosine", early_exaggeration_iter=2, n_iter=2).fit(matrix[:4000])
before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
places = openTSNE.TSNE(n_jobs=-1, metric="cosine", random_state=0).fit(matrix)
after = resource.getrusage(resource.RUSAGE_SELF)
np.save(sys.argv[2], np.asarray(places, np.float32))
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"layout 2-D": {"cpu_s": cpu, "wall_s": time.perf_counter() - began}}))
"""


def run(context: Context) -> Result:
    """Run one side after the other, each in a process that compiles its code before the measurement."""
    workspaces.warm(context)
    folder = context.emptied("map_by_hand")
    corpus, wide_corpus = (
        corpora.full_corpus(context),
        corpora.passages(context, _row_count(context), group_rows=20_000),
    )
    real, wide = folder / "real.npy", folder / "wide.npy"
    fresh(write_vectors, corpus=corpus.path, column=corpus.text, path=real)
    fresh(write_wide, corpus=wide_corpus.path, column=wide_corpus.text, path=wide)
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for path in (real, wide):
        name = " × ".join(f"{size:,}" for size in np.load(path, mmap_mode="r").shape)
        facts_by_side = _sides(context, path)
        rows += [{"what": f"{name}: {side}", **facts} for side, facts in facts_by_side.items()]
        ours, umap_facts = facts_by_side[OURS], facts_by_side[BY_HAND]
        cpu_ratio = umap_facts["cpu_s"] / ours["cpu_s"]
        targets.append(Target(what=f"{name}: CPU-seconds by hand, of ours", value=cpu_ratio, limit=3, at_least=True))
        for figure in ("trustworthiness", "preservation"):
            ratio = ours[figure] / umap_facts[figure]
            targets.append(Target(what=f"{name}: {figure}, of umap-learn's", value=ratio, limit=0.99, at_least=True))
    return Result(
        title="From vectors to neighbours, a 2-D and a 5-D layout and clusters, beside umap-learn twice and hdbscan.",
        parameters={**corpus.facts(), "stretches": wide_corpus.rows, "width": WIDTH},
        rows=rows,
        targets=targets,
        notes=[
            "The first vectors are package descriptions by the shipped static model; the second are stretches of 50 to "
            "70 words of them, by TF-IDF and a truncated SVD.",
            "By hand: `umap.UMAP(metric='cosine')`, once more with five components and `min_dist=0`, and HDBSCAN on "
            "that with the `min_cluster_size` of ours. Each UMAP looks for its neighbours, as it does by default.",
            "Trustworthiness (Venna and Kaski 2001) and preservation of the 15 nearest are measured by LatentScale for "
            "all, on the same 2,000 documents and the 2-D layout. NMI is that of the two clusterings with each other.",
            "Code is compiled before the clock starts; peaks are those of the whole process.",
        ],
    )


def _row_count(context: Context) -> int:
    return 3_000 if context.quick else STRETCHES


def _sides(context: Context, path: Path) -> dict[str, dict[str, Any]]:
    """Measure the cost and figures of each side on one matrix."""

    def companion(name: str) -> Path:
        return path.with_suffix(f".{name}.npy")

    outputs: dict[str, tuple[Usage, dict[str, Any], Path]] = {
        OURS: (*fresh(ours, vectors=path, out=companion("ours"), compiled=context.compiled), companion("ours")),
        BY_HAND: (*fresh(by_hand, vectors=path, out=companion("hand")), companion("hand")),
    }
    if context.opentsne_python:
        usage, stdout = run_command([context.opentsne_python, "-c", TSNE_SCRIPT, str(path), str(companion("tsne"))])
        outputs[TSNE] = usage, json.loads(stdout.splitlines()[-1]), companion("tsne")
    facts_by_side: dict[str, dict[str, Any]] = {}
    for side, (usage, steps, layout) in outputs.items():
        _, figures = fresh(judge, vectors=path, layout=layout, compiled=context.compiled)
        cost = {key: sum(step[key] for step in steps.values()) for key in ("cpu_s", "wall_s")}
        parts = {f"{step}_cpu_s": cost_of_step["cpu_s"] for step, cost_of_step in steps.items()}
        facts_by_side[side] = {**cost, **parts, "peak_mb": usage.peak_mb, **figures}
    _, comparison = fresh(compare, first=companion("ours"), second=companion("hand"))
    facts_by_side[OURS] |= {
        "clusters": comparison["clusters"][0],
        "noise": comparison["noise"][0],
        "nmi": comparison["nmi"],
    }
    facts_by_side[BY_HAND] |= {
        "clusters": comparison["clusters"][1],
        "noise": comparison["noise"][1],
        "nmi": comparison["nmi"],
    }
    return facts_by_side


# ------------------------------------------------------------------------------------------------ in fresh processes


def write_wide(corpus: str, column: str, path: str) -> dict[str, Any]:
    """Save vectors that are wider than those of the shipped model: TF-IDF and truncated SVD."""
    import polars as pl
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = pl.read_parquet(corpus)[column].to_list()
    words = TfidfVectorizer(max_features=30_000, sublinear_tf=True, dtype=np.float32).fit_transform(texts)
    matrix = TruncatedSVD(WIDTH, n_iter=2, random_state=SEED).fit_transform(words)
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    np.save(path, (matrix / np.maximum(lengths, 1e-9)).astype(np.float32))
    return {}


def ours(vectors: str, out: str) -> dict[str, Any]:
    """Compute the steps of a run with the CPU backend."""
    from latentscale.backends.cpu.backend import CpuBackend
    from latentscale.backends.cpu.spanning import spanning_tree
    from latentscale.machine import available_processors
    from latentscale.stages.cluster import default_min_cluster_size

    threads = available_processors()

    def steps(matrix: np.ndarray) -> tuple[Clock, np.ndarray, np.ndarray]:
        clock, backend = Clock(), CpuBackend()
        common: dict[str, Any] = {"n_neighbors": NEIGHBORS, "spread": 1.0, "n_epochs": None, "threads": threads}
        common |= {"negative_sample_rate": 5, "learning_rate": 1.0, "deterministic": True, "seed": SEED}
        search = {"k": NEIGHBORS, "method": "auto", "recall_target": 0.95, "seed": SEED, "threads": threads}
        graph = backend.neighbors(matrix, **search)
        clock.step("neighbors")
        plane = backend.layout(graph, matrix, n_components=2, min_dist=0.1, **common).coordinates
        clock.step("layout 2-D")
        space = backend.layout(graph, matrix, n_components=5, min_dist=0.0, **common).coordinates
        clock.step("layout 5-D")
        clusters = backend.hdbscan(
            space,
            min_cluster_size=default_min_cluster_size(len(matrix)),
            min_samples=MIN_SAMPLES,
            cluster_selection_method="eom",
            cluster_selection_epsilon=0.0,
            threads=threads,
        )
        clock.step("clusters")
        return clock, plane, clusters.labels

    matrix = np.load(vectors)
    # Also compile the code for many documents: another search, and our own spanning tree.
    steps(matrix[:600])
    CpuBackend().neighbors(
        matrix[:2_000], k=NEIGHBORS, method="pynndescent", recall_target=0.95, seed=SEED, threads=threads
    )
    spanning_tree(matrix[:600, :5], min_samples=MIN_SAMPLES, threads=threads)
    clock, plane, labels = steps(matrix)
    np.save(out, plane)
    np.save(Path(out).with_suffix(".labels.npy"), labels)
    return clock.steps


def by_hand(vectors: str, out: str) -> dict[str, Any]:
    """Compute the steps as most notebooks do."""
    import hdbscan
    import umap

    from latentscale.stages.cluster import default_min_cluster_size

    def steps(matrix: np.ndarray, **more: Any) -> tuple[Clock, np.ndarray, np.ndarray]:
        clock = Clock()
        plane = umap.UMAP(n_neighbors=NEIGHBORS, metric="cosine", **more).fit_transform(matrix)
        clock.step("layout 2-D")
        five = umap.UMAP(n_neighbors=NEIGHBORS, metric="cosine", n_components=5, min_dist=0.0, **more)
        space = five.fit_transform(matrix)
        clock.step("layout 5-D")
        size = default_min_cluster_size(len(matrix))
        labels = hdbscan.HDBSCAN(min_cluster_size=size, min_samples=MIN_SAMPLES).fit_predict(space)
        clock.step("clusters")
        return clock, np.asarray(plane, np.float32), labels

    matrix = np.load(vectors)
    # umap-learn has another code path below 4,096 rows; this compiles that of larger sets.
    steps(matrix[:4_200], n_epochs=5)
    clock, plane, labels = steps(matrix)
    np.save(out, plane)
    np.save(Path(out).with_suffix(".labels.npy"), labels)
    return clock.steps


def judge(vectors: str, layout: str) -> dict[str, Any]:
    """Measure the faithfulness of a layout."""
    from latentscale.backends.cpu.faithfulness import faithfulness

    result = faithfulness(np.load(vectors), np.load(layout), k=NEIGHBORS, sample=2_000, seed=0, threads=2)
    return {"trustworthiness": result.trustworthiness, "preservation": result.preservation}


def compare(first: str, second: str) -> dict[str, Any]:
    """Compare two clusterings: numbers of clusters, noise, and NMI."""
    from sklearn.metrics import normalized_mutual_info_score

    labels = [np.load(Path(clusters).with_suffix(".labels.npy")) for clusters in (first, second)]
    return {
        "clusters": [int(clusters.max(initial=-1)) + 1 for clusters in labels],
        "noise": [float((clusters < 0).mean()) for clusters in labels],
        "nmi": float(normalized_mutual_info_score(*labels)),
    }
