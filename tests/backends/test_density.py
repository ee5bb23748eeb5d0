"""densMAP: the map preserves densities in the embedding as well as neighbourhoods."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from latentscale.backends.cpu.backend import CpuBackend
from latentscale.backends.cpu.density import DensityTerm, log_radii
from latentscale.backends.cpu.faithfulness import faithfulness
from latentscale.backends.cpu.layout import density_correlation, fuzzy_graph, layout
from latentscale.backends.cpu.neighbors import nearest_neighbors


@pytest.fixture(scope="module")
def uneven() -> np.ndarray:
    """Vectors of length 1 around eight directions, each set wider than the one before."""
    random = np.random.default_rng(4)
    centers = random.normal(size=(8, 32))
    topic = np.arange(1600) % 8
    made = centers[topic] + (0.08 * 1.4**topic)[:, None] * random.normal(size=(1600, 32))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def graph_of(vectors, k=15):
    return nearest_neighbors(vectors, k=k, method="exact", recall_target=1.0, seed=0, threads=2)


def lay_out(graph, vectors, weight, **other):
    settings = {
        "n_components": 2,
        "n_neighbors": 15,
        "min_dist": 0.1,
        "spread": 1.0,
        "n_epochs": 200,
        "negative_sample_rate": 5,
        "learning_rate": 1.0,
        "deterministic": True,
        "seed": 3,
        "threads": 2,
    }
    return CpuBackend().layout(graph, vectors, **(settings | other), density_weight=weight)


def test_densities_are_kept_as_far_as_they_are_asked_for(uneven):
    graph = graph_of(uneven)
    fuzzy = fuzzy_graph(graph, n_neighbors=15)
    radii = log_radii(fuzzy, graph)
    kept, trust = {}, {}
    for weight in (0.0, 0.2, 2.0):
        done = lay_out(graph, uneven, weight)
        found = density_correlation(fuzzy, radii, done.coordinates, min_dist=0.1, spread=1.0, threads=2)
        assert found is not None
        kept[weight] = found
        trust[weight] = faithfulness(uneven, done.coordinates, k=15, sample=500, seed=0, threads=2).trustworthiness
        assert done.details.get("density_correlation") == (round(found, 4) if weight else None)
        assert bool(done.notes) == bool(weight)
    assert kept[0.0] < kept[0.2] < kept[2.0]
    assert kept[2.0] > 0.9
    assert trust[0.2] > trust[0.0] - 0.02


def test_radii_are_those_of_the_definition(uneven):
    some = uneven[:200]
    graph = graph_of(some)
    fuzzy = fuzzy_graph(graph, n_neighbors=15).toarray()
    distances = 1.0 - np.asarray(some, np.float64) @ some.T.astype(np.float64)
    expected = np.log((fuzzy * distances**2).sum(axis=1) / fuzzy.sum(axis=1))
    assert log_radii(fuzzy_graph(graph, n_neighbors=15), graph) == pytest.approx(expected, abs=0.02)


def test_a_step_goes_up_the_gradient_of_the_correlation(uneven):
    some = uneven[:60]
    graph = graph_of(some)
    fuzzy = fuzzy_graph(graph, n_neighbors=15)
    radii = log_radii(fuzzy, graph)
    from latentscale.backends.cpu.layout import _tables, fit_ab  # pyright: ignore[reportPrivateUsage]

    a, b = fit_ab(spread=1.0, min_dist=0.1)
    # Edges of full weight: all of them are in turn in any epoch but the first.
    weights = np.full(fuzzy.nnz, (1 << 32) - 1, np.uint32)
    edges = (fuzzy.indptr.astype(np.int64), fuzzy.indices.astype(np.int32), weights)
    start = np.random.default_rng(5).normal(scale=2.0, size=(60, 2))
    head = np.repeat(np.arange(60), np.diff(edges[0]))
    tail = edges[1]
    standard = (radii - radii.mean()) / radii.std()

    def aim(positions):
        square = ((positions[head] - positions[tail]) ** 2).sum(axis=1)
        phi = 1.0 / (1.0 + a * square**b)
        logs = np.log(np.bincount(head, phi * square) / np.bincount(head, phi))
        variance = np.var(logs, ddof=1) + 0.1
        return float((logs - logs.mean()) @ standard) / (len(logs) * np.sqrt(variance))

    gradient = np.zeros_like(start)
    for i in range(60):
        for d in range(2):
            for sign in (1, -1):
                moved = start.copy()
                moved[i, d] += sign * 1e-4
                gradient[i, d] += sign * aim(moved) / 2e-4
    positions = start.astype(np.float32)
    alpha = 1e-2
    term = DensityTerm(radii, edges, _tables(a, b)[0], b, weight=0.02)
    with ThreadPoolExecutor(1) as pool:
        term.move(positions, [(0, 60)], pool, epoch=3, alpha=alpha)
    step = (positions.astype(np.float64) - start.astype(np.float32)) / alpha
    cosine = (step * gradient).sum() / np.linalg.norm(step) / np.linalg.norm(gradient)
    assert cosine > 0.999


def test_the_layout_is_deterministic_and_leaves_other_layouts_unchanged(uneven):
    graph = graph_of(uneven)
    once, again = (lay_out(graph, uneven, 0.5, n_epochs=60).coordinates for _ in range(2))
    assert once.tobytes() == again.tobytes()
    plain = layout(
        fuzzy_graph(graph, n_neighbors=15),
        uneven,
        n_components=2,
        min_dist=0.1,
        spread=1.0,
        n_epochs=60,
        mode="exact",
        seed=3,
        negative_sample_rate=5,
        learning_rate=1.0,
        threads=2,
    )
    assert lay_out(graph, uneven, 0.0, n_epochs=60).coordinates.tobytes() == plain.tobytes()
    threads = lay_out(graph, uneven, 0.5, n_epochs=60, deterministic=False)
    assert np.isfinite(threads.coordinates).all()


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_few_documents_and_copies(uneven, n):
    for some in (uneven[:n], np.repeat(uneven[:1], n, axis=0), np.vstack([uneven[:n], np.repeat(uneven[:1], 30, 0)])):
        done = lay_out(graph_of(some), some, 2.0, n_epochs=50)
        assert done.coordinates.shape == (len(some), 2)
        assert np.isfinite(done.coordinates).all()
