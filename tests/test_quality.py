"""Quality figures of a map, compared with explicit definitions."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.manifold import trustworthiness

import latentscale as ls
from latentscale.backends.cpu import faithfulness as faithfulness_module
from latentscale.backends.cpu.faithfulness import faithfulness
from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.errors import ShapeError
from latentscale.quality.labels import label_scores
from latentscale.quality.metrics import (
    agreement,
    components,
    duplicate_share,
    noise_share,
    outlier_rate,
    persistence_summary,
    red_flags,
    stability,
    uncertainty_coefficient,
)


@pytest.fixture(scope="module")
def vectors():
    made = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def graph_of(vectors, k=14):
    return nearest_neighbors(vectors, k=k, method="exact", recall_target=1.0, seed=0, threads=1)


def test_trustworthiness_is_that_of_scikit_learn(vectors):
    flat = vectors[:, :2] + 0.1 * np.random.default_rng(1).normal(size=(400, 2))
    measured = faithfulness(vectors, flat, k=15, sample=10_000, seed=0, threads=2)
    # For rows of length 1 the order by cosine is the order by Euclidean distance.
    assert measured.trustworthiness == pytest.approx(trustworthiness(vectors, flat, n_neighbors=15), abs=1e-6)
    ours, theirs = graph_of(vectors, 15).indices, _nearest(flat, 15)
    kept = np.mean([len(set(a) & set(b)) / 15 for a, b in zip(ours, theirs, strict=True)])
    assert measured.preservation == pytest.approx(kept, abs=1e-6)
    assert (measured.k, measured.sample) == (15, 400)


def _nearest(points, k):
    apart = ((points[:, None] - points) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, axis=1)[:, :k]


def test_a_layout_that_is_the_embedding_is_perfect_and_a_shuffled_one_is_not(vectors):
    same = faithfulness(vectors, vectors, k=15, sample=100, seed=0, threads=1)
    assert same.trustworthiness > 0.9999
    assert same.preservation > 0.999
    shuffled = np.random.default_rng(0).permutation(vectors)
    assert faithfulness(vectors, shuffled, k=15, sample=100, seed=0, threads=1).preservation < 0.15


def test_identical_documents_are_interchangeable_neighbours():
    same = np.ones((50, 4), np.float32)
    positions = np.random.default_rng(0).normal(size=(50, 2))
    assert faithfulness(same, positions, k=15, sample=50, seed=0, threads=1).preservation == 1.0


@pytest.mark.parametrize(("n", "k"), [(1, 0), (2, 1), (3, 2), (10, 9)])
def test_few_documents_have_no_trustworthiness(n, k, vectors):
    measured = faithfulness(vectors[:n], vectors[:n, :2], k=15, sample=100, seed=0, threads=1)
    assert measured.k == k
    assert measured.trustworthiness is None
    assert measured.preservation == (None if n == 1 else 1.0)


def test_arrays_of_different_documents_are_refused(vectors):
    with pytest.raises(ShapeError):
        faithfulness(vectors, vectors[:-1], k=15, sample=100, seed=0, threads=1)
    with pytest.raises(ShapeError):
        agreement(np.zeros(3, np.int32), ["a"])


def test_parts_of_the_graph_are_counted():
    random = np.random.default_rng(0)
    sizes = (60, 30, 30)
    islands = np.vstack([np.eye(9)[i] + 0.01 * random.normal(size=(size, 9)) for i, size in enumerate(sizes)])
    assert components(graph_of(islands.astype(np.float32)), n_neighbors=15) == (3, 0.5)
    assert components(graph_of(islands[:1].astype(np.float32)), n_neighbors=15) == (1, 1.0)


def test_identical_vectors_are_counted(vectors):
    doubled = np.vstack([vectors[:80], vectors[:20]])
    assert duplicate_share(graph_of(doubled)) == pytest.approx(0.4)
    assert duplicate_share(graph_of(vectors)) == 0.0
    assert duplicate_share(graph_of(vectors[:1])) == 0.0


def test_documents_flung_away_are_counted():
    points = np.random.default_rng(0).uniform(0, 10, (1000, 2))
    assert outlier_rate(points) == 0.0
    points[:5] += 100
    assert outlier_rate(points) == 0.005
    assert outlier_rate(points[:1]) == 0.0


def test_agreement_counts_only_documents_with_a_class():
    labels = np.array([0, 0, 1, 1, -1, 0], np.int32)
    perfect = agreement(labels, ["a", "a", "b", "b", None, None])
    assert (perfect.nmi, perfect.ari, perfect.purity, perfect.documents, perfect.classes) == (1.0, 1.0, 1.0, 4, 2)
    mixed = agreement(labels, ["a", "b", "b", "b", "b", "a"])
    assert mixed.purity == pytest.approx(5 / 6)
    assert 0 < mixed.nmi < 1
    assert agreement(labels, [None] * 6) is None


def test_stability_leaves_noise_out():
    first = np.array([0, 0, 1, 1, -1, 2], np.int32)
    assert stability(first, np.array([1, 1, 0, 0, 0, -1], np.int32)) == 1.0
    assert stability(first, np.full(6, -1, np.int32)) == 0.0


def test_noise_and_persistence():
    assert noise_share(np.array([0, -1, 1, -1], np.int32)) == 0.5
    assert noise_share(np.empty(0, np.int32)) == 0.0
    assert persistence_summary(np.array([0.1, 0.2, 0.6], np.float32)) == pytest.approx(
        {"least": 0.1, "median": 0.2, "largest": 0.6}
    )
    assert persistence_summary(np.full(3, np.nan, np.float32)) is None


GOOD = {
    "documents": 5000,
    "recall": 0.97,
    "trustworthiness": 0.93,
    "preservation": 0.3,
    "outlier_rate": 0.0,
    "components": 1,
    "largest_component": 1.0,
    "duplicates": 0.02,
    "clusters": 40,
    "noise_share": 0.2,
    "stability": 0.8,
    "truncated": 0.2,
    "follows": {"length": 0.1, "language": None, "file": 0.3},
}


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ({"recall": 0.6}, "60% of the true neighbours"),
        ({"trustworthiness": 0.7}, "not alike"),
        ({"preservation": 0.05}, "read regions"),
        ({"outlier_rate": 0.02}, "far off the map"),
        ({"components": 9, "largest_component": 0.5}, "9 parts without a link"),
        ({"duplicates": 0.5}, "copies, not topics"),
        ({"clusters": 1}, "smaller min_cluster_size"),
        ({"noise_share": 0.7}, "70% of the documents are in no cluster"),
        ({"largest_cluster_share": 0.6}, "60% of the documents are in one cluster"),
        ({"clusters": 3, "documents": 2_978}, "There are 3 clusters of 2,978 documents"),
        (
            {"collapsed": "2 clusters of 2,978 documents"},
            "The default clusters collapsed (2 clusters of 2,978 documents)",
        ),
        ({"stability": 0.3}, "0.30 (ARI)"),
        ({"truncated": 0.8, "max_tokens": 512}, "80% of the texts were cut at 512 tokens"),
        ({"follows": {"length": 0.6, "language": 0.1}}, "tell 60% of how long a text is"),
        ({"follows": {"language": 0.9}}, "tell 90% of which language"),
        ({"follows": {"file": 0.7}}, "tell 70% of which file"),
        ({"documents": 12}, "too small (12)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_bad_figure_raises_one_flag_and_good_ones_none(fact, words):
    assert red_flags(GOOD) == []
    assert red_flags({}) == []
    assert "There are no two clusters." in red_flags(GOOD | {"clusters": 1, "duplicates": 1.0})
    (flag,) = red_flags(GOOD | fact)
    assert words in flag


def test_many_documents_are_compared_in_tiles_with_the_same_answer(monkeypatch):
    # Products of such rows are exact however they are summed, and many tie.
    rows = np.where(np.random.default_rng(2).random((450, 16)) < 0.5, -0.25, 0.25).astype(np.float32)
    flat = rows[:, :2] + 0.1 * np.random.default_rng(3).normal(size=(450, 2))
    whole = faithfulness(rows, flat, k=15, sample=200, seed=0, threads=2)
    monkeypatch.setattr(faithfulness_module, "_SCORES_AT_ONCE", 0)
    monkeypatch.setattr(faithfulness_module, "_TILE_ROWS", 37)
    assert faithfulness(rows, flat, k=15, sample=200, seed=0, threads=2) == whole


def test_classes_by_number_agree_as_their_names_do():
    labels = np.array([0, 0, 1, 1, -1, 2], np.int32)
    names = ["b", "b", "a", None, "b", "c"]
    assert agreement(labels, np.array([0, 0, 1, -1, 0, 2])) == agreement(labels, names)
    assert agreement(labels, np.full(6, -1)) is None


def test_the_uncertainty_coefficient_is_one_for_a_function_of_the_cluster_and_zero_for_chance():
    random = np.random.default_rng(0)
    labels = random.integers(0, 60, 4_000).astype(np.int32)
    assert uncertainty_coefficient(labels, labels % 3) == pytest.approx(1)
    assert uncertainty_coefficient(labels, random.integers(0, 3, 4_000)) < 0.02
    half = np.where(random.random(4_000) < 0.5, labels % 2, random.integers(0, 2, 4_000))
    # A cluster says which of two classes three quarters of its documents have: 1 - H(1/4) / log 2.
    assert uncertainty_coefficient(labels, half) == pytest.approx(0.189, abs=0.03)
    assert uncertainty_coefficient(labels, np.zeros(4_000, int)) is None
    assert uncertainty_coefficient(labels[:150], labels[:150] % 3) is None


def test_a_map_whose_clusters_are_languages_says_so(tmp_path, demo):
    english = demo["text"].head(260).to_list()
    german = [
        f"Das Paket {name} ist für die Arbeit mit der Datei und wird auch von den anderen Paketen nicht benutzt."
        for name in demo["package"].head(260)
    ]
    for name, texts in (("en", english), ("de", german)):
        pl.DataFrame({"text": texts}).write_parquet(tmp_path / f"{name}.parquet")
    settings = {"project": {"n_epochs": 50}, "cluster": {"method": "agglomerative", "n_clusters": 2}}
    files = [str(tmp_path / "en.parquet"), str(tmp_path / "de.parquet")]
    made = ls.run(files, text="text", out=tmp_path / "map", progress="quiet", **settings)
    assert made.quality["follows"]["language"] > 0.8
    assert made.quality["follows"]["file"] > 0.8
    assert made.quality["truncated"] == 0
    flags = " ".join(made.quality["red_flags"])
    assert "of which language a text is in" in flags
    assert "of which file a document is from" in flags


def test_labels_are_scored_by_how_much_more_often_their_words_are_inside() -> None:
    row = {"layer": 0, "source": "keyphrases", "held_out": None}
    rows = [
        row | {"label": "Cards", "coverage": 0.9, "coverage_outside": 0.1},
        row | {"label": "cards", "coverage": 0.5, "coverage_outside": 0.04},
    ]
    scores = label_scores(rows)
    assert scores is not None
    assert (scores["coverage"], scores["coverage_outside"]) == (pytest.approx(0.7), pytest.approx(0.07))
    assert scores["coverage_lift"] == pytest.approx(10)
    assert scores["unique"] == 0
    nowhere = label_scores([row | {"label": "Cards", "coverage": 0.9, "coverage_outside": 0.0}])
    assert nowhere is not None
    assert nowhere["coverage_lift"] is None
