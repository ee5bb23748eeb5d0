"""A refit read with the old map in mind: turned over it, and its clusters recognised."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.backends.alignment import align_heights, carry_clusters, procrustes
from latentscale.backends.cpu.clustering import hdbscan
from latentscale.backends.cpu.layout import fuzzy_graph, layout
from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.embedders import open_embedder
from latentscale.errors import CorpusError, ShapeError


@pytest.fixture(scope="module")
def two_fits(demo):
    """Maps and clusters of 3,000 descriptions, and of these with 300 more and another seed."""
    vectors = open_embedder().embed(demo.sample(3300, seed=2)["text"].to_list()).vectors

    def fit(some, seed):
        graph = nearest_neighbors(some, k=15, method="exact", recall_target=1.0, seed=0, threads=2)
        fuzzy = fuzzy_graph(graph, n_neighbors=15)
        settings = {
            "spread": 1.0,
            "n_epochs": 150,
            "mode": "exact",
            "seed": seed,
            "negative_sample_rate": 5,
            "learning_rate": 1.0,
            "threads": 1,
        }
        positions = layout(fuzzy, some, n_components=2, min_dist=0.1, **settings)
        clusters = hdbscan(
            layout(fuzzy, some, n_components=5, min_dist=0.0, **settings),
            min_cluster_size=8,
            min_samples=8,
            cluster_selection_method="eom",
            cluster_selection_epsilon=0.0,
        )
        return positions, clusters

    return fit(vectors[:3000], 1), fit(vectors, 2)


def turned(points, angle, mirrored=False):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return points @ (rotation * [1, -1] if mirrored else rotation)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_rotated_mirrored_shifted_and_scaled_map_is_aligned_to_itself(two_fits, mirrored):
    (old, _), _ = two_fits
    found = procrustes(1.7 * turned(old, 2.1, mirrored) + [30, -8], old)
    assert np.abs(found.apply(1.7 * turned(old, 2.1, mirrored) + [30, -8]) - old).max() < 1e-3
    assert found.residual < 1e-6
    assert found.scale == pytest.approx(1 / 1.7)
    assert np.linalg.det(found.rotation) == pytest.approx(-1 if mirrored else 1)


def test_a_3d_map_is_aligned_to_itself(two_fits):
    (old, _), _ = two_fits
    solid = np.column_stack([old, np.sin(old[:, 0])])
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    assert np.abs(procrustes(solid @ axes, solid).apply(solid @ axes) - solid).max() < 1e-4


def test_a_refit_is_aligned_to_the_old_map_for_any_rotation(two_fits):
    (old, _), (new, _) = two_fits
    moving = turned(new, 1.3, mirrored=True)[:3000]
    found = procrustes(moving, old)
    apart = np.linalg.norm(found.apply(moving) - old, axis=1)
    size = np.sqrt(((old - old.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert np.median(apart) / size == pytest.approx(found.residual, rel=1e-3)
    assert found.residual < 0.2
    assert np.median(np.linalg.norm(moving - old, axis=1)) / size > 0.5
    assert 0.8 < found.scale < 1.25


def test_islands_that_moved_do_not_turn_the_rest(two_fits):
    (old, clusters), _ = two_fits
    moved = turned(old, 0.9).astype(np.float64)
    # A third of the clusters, thrown across the map.
    flung = clusters.labels % 3 == 0
    moved[flung] = -2 * moved[flung] + 15
    found = procrustes(moved, old)
    rest = np.linalg.norm(found.apply(moved) - old, axis=1)[~flung]
    assert 0.15 < flung.mean() < 0.4
    assert np.median(rest) < 0.05 * np.std(old)


def test_too_few_documents_and_documents_on_one_point_are_only_shifted():
    for points in (np.ones((1, 2)), np.ones((5, 2)), np.array([[0.0, 0.0], [1.0, 0.0]])):
        found = procrustes(points + 3, points)
        assert np.allclose(found.apply(points + 3), points)
        assert np.array_equal(found.rotation, np.eye(2))
        assert found.scale == 1
    nothing = procrustes(np.empty((0, 2)), np.empty((0, 2)))
    assert nothing.apply(np.ones((1, 2))).tolist() == [[1.0, 1.0]]


def test_maps_that_do_not_belong_together_are_refused():
    with pytest.raises(ShapeError, match="shapes"):
        procrustes(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(CorpusError, match="not numbers"):
        procrustes(np.ones((3, 2)), np.full((3, 2), np.inf))


def test_most_clusters_of_a_refit_are_recognised_and_hold_the_same_documents(two_fits):
    (_, old), (_, new) = two_fits
    ids = carry_clusters(new.labels[:3000], old.labels, n_new=new.n_clusters, highest_id=old.n_clusters - 1)
    carried = ids < old.n_clusters
    assert carried.mean() > 0.7
    renamed = np.append(ids, -1)[new.labels[:3000]]
    both = (renamed >= 0) & (old.labels >= 0)
    assert (renamed == old.labels)[both].mean() > 0.75
    fresh = np.sort(ids[~carried])
    assert fresh.tolist() == list(range(old.n_clusters, old.n_clusters + len(fresh)))


def test_an_unchanged_clustering_keeps_any_ids(two_fits):
    (_, old), _ = two_fits
    sparse = np.append(np.arange(old.n_clusters) * 3 + 5, -1)
    labels = sparse[old.labels].astype(np.int32)
    ids = carry_clusters(old.labels, labels, n_new=old.n_clusters, highest_id=10_000)
    assert np.array_equal(ids, sparse[:-1])


def labels(*runs):
    """Labels by (id, count) pairs."""
    return np.concatenate([np.full(count, one, np.int32) for one, count in runs])


def test_the_larger_part_of_a_split_keeps_the_id_and_fresh_ids_are_above_all_ever_used():
    old = labels((4, 100), (9, 60))
    new = labels((1, 70), (2, 30), (0, 60))
    assert carry_clusters(new, old, n_new=3, highest_id=17).tolist() == [9, 4, 18]


def test_the_larger_part_of_a_merger_gives_the_id_and_the_other_id_ends():
    old = labels((4, 100), (9, 60))
    assert carry_clusters(labels((0, 160)), old, n_new=1, highest_id=9).tolist() == [4]


def test_a_cluster_cut_in_half_is_continued_by_neither():
    assert carry_clusters(labels((0, 50), (1, 50)), labels((3, 100)), n_new=2, highest_id=3).tolist() == [4, 5]


def test_a_cluster_that_grew_out_of_noise_does_not_take_the_name_of_a_few_stragglers():
    old = labels((-1, 95), (6, 5))
    assert carry_clusters(labels((0, 100)), old, n_new=1, highest_id=6).tolist() == [7]


def test_noise_at_the_border_does_not_cost_a_cluster_its_name():
    old = labels((2, 100), (-1, 60))
    new = labels((-1, 40), (0, 60), (0, 50), (-1, 10))
    assert carry_clusters(new, old, n_new=1, highest_id=2).tolist() == [2]


def test_without_old_clusters_or_shared_documents_all_ids_are_fresh():
    assert carry_clusters(labels((0, 5), (1, 4)), labels((-1, 9)), n_new=2, highest_id=-1).tolist() == [0, 1]
    nothing = np.empty(0, np.int32)
    assert carry_clusters(nothing, nothing, n_new=2, highest_id=7).tolist() == [8, 9]
    assert carry_clusters(nothing, nothing, n_new=0, highest_id=7).tolist() == []


def test_ids_out_of_range_are_refused():
    with pytest.raises(ShapeError, match="ever used"):
        carry_clusters(labels((0, 5)), labels((3, 5)), n_new=1, highest_id=2)
    with pytest.raises(ShapeError, match="out of range"):
        carry_clusters(labels((1, 5)), labels((3, 5)), n_new=1, highest_id=3)


@pytest.mark.parametrize("up", [1, -1])
def test_heights_keep_their_direction(up):
    random = np.random.default_rng(0)
    before = random.normal(3, 2, 200)
    after = up * before + 7 + random.normal(0, 0.3, 200)
    turned, mirrored = align_heights(np.append(after, up * 13.0 + 7), after, before)
    assert mirrored == (up < 0)
    assert np.corrcoef(turned[:200], before)[0, 1] > 0.9
    assert np.median(turned[:200]) == pytest.approx(np.median(before), abs=1e-5)
    assert turned[200] == pytest.approx(13, abs=0.3)
    assert turned.dtype == np.float32
