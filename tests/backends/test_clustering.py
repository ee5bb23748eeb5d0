"""Clusters: ids by size, honest noise, and layers over them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from latentscale.backends.cpu.agglomerative import agglomerative
from latentscale.backends.cpu.clustering import hdbscan, kmeans, nearest_centroid
from latentscale.backends.cpu.dbscan import dbscan
from latentscale.backends.cpu.layers import layer_tree, ward_merges
from latentscale.backends.cpu.layout_kmeans import kmeans_of_layout
from latentscale.errors import CorpusError, ShapeError
from latentscale.quality.metrics import agreement


def cluster(points, min_cluster_size=10, min_samples=5, method="eom", epsilon=0.0):
    return hdbscan(
        points,
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        cluster_selection_method=method,
        cluster_selection_epsilon=epsilon,
    )


@pytest.fixture(scope="module")
def blobs():
    """Three blobs of 50, 200 and 100 points, and 30 scattered ones."""
    random = np.random.default_rng(0)
    parts = [random.normal(at, 0.3, (count, 2)) for at, count in (((0, 0), 50), ((9, 0), 200), ((0, 9), 100))]
    return np.vstack([*parts, random.uniform(-30, 30, (30, 2))]).astype(np.float32)


def test_ids_run_by_size_and_scattered_points_are_noise(blobs):
    found = cluster(blobs)
    assert found.n_clusters == 3
    assert np.bincount(found.labels[:50] + 1).argmax() == 3
    assert np.bincount(found.labels[50:250] + 1).argmax() == 1
    assert np.bincount(found.labels[250:350] + 1).argmax() == 2
    assert (found.labels[350:] == -1).mean() > 0.8
    assert (found.probabilities[found.labels < 0] == 0).all()
    assert (found.probabilities[found.labels >= 0] > 0).all()
    assert found.persistence.shape == (3,)
    assert (found.labels.dtype, found.probabilities.dtype) == (np.int32, np.float32)


def test_leaf_gives_at_least_as_many_clusters(blobs):
    assert cluster(blobs, method="leaf").n_clusters >= cluster(blobs).n_clusters


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_fewer_documents_than_a_cluster_needs_are_noise_and_reported(n):
    found = cluster(np.random.default_rng(0).normal(size=(n, 5)))
    assert (found.labels == -1).all()
    assert found.n_clusters == 0
    assert "min_cluster_size=10" in found.notes[0]


@pytest.mark.filterwarnings("error")
def test_min_samples_above_the_documents_are_lowered_and_reported():
    found = cluster(np.random.default_rng(0).normal(size=(6, 2)), min_cluster_size=2, min_samples=10)
    assert "min_samples=10 was lowered to 5" in found.notes[0]


@pytest.mark.filterwarnings("error")
def test_points_at_one_position_are_one_cluster():
    found = cluster(np.ones((40, 5)))
    assert (found.labels == 0).all()
    assert found.n_clusters == 1


def test_a_coordinate_that_is_not_a_number_is_refused(blobs):
    broken = blobs.copy()
    broken[3, 1] = np.inf
    with pytest.raises(CorpusError):
        cluster(broken)


def test_kmeans_finds_the_topics_and_threads_do_not_change_a_bit(vectors, topics):
    one, two = (kmeans(vectors, n_clusters=12, seed=0, threads=threads) for threads in (1, 2))
    assert agreement(one.labels, topics.tolist()).nmi > 0.9
    np.testing.assert_array_equal(one.labels, two.labels)
    assert one.probabilities.tobytes() == two.probabilities.tobytes()
    assert (np.diff(np.bincount(one.labels)) <= 0).all()


def test_kmeans_chooses_about_one_cluster_per_topic(vectors):
    found = kmeans(vectors, n_clusters=None, seed=0, threads=2)
    assert 8 <= found.n_clusters <= 18
    assert len(found.details["curve"]) > 8


@pytest.mark.filterwarnings("error")
def test_kmeans_with_more_clusters_than_different_documents_says_so():
    found = kmeans(np.repeat(np.eye(8, dtype=np.float32)[:3], 20, axis=0), n_clusters=5, seed=0, threads=1)
    assert found.n_clusters == 3
    assert "3 clusters instead of 5" in found.notes[0]
    assert kmeans(np.ones((2, 4), np.float32), n_clusters=None, seed=0, threads=1).n_clusters == 1


def test_noise_goes_to_the_nearest_centroid_and_the_others_stay(vectors, topics):
    labels = topics.copy()
    labels[::7] = -1
    nearest, centroids = nearest_centroid(vectors, labels)
    np.testing.assert_array_equal(nearest[labels >= 0], labels[labels >= 0])
    assert (nearest[::7] == topics[::7]).mean() > 0.95
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-5)
    truth = vectors[labels == 4].mean(axis=0)
    np.testing.assert_allclose(centroids[4], truth / np.linalg.norm(truth), atol=1e-5)


def test_without_clusters_there_is_no_nearest_cluster(vectors):
    nearest, centroids = nearest_centroid(vectors, np.full(len(vectors), -1, np.int32))
    assert (nearest == -1).all()
    assert centroids.shape == (0, 48)
    with pytest.raises(ShapeError):
        nearest_centroid(vectors, np.zeros(3, np.int32))


@pytest.mark.parametrize(
    ("k", "layers"), [(1, []), (7, []), (8, [3]), (60, [12]), (100, [20]), (300, [60, 12]), (800, [160, 32, 6])]
)
def test_layers_get_about_five_times_coarser_down_to_a_handful(k, layers):
    random = np.random.default_rng(0)
    tree = layer_tree(random.normal(size=(k, 16)).astype(np.float32), random.integers(1, 99, k), factor=5, max_layers=4)
    found = [len(np.unique(layer)) for layer in tree]
    assert found[: len(layers)] == pytest.approx(layers, rel=0.51)
    # A layer more where the ones below came out larger than a fifth.
    assert len(found) <= len(layers) + 1
    assert all(count >= 3 for count in found)
    check_tree(k, tree)


def check_tree(k, tree):
    """Each group lies in one of the next layer, and holds at least two of the one before."""
    for fine, coarse in pairwise([np.arange(k), *tree]):
        parents = {group: set(coarse[fine == group].tolist()) for group in np.unique(fine).tolist()}
        assert all(len(found) == 1 for found in parents.values())
        assert np.bincount([found.pop() for found in parents.values()]).min() >= 2


@pytest.mark.parametrize(("k", "counts"), [(62, [20, 5]), (300, [150, 30, 12, 3]), (4, [2]), (1_000, [100, 50])])
def test_ordered_layers_have_about_the_ordered_numbers(k, counts):
    random = np.random.default_rng(3)
    vectors = random.normal(size=(k, 16)).astype(np.float32)
    # A few far from all others, which Ward's method joins last.
    vectors[: k // 10] += random.normal(0, 40, (k // 10, 16)).astype(np.float32)
    tree = layer_tree(vectors, random.integers(1, 99, k), factor=5, max_layers=2, counts=counts)
    assert [len(np.unique(layer)) for layer in tree] == pytest.approx(counts, rel=0.1)
    check_tree(k, tree)


def test_ordered_layers_that_cannot_be_made_are_left_out():
    vectors = np.random.default_rng(4).normal(size=(12, 8)).astype(np.float32)
    tree = layer_tree(vectors, np.ones(12), factor=5, max_layers=3, counts=[20, 4, 2])
    assert [len(np.unique(layer)) for layer in tree] == [6, 3]
    check_tree(12, tree)
    assert layer_tree(vectors[:3], np.ones(3), factor=5, max_layers=3, counts=[20]) == []


def test_groups_that_are_clearly_apart_are_the_layer():
    random = np.random.default_rng(5)
    # 14 groups of five, where a fifth of 70 is 14 too, and 11 groups of six, where it is 13.
    for groups, each in ((14, 5), (11, 6)):
        vectors = np.repeat(random.normal(size=(groups, 16)), each, axis=0) + random.normal(
            0, 0.05, (groups * each, 16)
        )
        layer = layer_tree(vectors.astype(np.float32), np.ones(groups * each), factor=5, max_layers=1)[0]
        assert agreement(layer, np.repeat(np.arange(groups), each).tolist()).ari == pytest.approx(1.0)


def test_layer_ids_run_by_documents_and_alike_clusters_join():
    random = np.random.default_rng(0)
    centroids = np.repeat(np.eye(4, dtype=np.float32)[:3], 5, axis=0) + random.normal(0, 0.01, (15, 4)).astype(
        np.float32
    )
    sizes = np.array([1] * 5 + [9] * 5 + [3] * 5)
    assert layer_tree(centroids, sizes, factor=5, max_layers=3)[0].tolist() == [2] * 5 + [0] * 5 + [1] * 5


def test_clusters_of_one_size_join_as_in_scipy():
    from scipy.cluster.hierarchy import cut_tree, linkage

    random = np.random.default_rng(1)
    centroids = random.normal(size=(120, 8)).astype(np.float32)
    merges = ward_merges(centroids.astype(np.float64), np.full(120, 7.0))
    theirs = linkage(centroids.astype(np.float64), method="ward")
    for groups in (30, 8, 2):
        cut = cut_tree(theirs, n_clusters=groups)[:, 0]
        assert agreement(merges.cut(groups), cut.tolist()).ari == pytest.approx(1.0)
    # Ward's cost is half the squared height of SciPy, times the weight of a point.
    np.testing.assert_allclose(merges.costs, theirs[:, 2] ** 2 / 2 * 7, rtol=1e-6)


def test_a_small_far_cluster_does_not_make_all_others_one_group():
    random = np.random.default_rng(2)
    centroids = np.vstack([random.normal(size=(40, 8)), random.normal(20, 1, (3, 8))]).astype(np.float32)
    sizes = np.array([1_000] * 40 + [5] * 3)
    groups = layer_tree(centroids, sizes, factor=5, max_layers=1)[0]
    assert np.bincount(groups, weights=sizes).max() < 0.5 * sizes.sum()


def test_dbscan_finds_the_blobs_and_says_which_distance_it_took(blobs):
    found = dbscan(blobs, eps=None, min_samples=5, min_cluster_size=10)
    assert found.n_clusters == 3
    assert agreement(found.labels[:350], np.repeat([0, 1, 2], [50, 200, 100])).nmi > 0.9
    assert (found.labels[350:] == -1).mean() > 0.8
    assert "set cluster.eps" in found.notes[0]
    same = dbscan(blobs, eps=found.details["eps"] + 1e-6, min_samples=5, min_cluster_size=10)
    assert (same.labels != found.labels).mean() < 0.02
    assert dbscan(blobs, eps=100.0, min_samples=5, min_cluster_size=10).n_clusters == 1
    assert "try a larger eps than 1e-06" in dbscan(blobs, eps=1e-6, min_samples=5, min_cluster_size=10).notes[0]


@pytest.mark.parametrize("n", [2_100, 600])
def test_agglomerative_finds_the_topics_whether_documents_or_centroids_are_joined(vectors, topics, n):
    found = agglomerative(vectors[:n], n_clusters=12, seed=0)
    assert found.n_clusters == 12
    assert agreement(found.labels, topics[:n]).nmi > 0.9
    assert ("centroids" in found.details) == (n > 2_000)
    again = agglomerative(vectors[:n], n_clusters=12, seed=0)
    np.testing.assert_array_equal(found.labels, again.labels)
    assert (np.diff(np.bincount(found.labels)) <= 0).all()


def test_a_thousand_clusters_by_either_method(vectors):
    some = vectors[:1_500]
    for found in (
        kmeans(some, n_clusters=1_000, seed=0, threads=2),
        agglomerative(some, n_clusters=1_000, seed=0),
    ):
        sizes = np.bincount(found.labels)
        assert len(sizes) == found.n_clusters
        assert 900 < len(sizes) <= 1_000
        assert (sizes > 0).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_few_or_identical_documents_are_reported(n):
    points = np.ones((n, 5), np.float32)
    joined = agglomerative(points, n_clusters=3, seed=0)
    assert joined.n_clusters == min(n, 1)
    assert not n or "1 clusters instead of 3" in joined.notes[0]
    dense = dbscan(points, eps=None, min_samples=10, min_cluster_size=5)
    assert dense.n_clusters == (1 if n >= 5 else 0)
    assert ("one point" if n >= 5 else "all of them are noise") in dense.notes[0]
    broken = np.full((6, 2), np.nan)
    for method in (
        lambda: agglomerative(broken, n_clusters=2, seed=0),
        lambda: dbscan(broken, eps=1.0, min_samples=2, min_cluster_size=2),
    ):
        with pytest.raises(CorpusError, match="NaN"):
            method()


# ------------------------------------------------------------------------------------------------ K-means on a layout


def test_kmeans_of_a_layout_has_the_nearest_centres_and_no_noise(blobs):
    points = blobs[:350]
    found = kmeans_of_layout(points, n_clusters=3, seed=0, threads=1)
    assert agreement(found.labels, np.repeat([0, 1, 2], [50, 200, 100]).tolist()).ari == pytest.approx(1.0)
    centers = np.stack([points[found.labels == one].mean(axis=0) for one in range(3)])
    apart = np.sort(np.linalg.norm(points[:, None] - centers, axis=2), axis=1)
    np.testing.assert_allclose(found.probabilities, 1 - apart[:, 0] / apart[:, 1], atol=1e-5)
    again = kmeans_of_layout(points, n_clusters=3, seed=0, threads=3)
    assert (again.labels == found.labels).all()
    assert (again.probabilities == found.probabilities).all()
    # Where it was far from zero, directions would not tell them apart.
    assert agreement(kmeans_of_layout(points + 900, n_clusters=3, seed=0, threads=1).labels, found.labels).ari == 1


def test_kmeans_of_a_layout_is_as_good_as_that_of_scikit_learn_and_chooses_a_number():
    from sklearn.cluster import KMeans

    random = np.random.default_rng(3)
    at = random.uniform(-20, 20, (12, 3))
    points = (at[random.integers(0, 12, 3000)] + random.normal(size=(3000, 3))).astype(np.float32)
    found = kmeans_of_layout(points, n_clusters=40, seed=1, threads=1)
    inertia = sum(((points[found.labels == c] - points[found.labels == c].mean(axis=0)) ** 2).sum() for c in range(40))
    assert inertia < 1.03 * KMeans(40, n_init=3, random_state=0).fit(points).inertia_
    chosen = kmeans_of_layout(points, n_clusters=None, seed=1, threads=1)
    assert chosen.n_clusters == chosen.details["n_clusters"]
    best = max(chosen.details["curve"], key=lambda point: point["silhouette"])
    assert chosen.n_clusters == best["n_clusters"]
    assert 8 <= chosen.n_clusters <= 18


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_kmeans_of_few_or_identical_positions(n):
    found = kmeans_of_layout(np.random.default_rng(0).normal(size=(n, 2)), n_clusters=4, seed=0, threads=1)
    assert found.n_clusters == min(n, 4)
    assert np.isfinite(found.probabilities).all()
    same = kmeans_of_layout(np.ones((n, 2)), n_clusters=4, seed=0, threads=1)
    assert same.n_clusters == min(n, 1)
    assert (same.probabilities == 1).all()
    with pytest.raises(CorpusError):
        kmeans_of_layout(np.full((n + 1, 2), np.nan), n_clusters=4, seed=0, threads=1)
