"""The torch backend gives what the processors' kernels give, on processors and on a device that says it is CUDA."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from latentscale.backends.cpu.backend import CpuBackend
from latentscale.backends.torch.backend import TorchBackend
from latentscale.errors import ConfigError, CorpusError, EnvironmentFailure, ShapeError

torch: Any = pytest.importorskip("torch", reason="the backend torch needs the package torch")
pytestmark = pytest.mark.slow

LAYOUT = {
    "n_components": 2,
    "n_neighbors": 15,
    "min_dist": 0.1,
    "spread": 1.0,
    "n_epochs": 40,
    "negative_sample_rate": 5,
    "learning_rate": 1.0,
    "seed": 3,
    "threads": 1,
}


@pytest.fixture(scope="module")
def some(vectors: Any) -> Any:
    """Enough for a layout that can be judged: on processors a batch of torch costs forty times a kernel's."""
    return vectors[:400]


@pytest.fixture(scope="module", params=["cpu", "pretended"])
def backend(request: pytest.FixtureRequest) -> Iterator[TorchBackend]:
    if request.param == "cpu":
        yield TorchBackend("cpu")
        return
    from tests.backends.torch.pretend_cuda import PretendCuda

    with PretendCuda():
        yield TorchBackend("cuda:0")


def neighbors(one: Any, vectors: Any, k: int = 15) -> Any:
    return one.neighbors(vectors, k=k, method="auto", recall_target=0.95, seed=7, threads=1)


def test_the_neighbours_are_those_of_the_processors(backend: TorchBackend, vectors: Any) -> None:
    graph, truth = neighbors(backend, vectors), neighbors(CpuBackend(), vectors)
    assert (graph.backend, graph.method) == ("torch", "exact")
    assert graph.recall == pytest.approx(1.0, abs=0.002)
    # Candidates in half precision may miss one that is farther by less than they can tell.
    assert np.isclose(graph.distances, truth.distances, atol=1e-6).mean() > 0.9998
    np.testing.assert_allclose(graph.distances, truth.distances, atol=1e-3)
    # What differs is which of several that are equally near, to the last bit of float32, are taken.
    assert (graph.indices == truth.indices).mean() > 0.99
    # Twenty documents have one vector: each has the first fifteen others of them.
    np.testing.assert_array_equal(graph.indices[100:120], truth.indices[100:120])
    assert (graph.distances[100:120] == 0).all()


def test_a_matrix_that_stays_on_the_host_gives_the_same(
    backend: TorchBackend, vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = neighbors(backend, vectors)
    monkeypatch.setattr("latentscale.backends.torch.neighbors._RESIDENT_SHARE", 0.0)
    monkeypatch.setattr("latentscale.backends.torch.neighbors._BLOCK_ROWS", 700)
    monkeypatch.setattr("latentscale.backends.torch.neighbors._COLUMNS", 900)
    pieces = neighbors(backend, vectors)
    assert (whole.details["on_device"], pieces.details["on_device"]) == (True, False)
    assert np.isclose(pieces.distances, whole.distances, atol=1e-6).mean() > 0.9998
    assert (pieces.indices == whole.indices).mean() > 0.99


def test_several_devices_give_the_graph_of_one(vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentscale.backends.torch.neighbors._BLOCK_ROWS", 500)
    one, three = (neighbors(TorchBackend("cpu", others=others), vectors) for others in ((), ("cpu", "cpu")))
    assert (three.details["devices"], "devices" in one.details) == (3, False)
    np.testing.assert_array_equal(three.indices, one.indices)
    np.testing.assert_array_equal(three.distances, one.distances)


def test_a_device_that_is_lost_in_the_middle_ends_the_search(vectors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from latentscale.backends.torch import neighbors as module

    right, asked = module._candidates, []
    # Each device asks from a thread of its own: of two that count at once, one is the third.
    numbers = itertools.count(1)

    def candidates(*given: Any, **named: Any) -> Any:
        asked.append(given[1])
        if next(numbers) == 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return right(*given, **named)

    monkeypatch.setattr(module, "_candidates", candidates)
    monkeypatch.setattr(module, "_BLOCK_ROWS", 100)
    with pytest.raises(EnvironmentFailure, match="failed during the neighbour search") as raised:
        neighbors(TorchBackend("cpu", others=("cpu",)), vectors)
    assert "finished stages are kept" in str(raised.value.hint)
    assert len(asked) < 30


def test_a_height_leaves_the_flat_map_where_it_is(backend: TorchBackend, some: Any) -> None:
    graph = neighbors(CpuBackend(), some)
    flat = CpuBackend().layout(graph, some, deterministic=True, **LAYOUT).coordinates
    found = backend.layout(graph, some, deterministic=False, fixed=flat, **{**LAYOUT, "n_components": 3})
    np.testing.assert_array_equal(found.coordinates[:, :2], flat)
    assert np.ptp(found.coordinates[:, 2]) > 0.1
    with pytest.raises(ShapeError, match="fixed coordinates"):
        backend.layout(graph, some, deterministic=False, fixed=flat[:-1], **{**LAYOUT, "n_components": 3})


def test_a_layout_starts_where_an_earlier_one_ended(backend: TorchBackend, some: Any) -> None:
    graph = neighbors(CpuBackend(), some)
    earlier = CpuBackend().layout(graph, some, deterministic=True, **LAYOUT).coordinates
    again = {**LAYOUT, "n_epochs": 10, "learning_rate": 0.01}
    found = backend.layout(graph, some, deterministic=True, init=earlier, **again).coordinates
    assert 0 < np.median(np.linalg.norm(found - earlier, axis=1)) < 0.3


def test_densities_are_kept_as_on_the_processors(backend: TorchBackend, some: Any) -> None:
    from latentscale.backends.cpu.density import log_radii
    from latentscale.backends.cpu.layout import density_correlation, fuzzy_graph

    graph = neighbors(CpuBackend(), some)
    fuzzy = fuzzy_graph(graph, n_neighbors=15)
    truth = log_radii(fuzzy, graph)
    found = backend._radii(graph, backend._edges(graph, 15, deterministic=True), deterministic=True)
    assert found is not None
    np.testing.assert_allclose(found.cpu().numpy(), truth, atol=1e-3)
    kept: dict[tuple[str, float], float] = {}
    for name, one in (("torch", backend), ("cpu", CpuBackend())):
        for weight in (0.0, 1.0):
            made = one.layout(graph, some, deterministic=True, **LAYOUT, density_weight=weight)
            measured = density_correlation(fuzzy, truth, made.coordinates, min_dist=0.1, spread=1.0, threads=1)
            assert measured is not None
            kept[name, weight] = measured
            if weight:
                assert made.details["density_correlation"] == pytest.approx(measured, abs=0.01)
    assert kept["torch", 1.0] > kept["torch", 0.0] + 0.1
    # In few epochs, of moves that do not follow each other, it comes less far.
    assert kept["torch", 1.0] > kept["cpu", 1.0] - 0.2


def test_the_fuzzy_set_is_that_of_the_processors(backend: TorchBackend, vectors: Any) -> None:
    from latentscale.backends.cpu.layout import fuzzy_graph

    graph = neighbors(CpuBackend(), vectors)
    edges = backend._edges(graph, 15, deterministic=True)
    assert edges is not None
    truth = fuzzy_graph(graph, n_neighbors=15)
    low, high, weight = (np.array(part.cpu().numpy()) for part in (edges.low, edges.high, edges.weight))
    assert (low < high).all()
    np.testing.assert_allclose(np.asarray(truth[low, high]).ravel(), weight, atol=2e-5)
    assert len(weight) == int((truth.data > 1e-6).sum()) // 2


def test_a_layout_is_as_faithful_as_one_of_the_processors(backend: TorchBackend, some: Any) -> None:
    graph = neighbors(CpuBackend(), some)
    judged: dict[str, Any] = {}
    for name, one in (("torch", backend), ("cpu", CpuBackend())):
        made = one.layout(graph, some, deterministic=True, **LAYOUT)
        assert (made.backend, made.deterministic) == (name, True)
        assert np.isfinite(made.coordinates).all()
        judged[name] = CpuBackend().faithfulness(some, made.coordinates, k=15, sample=1000, seed=0, threads=1)
    assert judged["torch"].trustworthiness > judged["cpu"].trustworthiness - 0.01
    assert judged["torch"].preservation > judged["cpu"].preservation - 0.02


def test_a_layout_is_repeatable_to_the_bit(backend: TorchBackend, some: Any) -> None:
    graph = neighbors(CpuBackend(), some)
    short = {**LAYOUT, "n_epochs": 8}
    once, again = (backend.layout(graph, some, deterministic=True, **short).coordinates for _ in range(2))
    assert once.tobytes() == again.tobytes()
    other = backend.layout(graph, some, deterministic=True, **{**short, "seed": 4}).coordinates
    assert once.tobytes() != other.tobytes()


def test_the_figures_are_those_of_the_processors(backend: TorchBackend, some: Any) -> None:
    flat = CpuBackend().layout(neighbors(CpuBackend(), some), some, deterministic=True, **LAYOUT).coordinates
    given = {"k": 15, "sample": 800, "seed": 1, "threads": 1}
    ours, truth = (one.faithfulness(some, flat, **given) for one in (backend, CpuBackend()))
    assert (ours.k, ours.sample) == (truth.k, truth.sample)
    assert ours.trustworthiness == pytest.approx(truth.trustworthiness, abs=1e-4)
    assert ours.preservation == pytest.approx(truth.preservation, abs=1e-3)


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17])
def test_a_handful_of_documents(backend: TorchBackend, vectors: Any, n: int) -> None:
    few = vectors[:n]
    graph, truth = neighbors(backend, few), neighbors(CpuBackend(), few)
    np.testing.assert_array_equal(graph.indices, truth.indices)
    made = backend.layout(graph, few, deterministic=True, **{**LAYOUT, "n_epochs": 8})
    assert made.coordinates.shape == (n, 2)
    assert np.isfinite(made.coordinates).all()


def test_documents_that_are_all_alike(backend: TorchBackend, vectors: Any) -> None:
    alike = np.repeat(vectors[:1], 200, axis=0)
    graph = neighbors(backend, alike)
    assert (graph.distances == 0).all()
    np.testing.assert_array_equal(graph.indices, neighbors(CpuBackend(), alike).indices)
    assert np.isfinite(backend.layout(graph, alike, deterministic=True, **{**LAYOUT, "n_epochs": 8}).coordinates).all()


def test_invalid_inputs_are_refused(backend: TorchBackend, vectors: Any) -> None:
    bad = vectors.copy()
    bad[7, 3] = np.nan
    with pytest.raises(CorpusError, match="not a number"):
        neighbors(backend, bad)
    graph = neighbors(CpuBackend(), vectors[:50], k=5)
    with pytest.raises(ShapeError, match="needs 14"):
        backend.layout(graph, vectors[:50], deterministic=True, **LAYOUT)
    graph = neighbors(CpuBackend(), vectors[:50])
    with pytest.raises(ShapeError, match="covers 50 documents, the embedding 60"):
        backend.layout(graph, vectors[:60], deterministic=True, **LAYOUT)
    with pytest.raises(ConfigError, match="no search 'pynndescent'"):
        backend.neighbors(vectors, k=5, method="pynndescent", recall_target=0.9, seed=0, threads=1)


def test_too_little_memory_is_reported(vectors: Any) -> None:
    from tests.backends.torch.pretend_cuda import PretendCuda

    with PretendCuda(memory=100_000), pytest.raises(EnvironmentFailure, match="does not fit in the memory of cuda:0"):
        neighbors(TorchBackend("cuda:0"), vectors)


def test_a_layout_is_shown_after_each_quarter_and_stays_the_same(backend: TorchBackend, some: Any) -> None:
    graph = neighbors(backend, some)
    settings = {**LAYOUT, "n_epochs": 10, "deterministic": True}
    seen: list[tuple[Any, int, int]] = []
    plain = backend.layout(graph, some, **settings).coordinates
    shown = backend.layout(graph, some, **settings, preview=lambda c, done, of: seen.append((c.copy(), done, of)))
    assert shown.coordinates.tobytes() == plain.tobytes()
    assert [(done, of) for _, done, of in seen] == [(3, 10), (5, 10), (8, 10)]
    assert all(c.shape == plain.shape and c.dtype == np.float32 for c, _, _ in seen)
    ways = [float(np.abs(c - plain).mean()) for c, _, _ in seen]
    assert ways[0] > ways[-1] > 0
