"""Labels of the same clusters by keyphrases and by BERTopic, with the same scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.cases.labels import cluster_corpus, label_corpus
from benchmarks.corpora import Context, full_corpus
from benchmarks.processes import fresh, run_command
from benchmarks.report import Result

OURS, BERTOPIC = "latentscale, keyphrases", "BERTopic, c-TF-IDF without English stop words"
SHOWN = 12
_WORDS = re.compile(r"[^\W_]+")


def run(context: Context) -> Result:
    """For each corpus: cluster it by K-means, one cluster per class, and label the clusters by both."""
    run_corpus = full_corpus(context)
    corpora = [(run_corpus.path, run_corpus.text, run_corpus.classes)] + [
        (path, "text", "label") for path in context.labelled
    ]
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for path, text, classes in corpora:
        folder = context.emptied("label-quality")
        _, written = fresh(write_texts, path=path, text=text, classes=classes, folder=folder)
        clusters = written["classes"] or 100
        corpus = folder / "texts.parquet"
        fresh(cluster_corpus, path=corpus, text="text", folder=str(folder / "workspace"), clusters=clusters)
        fresh(label_corpus, folder=str(folder / "workspace"))
        fresh(write_clusters, folder=folder)
        if context.bertopic_python:
            run_command([context.bertopic_python, "-c", BERTOPIC_SCRIPT, str(folder)])
        _, scores = fresh(score, folder=folder, has_classes=bool(written["classes"]))
        rows += [{"what": f"{Path(path).stem}: {name}", **figures} for name, figures in scores["figures"].items()]
        notes += [f"{Path(path).stem}, {' | '.join(pair)}" for pair in scores["pairs"]]
    return Result(
        title="Labels of the same clusters: words that cover them, and documents nearest to their own label.",
        parameters={"clusters": "K-means, as many as there are classes, or 100"},
        rows=rows,
        targets=[],
        notes=[
            "`inside`, `outside`: share of the documents in and out of a cluster that hold a word of its label. "
            "`held_out`: of 20 documents of each cluster, to which its own label is nearest among those of its 12 "
            "nearest siblings. "
            "`purity`: of the clusters, by the known classes.",
            *notes,
        ],
    )


def write_texts(path: str, text: str, classes: str | None, folder: str) -> dict[str, Any]:
    """Write the texts and classes of a corpus; of a larger one, a sample of 20,000 documents."""
    import polars as pl

    readers = {".csv": pl.read_csv, ".tsv": lambda p: pl.read_csv(p, separator="\t", quote_char=None)}
    frame = readers.get(Path(path).suffix, pl.read_parquet)(path)
    columns = {"text": frame[text].cast(pl.String)} | ({"known": frame[classes].cast(pl.String)} if classes else {})
    documents = pl.DataFrame(columns).drop_nulls("text")
    documents = documents.sample(min(20_000, len(documents)), seed=0, shuffle=True)
    documents.write_parquet(Path(folder) / "texts.parquet")
    return {"classes": documents["known"].n_unique() if classes else 0}


def write_clusters(folder: str) -> dict[str, Any]:
    """Write each text with its finest cluster, for another interpreter."""
    import latentscale as ls
    from latentscale.explore.documents import read_texts
    from latentscale.stages.cluster import read_clusters
    from latentscale.storage.snapshots import read_snapshot

    workspace = ls.open(Path(folder) / "workspace")
    record = next(artifact for artifact in workspace.artifacts if artifact.kind == "clusters")
    clusters = read_clusters(workspace.store, record)
    snapshot = read_snapshot(workspace.store, record.request["snapshot"])
    texts = read_texts(workspace.store, snapshot, clusters.row_ids, "text").to_pylist()
    values = {"texts": texts, "clusters": clusters.cluster.tolist()}
    (Path(folder) / "clusters.json").write_text(json.dumps(values), encoding="utf-8")
    return {}


# The manual mode of BERTopic, which only names given clusters.
BERTOPIC_SCRIPT = """
import json, sys
from pathlib import Path
from bertopic import BERTopic
from bertopic.cluster import BaseCluster
from bertopic.dimensionality import BaseDimensionalityReduction
from sklearn.feature_extraction.text import CountVectorizer
import numpy as np
folder = Path(sys.argv[1])
given = json.loads((folder / "clusters.json").read_text())
model = BERTopic(
    embedding_model=None, umap_model=BaseDimensionalityReduction(), hdbscan_model=BaseCluster(),
    vectorizer_model=CountVectorizer(stop_words="english"), calculate_probabilities=False,
)
topics, _ = model.fit_transform(given["texts"], embeddings=np.zeros((len(given["texts"]), 2)), y=given["clusters"])
named = {}
for cluster, topic in zip(given["clusters"], topics):
    named[str(cluster)] = ", ".join(word for word, _ in model.get_topic(topic)[:3])
(folder / "bertopic.json").write_text(json.dumps(named))
"""


def score(folder: str, *, has_classes: bool) -> dict[str, Any]:
    """Score both labellings, and return the labels of the largest clusters in pairs."""
    import numpy as np
    import polars as pl

    import latentscale as ls
    from latentscale.embedders import opened_embedder, read_spec
    from latentscale.labelers.checks import sense_of
    from latentscale.labelers.held_out import HeldOutTest
    from latentscale.stages.cluster import read_clusters
    from latentscale.stages.siblings import nearest_siblings
    from latentscale.storage.artifacts import read_table

    workspace = ls.open(Path(folder) / "workspace")
    clusters, labels = (
        next(item for item in workspace.artifacts if item.kind == kind) for kind in ("clusters", "labels")
    )
    clustering = read_clusters(workspace.store, clusters)
    table = [row for row in read_table(workspace.store, labels, "labels").to_pylist() if row["layer"] == 0]
    path = Path(folder)
    corpus = json.loads((path / "clusters.json").read_text(encoding="utf-8"))
    names = {OURS: [row["label"] for row in table]}
    if (path / "bertopic.json").exists():
        bertopic_labels = json.loads((path / "bertopic.json").read_text())
        names[BERTOPIC] = [bertopic_labels[str(row["cluster"])] for row in table]
    embedding = workspace.artifact(clusters.request["embedding"])
    embedder = opened_embedder(read_spec(embedding.choices["spec"]), "cpu")

    def embed(texts: Any) -> Any:
        vectors = embedder.embed(list(texts))
        return vectors.vectors, vectors.embeddable

    cluster_keys = [(0, row["cluster"]) for row in table]
    siblings = nearest_siblings(clustering, cluster_keys, [list(range(len(cluster_keys)))])
    random = np.random.default_rng(0)
    samples = [np.flatnonzero(clustering.cluster == cluster) for _, cluster in cluster_keys]
    samples = [random.choice(item, min(20, len(item)), replace=False) for item in samples]
    held_out = HeldOutTest([embed([corpus["texts"][i] for i in item])[0] for item in samples], siblings, embed)
    words = [{sense_of(word) for word in _WORDS.findall(text)} for text in corpus["texts"]]
    figures: dict[str, Any] = {}
    for name, texts in names.items():
        inside_shares, outside_shares = [], []
        for row, label in zip(table, texts, strict=True):
            label_words = set(sense_of(label).split())
            covered = np.fromiter((not label_words.isdisjoint(item) for item in words), np.bool_, len(words))
            members = clustering.cluster == row["cluster"]
            inside_shares.append(covered[members].mean())
            outside_shares.append(covered[~members].mean())
        tested = held_out.try_labels(texts, range(len(texts)))
        figures[name] = {
            "clusters": len(table),
            "unique": len({sense_of(text) for text in texts}) / len(texts),
            "inside": float(np.mean(inside_shares)),
            "outside": float(np.mean(outside_shares)),
            "held_out": float(np.mean([item.share for item in tested.values()])),
        }
    if has_classes:
        known = pl.read_parquet(path / "texts.parquet")["known"].to_list()
        of_text = dict(zip(pl.read_parquet(path / "texts.parquet")["text"].to_list(), known, strict=True))
        pairs = pl.DataFrame({"cluster": corpus["clusters"], "known": [of_text[text] for text in corpus["texts"]]})
        purity = pairs.group_by("cluster", "known").len().group_by("cluster").agg(pl.col("len").max())["len"].sum()
        for item in figures.values():
            item["purity"] = purity / len(pairs)
    largest = sorted(range(len(table)), key=lambda i: -table[i]["size"])[:SHOWN]
    return {"figures": figures, "pairs": [[texts[i] for texts in names.values()] for i in largest]}
