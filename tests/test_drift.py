"""Drift: not reported for similar documents or a handful, reported for different ones."""

from __future__ import annotations

import numpy as np
import orjson
import polars as pl
import pytest

from latentscale.backends.cpu.clustering import hdbscan
from latentscale.backends.cpu.layout import fuzzy_graph, layout
from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.backends.cpu.placement import assign_clusters, neighbors_among
from latentscale.backends.outliers import distance_quantiles, mean_distances, outlier_scores
from latentscale.embedders import open_embedder
from latentscale.quality.drift import Added, measure_drift

LEFT_OUT = ["fonts", "games"]


class Fit:
    """Packages of all sections but two, fitted; some of the same sections and all of the two, not fitted."""

    def __init__(self, demo):
        shuffled = demo.sample(fraction=1.0, shuffle=True, seed=3)
        known = shuffled.filter(~pl.col("section").is_in(LEFT_OUT))
        unknown = shuffled.filter(pl.col("section").is_in(LEFT_OUT))
        embedder = open_embedder()
        vectors = embedder.embed(known["text"].to_list()).vectors
        self.same, self.other = vectors[:400], embedder.embed(unknown["text"].to_list()).vectors
        self.vectors = np.ascontiguousarray(vectors[400:4900])
        self.graph = nearest_neighbors(self.vectors, k=15, method="exact", recall_target=1.0, seed=0, threads=2)
        points = layout(
            fuzzy_graph(self.graph, n_neighbors=15),
            self.vectors,
            n_components=5,
            min_dist=0.0,
            spread=1.0,
            n_epochs=100,
            mode="exact",
            seed=1,
            negative_sample_rate=5,
            learning_rate=1.0,
            threads=1,
        )
        self.clusters = hdbscan(
            points, min_cluster_size=9, min_samples=9, cluster_selection_method="eom", cluster_selection_epsilon=0.0
        )
        labels = self.clusters.labels
        self.facts = {
            "fitted": len(labels),
            "noise": int((labels < 0).sum()),
            "sizes": dict(enumerate(np.bincount(labels[labels >= 0]).tolist())),
        }

    def add(self, vectors):
        found = neighbors_among(vectors, self.vectors, k=15, graph_indices=None, seed=0, threads=1)
        cluster, _, _ = assign_clusters(
            found.indices,
            found.distances,
            cluster=self.clusters.labels,
            probability=self.clusters.probabilities,
            vectors=vectors,
            centroids=np.zeros((self.clusters.n_clusters, vectors.shape[1]), np.float32),
            sizes=np.zeros(self.clusters.n_clusters),
        )
        table = distance_quantiles(self.graph.distances)
        return Added.count(cluster, outlier_scores(mean_distances(found.distances), table))


@pytest.fixture(scope="module")
def fit(demo):
    return Fit(demo)


def test_more_of_the_same_makes_no_refit_due(fit):
    drift = measure_drift(fit.add(fit.same), **fit.facts)
    assert (drift["refit_due"], drift["reasons"]) == (False, [])
    assert drift["ood_share"] < 0.1
    assert abs(drift["noise_share_added"] - drift["noise_share_fitted"]) < 0.1
    for start in range(0, 400, 50):
        assert not measure_drift(fit.add(fit.same[start : start + 50]), **fit.facts)["refit_due"]


def test_unknown_sections_make_a_refit_due_with_reasons(fit):
    drift = measure_drift(fit.add(fit.other), **fit.facts)
    assert drift["refit_due"]
    assert "farther from the fitted ones than 95 %" in drift["reasons"][0]
    # By the chance of the layout they are noise, or join one cluster.
    assert any("in no cluster" in reason or " gained " in reason for reason in drift["reasons"])
    assert drift["ood_share"] > 0.25


def test_a_handful_of_strange_documents_makes_no_refit_due(fit):
    assert not measure_drift(fit.add(fit.other[:20]), **fit.facts)["refit_due"]


def test_counts_of_updates_add_up_to_those_of_all_and_survive_json(fit):
    every = np.vstack([fit.same, fit.other])
    parts = sum((fit.add(every[start : start + 100]) for start in range(0, len(every), 100)), Added())
    assert parts == fit.add(every)
    assert Added.parse(orjson.loads(orjson.dumps(parts.plain()))) == parts


def test_a_fifth_more_documents_make_a_refit_due_and_so_does_a_fifth_less():
    facts = {"fitted": 10_000, "noise": 1000, "sizes": {0: 9000}}
    added = Added(documents=2000, noise=200, far=100, sizes={0: 1800})
    assert not measure_drift(added, removed=2000, **facts)["refit_due"]
    more = measure_drift(added + Added(documents=1, sizes={0: 1}), **facts)
    assert more["reasons"] == [
        "2,001 documents were added to the 10,000 that the map was fitted to (20%; the limit is 20%)."
    ]
    assert "2,001 of the 10,000" in measure_drift(added, removed=2001, **facts)["reasons"][0]
    assert not measure_drift(added + added, removed=4000, added_share=0.5, removed_share=0.5, **facts)["refit_due"]


def test_a_cluster_that_doubles_makes_a_refit_due():
    facts = {"fitted": 10_000, "noise": 5000, "sizes": {3: 200, 8: 4800}}
    added = Added(documents=500, noise=250, far=20, sizes={3: 201, 8: 49})
    drift = measure_drift(added, **facts)
    assert drift["largest_growth"] == {"cluster": 3, "fitted": 200, "added": 201, "growth": 1.005}
    assert drift["reasons"][0].startswith("Cluster 3 gained 201 documents on the 200")
    assert not measure_drift(added, cluster_growth=2.0, **facts)["refit_due"]


def test_drift_is_defined_without_added_or_fitted_documents():
    drift = measure_drift(Added(), fitted=100, noise=10, sizes={0: 90})
    assert (drift["ood_share"], drift["noise_share_added"], drift["largest_growth"]) == (None, None, None)
    assert not drift["refit_due"]
    assert measure_drift(Added(documents=5), fitted=0, noise=0, sizes={})["added_share"] is None
