"""The cuml backend gives cuML what it wants and keeps the promises of the protocol; the libraries are stand-ins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from latentscale.backends.canary import compare_backends
from latentscale.backends.cpu.backend import CpuBackend
from latentscale.backends.cuml import calls
from latentscale.backends.cuml.backend import CumlBackend
from latentscale.backends.select import choose_backend
from latentscale.errors import ConfigError, EnvironmentFailure, MissingPackageError, ResourceError, ShapeError
from latentscale.machine import Gpu, Place
from tests.backends.cuml import fake_rapids

LAYOUT: dict[str, Any] = {
    "n_components": 2,
    "n_neighbors": 15,
    "min_dist": 0.1,
    "spread": 1.0,
    "n_epochs": 20,
    "negative_sample_rate": 5,
    "learning_rate": 1.0,
    "seed": 3,
    "threads": 1,
}
PACKAGES = {"cuml-cu13": "26.10.0", "cuvs-cu13": "26.10.0", "torch": "2.13.0"}


def blobs() -> Any:
    """Five hundred points around six in three dimensions."""
    random = np.random.default_rng(5)
    return (random.normal(size=(6, 3)) * 6)[random.integers(0, 6, 500)] + random.normal(size=(500, 3))


def place(driver: str = "580.10", packages: dict[str, str] = PACKAGES) -> Place:
    return Place(gpus=(Gpu(name="A GPU", memory_gib=80.0, driver=driver),), packages=packages)


def test_auto_uses_cuml_only_where_it_was_measured_to_be_better() -> None:
    def chosen(stage: str, documents: int) -> str:
        return choose_backend("auto", stage, place, documents=documents).backend

    assert [chosen("neighbors", n) for n in (1_000, 1_999_999, 2_000_000)] == ["torch", "torch", "cuml"]
    assert [chosen("cluster", n) for n in (1_000, 100_000)] == ["cpu", "cuml"]
    assert chosen("project", 10_000_000) == "torch"
    assert choose_backend("cuml", "project", place, documents=10).backend == "cuml"
    reason = choose_backend("auto", "project", place, documents=10).reason
    assert "cuml: it computes project only where it is asked for by name" in reason


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (Place(packages=PACKAGES), "there is no GPU"),
        (place(packages={"torch": "2.13.0"}), "not both installed: pip install 'latentscale\\[gpu\\]'"),
        (place(packages={"cuml-cu13": "26.10.0", "torch": "2.13.0"}), "cuML and cuVS are not both installed"),
        (place(packages={"cuml-cu13": "26.10.0", "cuvs-cu13": "26.10.0"}), "torch is not installed"),
        (place("550.54"), "the driver 550.54 is too old for cuml-cu13: it needs 580 or newer"),
    ],
)
def test_a_machine_without_requirements_is_refused_before_any_work(where: Place, said: str) -> None:
    with pytest.raises(ResourceError, match=said):
        choose_backend("cuml", "cluster", lambda: where)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(MissingPackageError, match=r"cuml\.cluster") as raised:
        calls.dbscan(np.zeros((4, 2), np.float32), eps=1.0, min_samples=2)
    assert "latentscale[gpu]" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("std::bad_alloc: out_of_memory: CUDA error"), "HDBSCAN does not fit in the memory of the GPU"),
        (MemoryError("std::bad_alloc: cudaErrorInsufficientDriver CUDA driver"), "cuML cannot use a GPU for"),
        (RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient"), "cuML cannot use a GPU for"),
        (RuntimeError("CUDA error encountered at: cudaErrorIllegalAddress"), "the GPU failed during HDBSCAN"),
    ],
)
def test_operations_missing_on_a_gpu_are_reported(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    def fit(self: Any, X: Any) -> Any:  # noqa: N803
        raise error

    fake_rapids.install(monkeypatch)
    monkeypatch.setattr(fake_rapids.HDBSCAN, "fit", fit)
    with pytest.raises(EnvironmentFailure, match=said) as raised:
        CumlBackend("cpu").hdbscan(
            np.random.default_rng(0).normal(size=(50, 2)),
            min_cluster_size=5,
            min_samples=5,
            cluster_selection_method="eom",
            cluster_selection_epsilon=0.0,
            threads=1,
        )
    assert raised.value.hint
    assert raised.value.exit_code == 4


def test_our_own_errors_are_not_reported_as_gpu_failures() -> None:
    with pytest.raises(ValueError, match="unknown metric"), calls.gpu_errors("HDBSCAN"):
        raise ValueError("unknown metric")


def test_clusters_of_one_density_have_no_border_points(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_rapids.install(monkeypatch)
    points = blobs()
    given: dict[str, Any] = {"eps": 0.9, "min_samples": 4, "min_cluster_size": 6, "threads": 1}
    found, truth = CumlBackend("cpu").dbscan(points, **given), CpuBackend().dbscan(points, **given)
    assert (found.backend, found.n_clusters) == ("cuml", truth.n_clusters)
    assert found.n_clusters > 1
    np.testing.assert_array_equal(found.labels, truth.labels)


def test_min_samples_above_the_limit_of_cuml_are_refused(vectors: Any) -> None:
    with pytest.raises(ConfigError, match="at most 1,023 min_samples, not 1,500"):
        CumlBackend("cpu").hdbscan(
            vectors[:, :3],
            min_cluster_size=1500,
            min_samples=None,
            cluster_selection_method="eom",
            cluster_selection_epsilon=0.0,
            threads=1,
        )


@pytest.mark.slow
def test_results_of_the_stand_ins_agree_with_the_cpu(monkeypatch: pytest.MonkeyPatch, vectors: Any) -> None:
    pytest.importorskip("torch", reason="neighbours and K-means of the backend cuml are torch's")
    fake_rapids.install(monkeypatch)
    compared = compare_backends(CumlBackend("cpu"), CpuBackend(), vectors[:200], threads=1)
    assert len(compared.checks) == 5
    assert compared.failed == ()


@pytest.mark.slow
def test_a_layout_starts_where_ours_do_and_counts_the_document_itself(
    monkeypatch: pytest.MonkeyPatch, vectors: Any
) -> None:
    pytest.importorskip("torch", reason="the backend cuml needs the package torch")
    fake_rapids.install(monkeypatch)
    some = vectors[:300]
    one = CumlBackend("cpu")
    graph = CpuBackend().neighbors(some, k=15, method="exact", recall_target=1.0, seed=0, threads=1)
    made = one.layout(graph, some, deterministic=True, **LAYOUT)
    assert (made.backend, made.details["by"]) == ("cuml", "cuML")
    same = CpuBackend().layout(graph, some, deterministic=True, **LAYOUT)
    np.testing.assert_array_equal(made.coordinates, same.coordinates)
    # cuML cannot hold coordinates: torch can.
    deep = one.layout(graph, some, deterministic=True, fixed=made.coordinates, **{**LAYOUT, "n_components": 3})
    np.testing.assert_array_equal(deep.coordinates[:, :2], made.coordinates)
    assert deep.details["by"] == "torch"
    with pytest.raises(ShapeError, match="covers 300 documents, the embedding 290"):
        one.layout(graph, some[:290], deterministic=True, **LAYOUT)
    assert one.layout(graph, some, deterministic=True, **{**LAYOUT, "n_epochs": 0}).coordinates.shape == (300, 2)


@pytest.mark.slow
def test_neighbours_of_cuvs_are_measured_again_and_searched_wider(
    monkeypatch: pytest.MonkeyPatch, vectors: Any
) -> None:
    pytest.importorskip("torch", reason="distances are measured by torch")
    fake_rapids.install(monkeypatch)

    some = vectors[:1200]

    def search(method: str, target: float = 0.95) -> Any:
        return CumlBackend("cpu").neighbors(some, k=15, method=method, recall_target=target, seed=0, threads=1)

    truth = CpuBackend().neighbors(some, k=15, method="exact", recall_target=1.0, seed=0, threads=1)
    found = search("nn_descent")
    assert (found.backend, found.method, len(found.details["tried"])) == ("cuml", "nn_descent", 1)
    assert found.recall > 0.99
    np.testing.assert_array_equal(found.indices, truth.indices)
    np.testing.assert_allclose(found.distances, truth.distances, atol=1e-6)
    fake_rapids.lost[:] = [0.5]
    wider = search("nn_descent")
    assert [round(one["recall"], 1) for one in wider.details["tried"]][1:] == [1.0]
    assert wider.details["tried"][0]["recall"] < 0.7
    assert wider.details["tried"][1]["degree"] == 2 * wider.details["tried"][0]["degree"]
    fake_rapids.lost[:] = [0.5, 0.5]
    gone = search("nn_descent")
    assert (gone.method, gone.recall, gone.backend) == ("exact", 1.0, "cuml")
    assert "did not reach the recall" in gone.notes[0]
    np.testing.assert_allclose(gone.distances, truth.distances, atol=1e-6)
    # A card that does not hold them has the rows in parts.
    monkeypatch.setattr("latentscale.backends.cuml.neighbors.free_bytes", lambda device: 2e6)
    assert search("nn_descent").details["tried"][0]["parts"] > 2
    monkeypatch.setattr("latentscale.backends.cuml.backend.EXACT_DOCUMENTS", 1_000)
    assert search("auto").method == "nn_descent"
    assert search("exact").method == "exact"
    with pytest.raises(ConfigError, match="no search 'pynndescent'"):
        search("pynndescent")


def test_clusters_by_density(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_rapids.install(monkeypatch)
    given: dict[str, Any] = {
        "min_cluster_size": 20,
        "min_samples": 10,
        "cluster_selection_method": "eom",
        "cluster_selection_epsilon": 0.0,
        "threads": 1,
    }
    points = blobs()
    found, truth = CumlBackend("cpu").hdbscan(points, **given), CpuBackend().hdbscan(points, **given)
    assert found.n_clusters > 2
    assert (found.backend, found.details["by"], found.labels.dtype) == ("cuml", "cuML", np.int32)
    assert adjusted_rand_score(found.labels, truth.labels) > 0.9
    assert CumlBackend("cpu").hdbscan(points[:2], **given).n_clusters == 0
