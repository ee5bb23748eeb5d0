"""Split clusters and moved documents: the rest is unchanged, and refits repeat the edits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latentscale.backends import Clustering
from latentscale.backends.cpu.clustering import kmeans
from latentscale.labelers.edits import ClusterEdit, choose_members
from latentscale.stages.edited_clusters import anchors_of, hold_edited
from latentscale.stages.split_clusters import Parts, move_edited, place_edited, split_edited

ROWS = np.arange(0, 400, 2, dtype=np.int64)
CLUSTERS = np.repeat(np.arange(3), [100, 60, 40]).astype(np.int32)
# Three directions in the first cluster, one in each other.
DIRECTION = np.concatenate([np.arange(100) % 3, np.full(60, 3), np.full(40, 4)])
LAYERS = [np.array([0, 1, 1], np.int32)]
NONE = Parts(of_document=np.full(200, -1, np.int32), paths=[])


def vectors() -> np.ndarray[Any, Any]:
    noise = np.random.default_rng(0).normal(0, 0.05, (200, 8))
    return (np.eye(8)[DIRECTION] + noise).astype(np.float32)


def clustering_of(labels: np.ndarray[Any, Any]) -> Clustering:
    count = int(labels.max(initial=-1)) + 1
    return Clustering(
        labels=labels.astype(np.int32),
        probabilities=(labels >= 0).astype(np.float32),
        persistence=np.linspace(0.9, 0.5, count).astype(np.float32),
        method="hdbscan",
    )


def edit_of(documents: np.ndarray[Any, Any], **changes: Any) -> ClusterEdit:
    chosen = choose_members(ROWS[documents], np.ones(len(documents), np.float32))
    return ClusterEdit(layer=0, label="c", size=len(documents), members=tuple(chosen), **changes)


def recluster(points: Any, count: int | None) -> Clustering:
    return kmeans(points, n_clusters=count, seed=0, threads=1)


def split(labels: Any, edits: list[ClusterEdit], earlier: Parts = NONE, layers: Any = LAYERS) -> Any:
    anchors = anchors_of(edits, refit=False)
    return split_edited(clustering_of(labels), layers, ROWS, anchors, vectors(), earlier, recluster)


@pytest.mark.parametrize("wanted", [3, "auto"])
def test_splitting_a_cluster_by_its_documents_leaves_others_unchanged(wanted: Any) -> None:
    found, layers, parts = split(CLUSTERS, [edit_of(np.arange(100), split=wanted)])
    assert found.n_clusters == 5
    for direction in range(5):
        assert len(np.unique(found.labels[direction == DIRECTION])) == 1
    # All parts lie where the whole did.
    coarse = layers[0][found.labels]
    assert len(np.unique(coarse[:100])) == 1
    assert set(coarse[:100]).isdisjoint(coarse[100:])
    assert len(parts.paths) == 3
    assert (np.diff(np.bincount(found.labels)) <= 0).all()


def test_a_part_of_a_split_can_be_split() -> None:
    whole = edit_of(np.arange(100), split=2)
    found, _, _ = split(CLUSTERS, [whole])
    larger = np.flatnonzero(found.labels == np.bincount(found.labels[:100]).argmax())
    again = edit_of(larger, split=2)
    found, _, parts = split(CLUSTERS, [again, whole])
    assert found.n_clusters == 5
    assert sorted(len(path) for path in parts.paths if (parts.of_document == parts.paths.index(path)).any()) == [
        1,
        2,
        2,
    ]
    assert len(np.unique(parts.of_edit(whole)[:100])) == 2
    assert len(np.unique(parts.of_edit(again)[larger])) == 2


def test_after_a_refit_documents_keep_their_part_and_new_ones_join_the_nearest() -> None:
    edit = edit_of(np.arange(100), split=3)
    before, _, parts = split(CLUSTERS, [edit])
    # Parts that no clustering of the vectors gives: they are kept, and not found anew.
    known = parts.of_document.copy()
    known[:2] = known[2]
    known[50:100] = -1
    earlier = Parts(of_document=known, paths=parts.paths)
    found, _, _ = split(CLUSTERS, [edit], earlier)
    assert len(np.unique(found.labels[:3])) == 1
    # The new ones are with those of their direction.
    for direction in range(3):
        new = np.flatnonzero(direction == DIRECTION[:100])
        assert len(np.unique(found.labels[new[new >= 3]])) == 1
    assert before.n_clusters == found.n_clusters


def test_a_split_cluster_that_a_refit_loses_is_kept_as_a_whole_and_its_parts_are_left_to_the_split() -> None:
    edit = edit_of(np.arange(100), split=3)
    found, _, parts = split(CLUSTERS, [edit])
    part = np.flatnonzero(found.labels == found.labels[0])
    renamed = edit_of(part, rename="x")
    lost = np.where(CLUSTERS == 0, -1, CLUSTERS)
    lost = np.unique(lost, return_inverse=True)[1].astype(np.int32) - 1
    held = hold_edited(
        clustering_of(lost), ROWS, anchors_of([renamed, edit], refit=True), [found.labels], parts.by_split()
    )
    np.testing.assert_array_equal(held.labels == held.labels[0], CLUSTERS == 0)
    again, _, _ = split(held.labels, [edit], parts)
    np.testing.assert_array_equal(again.labels == again.labels[0], found.labels == found.labels[0])


def test_identical_documents_are_not_split() -> None:
    same = np.ones((200, 8), np.float32)
    anchors = anchors_of([edit_of(np.arange(100), split=3)], refit=False)
    found, _, parts = split_edited(clustering_of(CLUSTERS), LAYERS, ROWS, anchors, same, NONE, recluster)
    np.testing.assert_array_equal(found.labels, CLUSTERS)
    assert parts.paths == []
    assert "parts" not in found.details


def test_documents_are_moved_between_clusters_and_removed() -> None:
    edits = [
        edit_of(np.arange(100), remove=tuple(ROWS[[0, 1, 150]].tolist())),
        edit_of(np.arange(100, 160), add=tuple(ROWS[[5, 6, 199]].tolist())),
    ]
    found, layers = move_edited(clustering_of(CLUSTERS), LAYERS, ROWS, anchors_of(edits, refit=False))
    now = CLUSTERS.copy()
    now[[0, 1]], now[[5, 6, 199]] = -1, 1
    np.testing.assert_array_equal(found.labels, now)
    assert found.probabilities[[0, 1]].tolist() == [0, 0]
    # The coarser groups are what they were, with ids by their size now.
    np.testing.assert_array_equal(layers[0], [1, 0, 0])


def test_a_cluster_moves_to_another_parent_in_all_coarser_layers() -> None:
    layers = [np.array([0, 1, 2], np.int32), np.array([0, 0, 1], np.int32)]
    edit = edit_of(np.arange(160, 200), parent="x", parent_members=tuple(ROWS[100:120].tolist()))
    first, second = place_edited(clustering_of(CLUSTERS), layers, ROWS, anchors_of([edit], refit=False))
    assert first[2] == first[1] != first[0]
    assert second.tolist() == [0, 0, 0]
    gone = edit_of(np.arange(160, 200), parent="x", parent_members=(99_999,))
    kept = place_edited(clustering_of(CLUSTERS), layers, ROWS, anchors_of([gone], refit=False))
    assert [layer.tolist() for layer in kept] == [layer.tolist() for layer in layers]


def test_a_cluster_without_documents_is_removed() -> None:
    edits = [edit_of(np.arange(100), add=tuple(ROWS[160:].tolist()))]
    found, layers = move_edited(clustering_of(CLUSTERS), LAYERS, ROWS, anchors_of(edits, refit=False))
    assert found.n_clusters == 2
    assert [len(layer) for layer in layers] == [2]
