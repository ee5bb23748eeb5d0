"""Clusters by torch are those of an exact tree and of the processors' K-means, on processors and on a pretended GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.metrics import adjusted_rand_score, pairwise_distances

from latentscale.backends.cpu.backend import CpuBackend
from latentscale.backends.cpu.clustering import exact_hdbscan, hdbscan
from latentscale.backends.torch.backend import TorchBackend
from latentscale.errors import CorpusError, EnvironmentFailure

torch: Any = pytest.importorskip("torch", reason="the backend torch needs the package torch")
pytestmark = pytest.mark.slow

DENSITY: dict[str, Any] = {"min_samples": 10, "cluster_selection_epsilon": 0.0, "threads": 1}


@pytest.fixture(scope="module")
def points() -> Any:
    """Groups of different density in five dimensions, noise between them, and sixty documents at one point."""
    random = np.random.default_rng(4)
    centers = random.normal(size=(8, 5)) * 8
    made = centers[random.integers(0, 8, 1000)] + random.normal(size=(1000, 5)) * random.uniform(0.2, 2, (1000, 1))
    made[200:260] = made[200]
    return made.astype(np.float32)


@pytest.fixture(scope="module", params=["cpu", "pretended"])
def backend(request: pytest.FixtureRequest) -> Iterator[TorchBackend]:
    if request.param == "cpu":
        yield TorchBackend("cpu")
        return
    from tests.backends.torch.pretend_cuda import PretendCuda

    with PretendCuda():
        yield TorchBackend("cuda:0")


@pytest.mark.parametrize(("n", "width", "least"), [(1000, 5, 10), (500, 2, 3), (200, 20, 5), (40, 5, 39), (3, 2, 1)])
def test_the_spanning_tree_is_the_shortest(backend: TorchBackend, points: Any, n: int, width: int, least: int) -> None:
    from latentscale.backends.torch.spanning import spanning_tree

    some = np.tile(points, 4)[:n, :width] if width > 5 else points[:n, :width]
    tree = spanning_tree(some, min_samples=least, device=backend.device)
    assert tree.shape == (n - 1, 3)
    assert (np.diff(tree[:, 2]) >= 0).all()
    apart = pairwise_distances(some.astype(np.float64))
    core = np.sort(apart, axis=1)[:, least]
    reach = np.maximum(np.maximum(apart, core[:, None]), core[None])
    ends = tree[:, :2].astype(int)
    np.testing.assert_allclose(tree[:, 2], reach[ends[:, 0], ends[:, 1]], atol=1e-6)
    # Scipy takes a weight near 0 for no edge.
    truth = np.sort(minimum_spanning_tree(reach + 1.0).data) - 1.0
    np.testing.assert_allclose(tree[:, 2], truth, atol=1e-6)


@pytest.mark.parametrize("method", ["eom", "leaf"])
def test_clusters_by_density_are_those_of_an_exact_tree(backend: TorchBackend, points: Any, method: Any) -> None:
    given = DENSITY | {"min_cluster_size": 15, "cluster_selection_method": method}
    found = backend.hdbscan(points, **given)
    del given["threads"]
    truth = hdbscan(points, **given, fit=exact_hdbscan)
    assert (found.backend, found.method, found.details["device"]) == ("torch", "hdbscan", str(backend.device))
    assert found.n_clusters >= 7
    # What differs is which of several ways of one length joins two groups.
    assert adjusted_rand_score(truth.labels, found.labels) >= 0.97
    assert found.n_clusters == truth.n_clusters
    np.testing.assert_allclose(found.persistence, truth.persistence, atol=0.02)
    assert np.abs(found.probabilities - truth.probabilities).mean() < 0.01


def test_clusters_are_the_same_bits_again(backend: TorchBackend, points: Any, vectors: Any) -> None:
    for work in (
        partial(backend.hdbscan, points, **DENSITY, min_cluster_size=15, cluster_selection_method="eom"),
        partial(backend.kmeans, vectors[:500], n_clusters=12, seed=3, threads=1),
    ):
        once, again = work(), work()
        assert once.labels.tobytes() == again.labels.tobytes()
        assert once.probabilities.tobytes() == again.probabilities.tobytes()


@pytest.mark.parametrize("eps", [None, 1.0])
def test_clusters_of_one_density_are_those_of_the_processors(
    backend: TorchBackend, points: Any, eps: float | None
) -> None:
    given: dict[str, Any] = {"eps": eps, "min_samples": 5, "min_cluster_size": 5, "threads": 1}
    found, truth = backend.dbscan(points, **given), CpuBackend().dbscan(points, **given)
    assert found.n_clusters > 1
    assert adjusted_rand_score(truth.labels, found.labels) >= 0.97
    assert found.details["eps"] == pytest.approx(truth.details["eps"], rel=0.01)


@pytest.mark.parametrize("count", [12, None])
def test_directions_are_those_of_the_processors(backend: TorchBackend, vectors: Any, count: int | None) -> None:
    given: dict[str, Any] = {"n_clusters": count, "seed": 3, "threads": 1}
    found, truth = backend.kmeans(vectors[:240], **given), CpuBackend().kmeans(vectors[:240], **given)
    assert found.backend == "torch"
    assert found.n_clusters == truth.n_clusters
    assert (found.labels == truth.labels).mean() > 0.99
    np.testing.assert_allclose(found.probabilities.mean(), truth.probabilities.mean(), atol=1e-4)


def test_directions_of_a_matrix_that_stays_on_the_host(
    backend: TorchBackend, vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = backend.kmeans(vectors[:500], n_clusters=9, seed=1, threads=1)
    monkeypatch.setattr("latentscale.backends.torch.kmeans._RESIDENT_SHARE", 0.0)
    pieces = backend.kmeans(vectors[:500], n_clusters=9, seed=1, threads=1)
    np.testing.assert_array_equal(pieces.labels, whole.labels)


def test_a_subset_of_rows_behaves_like_a_matrix(vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from latentscale.backends.torch.kmeans import lloyd

    rows, start = np.arange(1, len(vectors), 3), vectors[:300]
    alone = lloyd(vectors[rows], start, settled=100, device=torch.device("cpu"))
    for share in (0.6, 0.0):
        monkeypatch.setattr("latentscale.backends.torch.kmeans._RESIDENT_SHARE", share)
        found = lloyd(vectors, start, rows=rows, settled=100, device=torch.device("cpu"))
        np.testing.assert_array_equal(found[0], alone[0])
        np.testing.assert_allclose(found[1], alone[1], atol=1e-6)


def test_many_clusters_are_as_good_as_those_of_the_processors(backend: TorchBackend, vectors: Any) -> None:
    given: dict[str, Any] = {"n_clusters": 300, "seed": 0, "threads": 1}
    found, truth = backend.kmeans(vectors, **given), CpuBackend().kmeans(vectors, **given)
    assert found.n_clusters == truth.n_clusters
    assert found.probabilities.mean() == pytest.approx(truth.probabilities.mean(), rel=0.005)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 11])
def test_a_handful_of_documents(backend: TorchBackend, points: Any, n: int) -> None:
    given = DENSITY | {"min_cluster_size": 2, "cluster_selection_method": "eom"}
    found, truth = backend.hdbscan(points[:n], **given), CpuBackend().hdbscan(points[:n], **given)
    assert found.notes == truth.notes
    assert len(found.labels) == n
    assert backend.kmeans(points[:n], n_clusters=3, seed=0, threads=1).n_clusters == min(n, 3)
    assert len(backend.dbscan(points[:n], eps=1.0, min_samples=2, min_cluster_size=2, threads=1).labels) == n


def test_documents_that_are_all_alike_are_one_cluster(backend: TorchBackend, points: Any) -> None:
    alike = np.repeat(points[:1], 300, axis=0)
    given = DENSITY | {"min_cluster_size": 5, "cluster_selection_method": "eom"}
    assert backend.hdbscan(alike, **given).n_clusters == 1
    # Two points with many documents each, and nothing between them.
    halves = np.concatenate((alike, alike + 9.0))
    assert backend.hdbscan(halves, **given).n_clusters == 2


def test_sets_that_cannot_be_clustered_are_refused(backend: TorchBackend, points: Any) -> None:
    bad = points.copy()
    bad[7, 1] = np.inf
    with pytest.raises(CorpusError, match="not numbers"):
        backend.hdbscan(bad, **DENSITY, min_cluster_size=5, cluster_selection_method="eom")


def test_too_little_memory_is_reported(points: Any, vectors: Any) -> None:
    from tests.backends.torch.pretend_cuda import PretendCuda

    with PretendCuda(memory=200_000):
        small = TorchBackend("cuda:0")
        with pytest.raises(EnvironmentFailure, match="the spanning tree does not fit in the memory of cuda:0"):
            small.hdbscan(points, **DENSITY, min_cluster_size=5, cluster_selection_method="eom")
        with pytest.raises(EnvironmentFailure, match="K-means does not fit in the memory of cuda:0"):
            small.kmeans(vectors, n_clusters=12, seed=0, threads=1)
