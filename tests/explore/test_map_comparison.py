"""Comparing two maps of the same documents: displacement, neighbours and clusters."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from latentscale.errors import WorkspaceError
from latentscale.explore.map_comparison import Layout, cluster_changes, compare_layouts, neighbours_kept
from latentscale.explore.map_diff import diff_of_members


def layout(coordinates: np.ndarray, clusters: np.ndarray | None = None, *, first: int = 0) -> Layout:
    n = len(coordinates)
    return Layout(
        row_ids=first + np.arange(n, dtype=np.int64) * 2,
        coordinates=coordinates.astype(np.float32),
        clusters=np.zeros(n, np.int32) if clusters is None else clusters.astype(np.int32),
    )


def test_a_turned_and_mirrored_map_has_not_moved_and_who_moved_is_found() -> None:
    points = np.random.default_rng(1).normal(size=(400, 2))
    turned = points @ np.array([[0.0, -2.0], [-2.0, 0.0]]) + 5
    found = compare_layouts(layout(points), layout(turned))
    assert found.moved.max() < 1e-5
    assert found.kept.min() == 1
    size = np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
    turned[7] += 30
    found = compare_layouts(layout(points), layout(turned))
    assert found.moved.argmax() == 7
    assert found.moved[7] == pytest.approx(np.sqrt(2) * 15 / size, rel=1e-3)
    assert np.delete(found.moved, 7).max() < 1e-3
    assert found.kept[7] < 0.5


def test_only_documents_of_both_are_compared() -> None:
    points = np.random.default_rng(2).normal(size=(50, 2))
    found = compare_layouts(layout(points), layout(points[10:], first=20))
    assert found.row_ids.tolist() == list(range(20, 100, 2))
    assert found.only == (10, 0)
    assert found.moved.max() < 1e-5
    with pytest.raises(WorkspaceError, match="no document in common"):
        compare_layouts(layout(points), layout(points, first=1))


def test_neighbours_are_those_of_an_exhaustive_search_copies_included() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(size=(2, 60, 2)).astype(np.float32)
    kept = neighbours_kept(first, second, k=5)
    near = []
    for points in (first, second):
        apart = np.linalg.norm(points[:, None] - points[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        near.append(np.argsort(apart, axis=1)[:, :5])
    assert kept.tolist() == pytest.approx([len(set(a) & set(b)) / 5 for a, b in zip(*near, strict=True)])
    assert neighbours_kept(np.zeros((40, 2), np.float32), np.zeros((40, 2), np.float32), k=5).shape == (40,)
    assert neighbours_kept(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), k=5).tolist() == [1]
    assert neighbours_kept(first[:3], second[:3], k=5).tolist() == [1, 1, 1]


def test_clusters_stay_split_merge_and_dissolve() -> None:
    parts = [  # before, after, documents
        (0, 7, 90),  # 0 stays the same, under another id
        (0, -1, 10),
        (1, 3, 40),  # 1 splits
        (1, 4, 35),
        (1, 5, 5),
        (2, 6, 30),  # 2 and 3 merge
        (3, 6, 25),
        (4, -1, 20),  # 4 is noise then
        (4, 3, 2),
        (5, 6, 8),  # 5 goes into it with half: it does not count among those that merge, and is in no other
        (5, -1, 8),
        (-1, 8, 50),  # noise is no cluster
    ]
    before, after = (np.repeat([part[k] for part in parts], [part[2] for part in parts]) for k in (0, 1))
    found = [(one.change, one.before, one.after, one.documents) for one in cluster_changes(before, after)]
    assert found == [
        ("same", [0], [7], 100),
        ("split", [1], [3, 4], 80),
        ("merged", [2, 3], [6], 55),
        ("dissolved", [4], [], 22),
        ("dissolved", [5], [6], 16),
    ]
    moved = cluster_changes(np.array([0] * 10 + [-1] * 90), np.array([3] * 100))
    assert [(one.change, one.after) for one in moved] == [("moved", [3])]


def test_neighbours_of_a_sample_are_sought_among_all() -> None:
    points = np.random.default_rng(4).normal(size=(300, 2))
    other = points + np.random.default_rng(5).normal(size=points.shape) * 0.1
    whole = compare_layouts(layout(points), layout(other), k=5)
    some = compare_layouts(layout(points), layout(other), k=5, sample=40, seed=1)
    rows = np.sort(np.random.default_rng(1).choice(300, 40, replace=False))
    assert some.kept.tolist() == whole.kept[rows].tolist()
    assert some.moved.tolist() == whole.moved.tolist()
    assert 0 < some.kept.mean() < 1


def members(row_ids: range, clusters: list[int], nearest: list[int] | None = None) -> pl.DataFrame:
    return pl.DataFrame({"row_id": [*row_ids], "cluster": clusters, "nearest_cluster": nearest or clusters})


def test_clusters_are_compared_on_shared_documents_and_changes_are_listed() -> None:
    first = members(range(0, 12), [5] * 3 + [0] * 4 + [1] * 3 + [-1] * 2, [5] * 3 + [0] * 4 + [1] * 5)
    # The first three are gone; the clusters have other numbers; one is noise that was in a cluster; three are new.
    second = members(range(3, 15), [1] * 4 + [0] * 2 + [-1] + [-1, 0] + [7] * 3, [1] * 4 + [0] * 5 + [7] * 3)
    found = diff_of_members(first, second)
    assert (found["documents"], found["only_first"], found["only_second"]) == (9, 3, 3)
    assert found["noise"] == {"both": 1, "only_first": 1, "only_second": 1}
    assert found["agreement_nearest"] == {"ari": 1, "nmi": 1}
    x, y = [0] * 4 + [1] * 3 + [-1] * 2, [1] * 4 + [0] * 2 + [-1] + [-1, 0]
    assert found["agreement"]["ari"] == round(adjusted_rand_score(x, y), 4) < 1
    assert [(one["change"], one["before"], one["after"]) for one in found["changes"]] == [
        ("same", [0], [1]),
        ("same", [1], [0]),
    ]
    assert (found["gone"], found["new"]) == ([5], [7])
    nothing = diff_of_members(first, members(range(50, 52), [0, 0]))
    assert (nothing["documents"], nothing["agreement"]) == (0, {"ari": None, "nmi": None})
    assert (nothing["gone"], nothing["new"]) == ([0, 1, 5], [0])
