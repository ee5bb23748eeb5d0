"""Cost and quality of layouts and clusters, compared with umap-learn, hdbscan and scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks import byhand, corpora, workspaces
from benchmarks.byhand import NEIGHBORS, Clock
from benchmarks.corpora import Context
from benchmarks.processes import fresh
from benchmarks.report import Result, Target

SIZES = (10_000, 20_000)
SEED = 42
REPEATS = 3
UMAP = "umap.UMAP(metric='cosine')"
LAYOUTS = ("latentscale exact", "latentscale fast", UMAP)


def run(context: Context) -> Result:
    """Run both sides in processes that compile their code before the measurement."""
    workspaces.warm(context)
    folder = context.folder("layout")
    available = corpora.full_corpus(context).rows
    sizes = [size for size in ((800, 1_500) if context.quick else SIZES) if size <= available] or [available]
    files: list[str] = []
    for size in sizes:
        corpus = corpora.sample(context, size)
        path = folder / f"vectors-{size}.npy"
        fresh(write_vectors, corpus=corpus.path, column=corpus.text, classes=corpus.classes, path=path)
        files.append(str(path))
    _, ours = fresh(lay_out, files=files, folder=folder, compiled=context.compiled)
    _, theirs = fresh(lay_out_by_hand, files=files, folder=folder)
    _, quality = fresh(judge, files=files, folder=folder, compiled=context.compiled)
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for size, file in zip(sizes, files, strict=True):
        costs = ours[file] | theirs[file]
        for name, cost in costs.items():
            rows.append({"what": f"{size:,}: {name}", **cost, **quality[file].get(name, {})})
        default = {name: quality[file][name] for name in ("latentscale exact", UMAP)}
        our_quality, umap_quality = default.values()
        for figure in ("trustworthiness", "preservation"):
            what = f"{size:,} documents, {figure}@{NEIGHBORS} of umap-learn's"
            ratio = our_quality[figure] / umap_quality[figure]
            targets.append(Target(what=what, value=ratio, limit=0.98, at_least=True))
        cpu_ratio = costs["latentscale exact"]["cpu_s"] / costs[UMAP]["cpu_s"]
        targets.append(Target(what=f"{size:,} documents, CPU-seconds of umap-learn's", value=cpu_ratio, limit=1))
    for method in ("HDBSCAN", "K-means"):
        pair = [quality[files[0]].get(f"{who} {method}", {}).get("nmi") for who in ("latentscale", "by hand:")]
        if None not in pair:
            targets.append(
                Target(what=f"{method}, NMI of that by hand", value=pair[0] / pair[1], limit=0.98, at_least=True)
            )
    return Result(
        title="UMAP layouts beside umap-learn's, and clusters against known classes beside the same steps by hand.",
        parameters=corpora.full_corpus(context).facts() | {"sample_for_quality": 1_000, "classes": _classes(context)},
        rows=rows,
        targets=targets,
        notes=[
            "Processor time holds the neighbour graph and the layout; code is compiled before the clock starts on both "
            "sides (cold_warm_10k is about that).",
            "Trustworthiness (Venna and Kaski 2001) and preservation of the 15 nearest are measured by "
            "latentscale.backends.cpu.faithfulness on the same sampled documents for all.",
            "Clusters: HDBSCAN on the 5-D layout with the same settings, noise sent to the nearest centroid, then NMI "
            "with the classes; K-means with as many clusters as there are classes.",
            f"Layouts are means of {REPEATS}: ours with as many seeds, umap-learn's without a seed (with one it works "
            "on one thread); the spread is between the best and the worst.",
            "Both are at their defaults: 500 epochs for a map of up to 10,000 documents, 200 above; umap-learn starts "
            "from a spectral layout, LatentScale from principal components.",
        ],
    )


def _classes(context: Context) -> str:
    return corpora.full_corpus(context).classes or "none"


# ------------------------------------------------------------------------------------------------ in fresh processes


def write_vectors(corpus: str, column: str, path: str, classes: str | None = None) -> dict[str, Any]:
    """Embed a column with the shipped model; save the vectors and the classes as integers."""
    import polars as pl

    from latentscale.embedders.static import StaticEmbedder

    frame = pl.read_parquet(corpus)
    embedded = StaticEmbedder().embed(frame[column].to_list())
    np.save(path, embedded.vectors[embedded.embeddable])
    if classes is not None:
        codes = frame[classes].cast(pl.String).fill_null("").cast(pl.Categorical).to_physical().to_numpy()
        np.save(_companion(path, "classes"), codes[embedded.embeddable])
    return {}


def _companion(path: str, name: str) -> Path:
    return Path(path).with_suffix(f".{name}.npy")


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _save(file: str, name: str, array: Any) -> None:
    np.save(_companion(file, _slug(name)), np.asarray(array))


def lay_out(files: list[str], folder: str) -> dict[str, Any]:
    """Compute LatentScale's graph, layouts and clusters."""
    from latentscale.backends.cpu.clustering import hdbscan, kmeans, nearest_centroid
    from latentscale.backends.cpu.layout import fuzzy_graph, layout
    from latentscale.backends.cpu.neighbors import nearest_neighbors
    from latentscale.machine import available_processors
    from latentscale.stages.cluster import default_min_cluster_size

    threads = available_processors()
    common: dict[str, Any] = {"spread": 1.0, "n_epochs": None, "seed": SEED, "negative_sample_rate": 5}
    common |= {"learning_rate": 1.0, "threads": threads}

    def graph_of(matrix: np.ndarray) -> Any:
        return nearest_neighbors(matrix, k=NEIGHBORS, method="auto", recall_target=0.95, seed=SEED, threads=threads)

    small = np.load(files[0])[:500]
    for mode in ("exact", "fast"):
        layout(
            fuzzy_graph(graph_of(small), n_neighbors=NEIGHBORS),
            small,
            n_components=2,
            min_dist=0.1,
            mode=mode,
            **common,
        )
    costs_by_file: dict[str, Any] = {}
    for file in files:
        matrix = np.load(file)
        costs = costs_by_file[file] = {}
        for mode in ("exact", "fast"):
            clock = Clock()
            for repeat in range(REPEATS):
                fuzzy = fuzzy_graph(graph_of(matrix), n_neighbors=NEIGHBORS)
                settings = common | {"seed": SEED + repeat}
                points = layout(fuzzy, matrix, n_components=2, min_dist=0.1, mode=mode, **settings)
                clock.step(str(repeat))
                _save(file, f"latentscale {mode} {repeat}", points)
            costs[f"latentscale {mode}"] = clock.mean()
        if file != files[0] or not _companion(file, "classes").exists():
            continue
        clock = Clock()
        fuzzy = fuzzy_graph(graph_of(matrix), n_neighbors=NEIGHBORS)
        space = layout(fuzzy, matrix, n_components=5, min_dist=0.0, mode="exact", **common)
        size = default_min_cluster_size(len(matrix))
        settings: dict[str, Any] = {"cluster_selection_method": "eom", "cluster_selection_epsilon": 0.0}
        clusters = hdbscan(space, min_cluster_size=size, min_samples=min(10, size), **settings)
        clock.step("hdbscan")
        nearest, _ = nearest_centroid(matrix, clusters.labels)
        noise = float((clusters.labels < 0).mean())
        costs["latentscale HDBSCAN"] = clock.steps["hdbscan"] | {"noise": noise, "clusters": clusters.n_clusters}
        _save(file, "latentscale HDBSCAN", nearest)
        k = len(np.unique(np.load(_companion(file, "classes"))))
        clock = Clock()
        means = kmeans(matrix, n_clusters=k, seed=SEED, threads=threads)
        clock.step("kmeans")
        costs["latentscale K-means"] = clock.steps["kmeans"] | {"clusters": k}
        _save(file, "latentscale K-means", means.labels)
    return costs_by_file


def lay_out_by_hand(files: list[str], folder: str) -> dict[str, Any]:
    """Compute the same with umap-learn, hdbscan and scikit-learn."""
    import hdbscan
    import umap
    from sklearn.cluster import KMeans

    # umap-learn has another code path below 4,096 rows; this compiles that of larger sets.
    warm = np.random.default_rng(SEED).normal(size=(4_200, 32)).astype(np.float32)
    umap.UMAP(metric="cosine", n_epochs=5).fit(warm)
    costs_by_file: dict[str, Any] = {}
    for file in files:
        matrix = np.load(file)
        costs = costs_by_file[file] = {}
        clock = Clock()
        for repeat in range(REPEATS):
            points = umap.UMAP(n_neighbors=NEIGHBORS, metric="cosine").fit_transform(matrix)
            clock.step(str(repeat))
            _save(file, f"{UMAP} {repeat}", np.asarray(points, np.float32))
        costs[UMAP] = clock.mean()
        if file != files[0] or not _companion(file, "classes").exists():
            continue
        clock = Clock()
        model = umap.UMAP(n_neighbors=NEIGHBORS, metric="cosine", n_components=5, min_dist=0.0, init="pca")
        space = model.fit_transform(matrix)
        size = max(5, len(matrix) // 500)
        labels = hdbscan.HDBSCAN(min_cluster_size=size, min_samples=min(10, size)).fit_predict(space)
        clock.step("hdbscan")
        count = int(labels.max(initial=-1)) + 1
        costs["by hand: HDBSCAN"] = clock.steps["hdbscan"] | {"noise": float((labels < 0).mean()), "clusters": count}
        _save(file, "by hand: HDBSCAN", byhand.to_nearest(matrix, labels))
        k = len(np.unique(np.load(_companion(file, "classes"))))
        clock = Clock()
        means = KMeans(n_clusters=k, n_init=cast(Any, 5), random_state=SEED).fit_predict(matrix)
        clock.step("kmeans")
        costs["by hand: K-means"] = clock.steps["kmeans"] | {"clusters": k}
        _save(file, "by hand: K-means", means)
    return costs_by_file


def judge(files: list[str], folder: str) -> dict[str, Any]:
    """Evaluate all saved layouts and clusterings."""
    from sklearn.metrics import normalized_mutual_info_score

    from latentscale.backends.cpu.faithfulness import faithfulness

    figures_by_file: dict[str, Any] = {}
    for file in files:
        matrix, figures = np.load(file), figures_by_file.setdefault(file, {})
        for name in LAYOUTS:
            layouts = [np.load(_companion(file, _slug(f"{name} {repeat}"))) for repeat in range(REPEATS)]
            results = [faithfulness(matrix, p, k=NEIGHBORS, sample=1_000, seed=0, threads=2) for p in layouts]
            for figure in ("trustworthiness", "preservation"):
                values = [getattr(result, figure) for result in results]
                facts = figures.setdefault(name, {})
                facts[figure] = sum(values) / REPEATS
                facts[f"{figure}_spread"] = max(values) - min(values)
        if not _companion(file, "classes").exists() or file != files[0]:
            continue
        classes = np.load(_companion(file, "classes"))
        for method in ("HDBSCAN", "K-means"):
            for who in ("latentscale", "by hand:"):
                labels = np.load(_companion(file, _slug(f"{who} {method}")))
                figures[f"{who} {method}"] = {"nmi": float(normalized_mutual_info_score(classes, labels))}
    return figures_by_file
