"""The processors' own spanning tree is the shortest one, and gives the clusters of the package ``hdbscan``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.metrics import adjusted_rand_score, pairwise_distances

from latentscale.backends.cpu import backend as cpu
from latentscale.backends.cpu.clustering import exact_hdbscan, hdbscan
from latentscale.backends.cpu.spanning import spanning_tree


def groups(n: int, width: int, *, seed: int = 4) -> Any:
    """Groups of different density, and noise between them."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(8, width)) * 8
    made = centers[random.integers(0, 8, n)] + random.normal(size=(n, width)) * random.uniform(0.2, 2, (n, 1))
    return made.astype(np.float32)


def reachabilities(points: Any, least: int) -> Any:
    """Of all pairs."""
    apart = pairwise_distances(points.astype(np.float64))
    # The package subtracts squares: copies of a point may have a tiny distance there.
    np.fill_diagonal(apart, 0.0)
    core = np.sort(apart, axis=1)[:, least]
    return np.maximum(np.maximum(apart, core[:, None]), core[None])


def check(points: Any, least: int, *, threads: int = 1) -> Any:
    """The tree has every point, its lengths are those of its ways, and none is shorter."""
    n = len(points)
    tree = spanning_tree(points, min_samples=least, threads=threads)
    assert tree.shape == (n - 1, 3)
    assert (np.diff(tree[:, 2]) >= 0).all()
    ends = tree[:, :2].astype(int)
    reach = reachabilities(points, least)
    np.testing.assert_allclose(tree[:, 2], reach[ends[:, 0], ends[:, 1]], atol=1e-5)
    # Scipy takes a weight near 0 for no edge.
    truth = np.sort(minimum_spanning_tree(reach + 1.0).data) - 1.0
    np.testing.assert_allclose(tree[:, 2], truth, atol=1e-5)
    joined = minimum_spanning_tree(np.bincount(ends[:, 0] * n + ends[:, 1], minlength=n * n).reshape(n, n).clip(max=1))
    assert joined.nnz == n - 1, "the ways form no circle"
    return tree


@pytest.mark.parametrize(
    ("n", "width", "least"),
    [(1500, 5, 10), (900, 2, 1), (700, 3, 30), (400, 12, 5), (60, 5, 59), (17, 5, 10), (3, 2, 1), (2, 5, 1)],
)
def test_it_is_the_shortest(n: int, width: int, least: int) -> None:
    check(groups(n, width), least)


@pytest.mark.parametrize("copies", [3, 11, 60, 399])
def test_copies_of_a_point_are_others_of_it(copies: int) -> None:
    points = groups(400, 5)
    points[: copies + 1] = points[0]
    points[390:396] = points[396]
    # The order of the corpus is any.
    check(points[np.random.default_rng(1).permutation(400)], 10)


def test_a_grid_where_all_ways_have_a_few_lengths() -> None:
    sides = np.arange(9.0, dtype=np.float32)
    check(np.stack(np.meshgrid(sides, sides, sides), axis=-1).reshape(-1, 3), 4)


def test_a_line_and_one_far_away() -> None:
    points = np.zeros((300, 5), np.float32)
    points[:, 2] = np.linspace(0, 1, 300) ** 3
    points[7] = 1e6
    check(points, 5)


def test_it_does_not_depend_on_threads() -> None:
    points = groups(20_000, 5)
    once = spanning_tree(points, min_samples=10, threads=1)
    for _ in range(3):
        assert spanning_tree(points, min_samples=10, threads=4).tobytes() == once.tobytes()


def test_large_layouts_have_the_clusters_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    points = groups(3_000, 5)
    given: dict[str, Any] = {
        "min_cluster_size": 20,
        "min_samples": 10,
        "cluster_selection_method": "eom",
        "cluster_selection_epsilon": 0.0,
    }
    truth = hdbscan(points, **given, fit=exact_hdbscan)
    backend = cpu.CpuBackend()
    by_package = backend.hdbscan(points, **given, threads=1)
    assert backend._tree is None
    monkeypatch.setattr(cpu, "OWN_TREE", 3_000)
    found = backend.hdbscan(points, **given, threads=2)
    assert backend._tree is not None, "it is our own tree"
    assert adjusted_rand_score(truth.labels, found.labels) > 0.99
    assert found.n_clusters == truth.n_clusters == by_package.n_clusters
    leaf = backend.hdbscan(points, **(given | {"cluster_selection_method": "leaf"}), threads=2)
    assert leaf.n_clusters >= found.n_clusters


def test_a_search_for_settings_joins_the_points_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "OWN_TREE", 1_000)
    trees: list[int] = []
    made = cpu.CpuBackend._spanning_tree

    def counted(self: Any, points: Any, **settings: Any) -> Any:
        trees.append(settings["min_samples"])
        return made(self, points, **settings)

    monkeypatch.setattr(cpu.CpuBackend, "_spanning_tree", counted)
    backend = cpu.CpuBackend()
    points, others = groups(1_000, 5), groups(1_000, 5, seed=5)
    fit = partial(
        backend.hdbscan, cluster_selection_method="eom", cluster_selection_epsilon=0.0, threads=1, min_samples=5
    )
    sizes = [fit(points, min_cluster_size=size).n_clusters for size in (5, 50, 200)]
    assert trees == [5]
    assert sizes[0] >= sizes[1] >= sizes[2]
    assert fit(others, min_cluster_size=50).labels.tolist() != fit(points, min_cluster_size=50).labels.tolist()
    backend.dbscan(points, eps=None, min_samples=5, min_cluster_size=5, threads=1)
    assert trees == [5, 5, 5]


def test_vectors_of_many_dimensions_are_left_to_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "OWN_TREE", 100)
    backend = cpu.CpuBackend()
    backend.dbscan(groups(200, 40), eps=None, min_samples=5, min_cluster_size=5, threads=1)
    assert backend._tree is None
