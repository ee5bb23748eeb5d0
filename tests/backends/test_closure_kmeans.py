"""Spherical K-means with hundreds of centroids: labels, initialisation, and loss compared with plain rounds."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.backends.cpu import clustering
from latentscale.backends.cpu.centroids import assign, means
from latentscale.backends.cpu.closure_kmeans import (
    assign_in_closures,
    centroid_closures,
    kmeans_parallel_init,
    lloyd_with_closures,
)
from latentscale.backends.cpu.clustering import FEW_CLUSTERS, kmeans
from latentscale.backends.cpu.layout_kmeans import kmeans_of_layout
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.quality.metrics import agreement

K = 400


@pytest.fixture(scope="module")
def unit():
    """6,000 directions around 500, a few of which have most of them."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(500, 32))
    of = np.minimum(random.zipf(1.3, 6_000) - 1, random.integers(0, 500, 6_000))
    return unit_rows((centers[of] + random.normal(0, 0.6, (6_000, 32))).astype(np.float32))


def improved(unit, start, *, rows=None, threads=1):
    return lloyd_with_closures(unit, start, rows=rows, settled=1000, rounds=100, threads=threads)


def plain(unit, centroids):
    """Rounds among all centroids, to the same end."""
    labels = np.full(len(unit), -1)
    for _ in range(100):
        before = labels
        labels, similarity = assign(unit, centroids, threads=1)
        if (labels != before).mean() <= 0.001:
            break
        found = means(unit, labels, len(centroids), threads=1)
        centroids = np.where(found.any(axis=1, keepdims=True), found, centroids)
    return labels, similarity


def test_labels_are_the_nearest_of_all_centroids_and_threads_do_not_change_a_bit(unit):
    start = kmeans_parallel_init(unit, np.arange(len(unit)), K, np.random.default_rng(1), threads=1)
    labels, similarity, centroids = improved(unit, start)
    scores = unit.astype(np.float64) @ centroids.T.astype(np.float64)
    np.testing.assert_allclose(scores[np.arange(len(unit)), labels], scores.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(similarity, scores.max(axis=1), atol=1e-6)
    again = kmeans_parallel_init(unit, np.arange(len(unit)), K, np.random.default_rng(1), threads=3)
    assert again.tobytes() == start.tobytes()
    for one, other in zip((labels, similarity, centroids), improved(unit, start, threads=3), strict=True):
        assert one.tobytes() == other.tobytes()


def test_rounds_among_near_centroids_lose_no_quality(unit):
    for seed in range(3):
        start = kmeans_parallel_init(unit, np.arange(len(unit)), K, np.random.default_rng(seed), threads=1)
        labels, similarity, _ = improved(unit, start)
        all_labels, all_similarity = plain(unit, start)
        assert similarity.mean() > 0.998 * all_similarity.mean()
        assert agreement(labels, all_labels.tolist()).nmi > 0.95


def test_near_centroids_have_the_largest_cosine_with_the_own_centroid(unit):
    centroids = unit[:K]
    near = centroid_closures(centroids, threads=2)
    assert near.shape == (K, 128)
    scores = centroids @ centroids.T
    for one in (0, 7, K - 1):
        assert set(near[one]) == set(np.argsort(-scores[one], kind="stable")[:128])
    labels = assign(unit, centroids, threads=1)[0]
    # Where all are near, it is the nearest of all; else never a worse one than the own.
    everything = np.tile(np.arange(K, dtype=np.int32), (K, 1))
    wrong = np.roll(labels, 1)
    np.testing.assert_array_equal(assign_in_closures(unit, centroids, wrong, everything, threads=2), labels)
    better = assign_in_closures(unit, centroids, wrong, near, threads=2)
    cosines = np.einsum("ij,nij->ni", unit, centroids[np.stack([better, wrong])])
    assert (cosines[0] >= cosines[1] - 1e-6).all()


def test_a_subset_of_rows_behaves_like_a_matrix(unit):
    rows = np.arange(1, len(unit), 3)
    start = kmeans_parallel_init(unit, rows, K, np.random.default_rng(0), threads=1)
    alone = kmeans_parallel_init(unit[rows], np.arange(len(rows)), K, np.random.default_rng(0), threads=1)
    assert start.tobytes() == alone.tobytes()
    for one, other in zip(improved(unit, start, rows=rows), improved(unit[rows], start), strict=True):
        assert one.tobytes() == other.tobytes()


def test_initial_centroids_are_apart(unit):
    random = np.random.default_rng(0)
    start = kmeans_parallel_init(unit, np.arange(len(unit)), K, random, threads=1)
    assert len(np.unique(start, axis=0)) == K
    drawn = unit[random.choice(len(unit), K, replace=False)]
    assert assign(unit, start, threads=1)[1].mean() > assign(unit, drawn, threads=1)[1].mean()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("different", [1, 40, 300])
def test_fewer_distinct_rows_than_clusters_are_reported(different):
    rows = unit_rows(np.random.default_rng(0).normal(size=(different, 8)).astype(np.float32))
    found = kmeans(np.tile(rows, (-(-900 // different), 1)), n_clusters=K, seed=0, threads=2)
    assert found.n_clusters == different
    assert f"{different} clusters instead of {K}" in found.notes[0]


def test_many_clusters_of_many_documents_start_on_some_of_them(unit, monkeypatch):
    whole = kmeans(unit, n_clusters=K, seed=0, threads=1)
    assert whole.details["starts"] == 1
    assert K > FEW_CLUSTERS
    assert kmeans(unit, n_clusters=FEW_CLUSTERS, seed=0, threads=1).details["starts"] == 3
    monkeypatch.setattr(clustering, "_SAMPLE", 0)
    monkeypatch.setattr(clustering, "_SAMPLE_PER_CLUSTER", 4)
    sampled = kmeans(unit, n_clusters=K, seed=0, threads=1)
    assert sampled.labels.tobytes() != whole.labels.tobytes()
    assert sampled.probabilities.mean() == pytest.approx(whole.probabilities.mean(), rel=0.01)


@pytest.mark.filterwarnings("error")
def test_many_clusters_of_a_layout_at_any_offset():
    points = np.random.default_rng(0).uniform(0, 30, (3_000, 2)).astype(np.float32)
    points[:500] = points[0]
    found = kmeans_of_layout(points, n_clusters=K, seed=0, threads=1)
    assert 0.95 * K < found.n_clusters <= K
    far = kmeans_of_layout(points + 900, n_clusters=K, seed=0, threads=1)
    assert 0.95 * K < far.n_clusters <= K
    middles = [np.stack([points[one.labels == c].mean(axis=0) for c in range(one.n_clusters)]) for one in (found, far)]
    spread = [
        np.linalg.norm(points - middle[one.labels], axis=1).mean()
        for one, middle in zip((found, far), middles, strict=True)
    ]
    assert spread[1] == pytest.approx(spread[0], rel=0.03)
