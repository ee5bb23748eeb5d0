"""Edited clusters are kept by refits: lost ones are restored, merged ones joined, and the tree stays nested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latentscale.backends import Clustering
from latentscale.labelers.edits import ClusterEdit, choose_members, match_edits
from latentscale.stages.edited_clusters import anchors_of, hold_coarser, hold_edited, merge_edited

ROWS = np.arange(0, 400, 2, dtype=np.int64)  # row ids are not positions


def clustering_of(labels: np.ndarray[Any, Any]) -> Clustering:
    count = int(labels.max(initial=-1)) + 1
    return Clustering(
        labels=labels.astype(np.int32),
        probabilities=(labels >= 0).astype(np.float32),
        persistence=np.linspace(0.9, 0.5, count).astype(np.float32),
        method="hdbscan",
    )


def edit_of(cluster: int, labels: np.ndarray[Any, Any], **changes: Any) -> ClusterEdit:
    members = np.flatnonzero(labels == cluster)
    chosen = choose_members(ROWS[members], np.ones(len(members), np.float32))
    values = {"layer": 0, "label": f"c{cluster}", "size": len(members), "members": tuple(chosen)} | changes
    return ClusterEdit(**values)


@pytest.fixture
def clusters_before() -> np.ndarray[Any, Any]:
    return np.repeat(np.arange(5), [60, 50, 40, 30, 20]).astype(np.int32)


def test_the_request_of_a_refit_contains_only_edits_that_may_be_lost(clusters_before):
    edits = [
        edit_of(0, clusters_before, rename="x"),
        edit_of(1, clusters_before, merge="y"),
        edit_of(2, clusters_before, pin=True),
    ]
    assert [one["label"] for one in anchors_of(edits, refit=False)] == ["c1", "c2"]
    assert [one["label"] for one in anchors_of(edits, refit=True)] == ["c0", "c1", "c2"]


@pytest.mark.parametrize("lost", ["noise", "swallowed", "scattered"])
def test_an_edited_cluster_that_is_lost_is_kept_with_its_documents(clusters_before, lost):
    now = clusters_before.copy()
    where = clusters_before == 4
    now[where] = {"noise": -1, "swallowed": 0, "scattered": np.arange(20) % 4}[lost]
    found = hold_edited(
        clustering_of(now), ROWS, anchors_of([edit_of(4, clusters_before, rename="x")], refit=True), [clusters_before]
    )
    assert len(np.unique(found.labels[where])) == 1
    np.testing.assert_array_equal(np.unique(found.labels[~where]), np.setdiff1d(np.arange(5), found.labels[where]))
    assert found.notes[-1] == "1 edited cluster that the refit did not find again was kept: 'c4'."
    assert len(found.persistence) == found.n_clusters == 5
    assert np.isnan(found.persistence[found.labels[where][0]])
    sizes = np.bincount(found.labels)
    assert (np.diff(sizes) <= 0).all()


def test_a_recognised_edited_cluster_is_unchanged(clusters_before):
    now = clusters_before.copy()
    now[:5] = -1
    made = clustering_of(now)
    found = hold_edited(
        made, ROWS, anchors_of([edit_of(0, clusters_before, rename="x")], refit=True), [clusters_before]
    )
    np.testing.assert_array_equal(found.labels == found.labels[10], now == 0)
    assert found.notes == []


def test_two_edited_clusters_that_were_joined_are_separated(clusters_before):
    now = np.where(clusters_before == 1, 0, clusters_before)
    now = np.unique(now, return_inverse=True)[1].astype(np.int32)
    edits = [edit_of(0, clusters_before, rename="x"), edit_of(1, clusters_before, hide=True)]
    found = hold_edited(clustering_of(now), ROWS, anchors_of(edits, refit=True), [clusters_before])
    assert found.n_clusters == 5
    assert len(np.unique(found.labels[clusters_before <= 1])) == 2


def test_without_an_earlier_map_no_cluster_is_kept(clusters_before):
    now = np.where(clusters_before == 4, -1, clusters_before)
    found = hold_edited(clustering_of(now), ROWS, anchors_of([edit_of(4, clusters_before, pin=True)], refit=False), [])
    np.testing.assert_array_equal(found.labels, now)


def test_merging_clusters_leaves_the_rest_of_the_tree_unchanged(clusters_before):
    layers = [np.array([0, 0, 1, 1, 1], np.int32)]
    anchors = anchors_of([edit_of(1, clusters_before, merge="m"), edit_of(4, clusters_before, merge="m")], refit=False)
    found, above = merge_edited(clustering_of(clusters_before), layers, ROWS, anchors)
    assert found.n_clusters == 4
    np.testing.assert_array_equal(found.labels == found.labels[60], (clusters_before == 1) | (clusters_before == 4))
    coarse = above[0][found.labels]
    # It lies where the larger part was.
    assert len(np.unique(coarse[(clusters_before == 0) | (clusters_before == 1) | (clusters_before == 4)])) == 1
    assert len(np.unique(coarse[(clusters_before == 2) | (clusters_before == 3)])) == 1
    assert len(np.unique(coarse)) == 2


def test_a_missing_part_of_an_edit_is_reported(clusters_before):
    gone = edit_of(1, clusters_before, merge="m", members=(9_001, 9_003))
    found, _ = merge_edited(
        clustering_of(clusters_before),
        [],
        ROWS,
        anchors_of([edit_of(0, clusters_before, merge="m"), gone], refit=False),
    )
    assert found.n_clusters == 5
    assert found.notes == ["Of the 2 clusters to be merged as 'm', 1 were found again."]


def test_an_edited_coarser_cluster_is_kept_and_the_tree_stays_nested(clusters_before):
    coarse_before = np.array([0, 0, 1, 1, 1], np.int32)[clusters_before]
    layers = [np.array([0, 0, 1, 2, 3], np.int32), np.array([0, 0, 0, 1, 1], np.int32)]
    edit = edit_of(1, coarse_before, layer=1, rename="x")
    above, notes = hold_coarser(
        clusters_before, layers, ROWS, anchors_of([edit], refit=True), [clusters_before, coarse_before]
    )
    first, second = (layer[clusters_before] for layer in above)
    assert len(np.unique(first[coarse_before == 1])) == 1
    assert not set(first[coarse_before == 1]) & set(first[coarse_before == 0])
    for group in np.unique(first):
        assert len(np.unique(second[first == group])) == 1
    assert notes == ["Of the coarser clusters, 1 were kept as they were edited: 'c1'."]


def test_an_edit_is_matched_in_another_layer_if_its_own_has_no_such_cluster(clusters_before):
    coarse = np.array([0, 0, 1, 1, 1], np.int32)[clusters_before]
    edit = edit_of(1, coarse, layer=0, rename="x")
    (match,) = match_edits([edit], ROWS, [clusters_before, coarse])
    assert (match.layer, match.cluster, match.reason) == (1, 1, "")


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (lambda clusters_before: np.full(200, -1, np.int32), "20 of its 20 documents are in no cluster now"),
        (lambda clusters_before: np.zeros(200, np.int32), "its documents are a small part of a cluster of 200 now"),
        (lambda clusters_before: (np.arange(200) % 5).astype(np.int32), "its documents are in 5 clusters now"),
    ],
)
def test_an_edit_that_matches_nothing_has_a_reason(clusters_before, now, reason):
    (match,) = match_edits([edit_of(4, clusters_before, rename="x")], ROWS, [now(clusters_before)])
    assert match.reason.startswith(reason)
    assert match.cluster == -1
