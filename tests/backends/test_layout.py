"""Layouts: UMAP's numbers, repeatable where promised, and inputs with no structure."""

from __future__ import annotations

import importlib.util
import threading

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from latentscale.backends.cpu.faithfulness import faithfulness
from latentscale.backends.cpu.layout import default_epochs, fit_ab, fuzzy_graph, layout, pca_init
from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.backends.shown import is_shown, next_shown
from latentscale.errors import ShapeError


def graph_of(vectors, k=15):
    return nearest_neighbors(vectors, k=k, method="exact", recall_target=1.0, seed=0, threads=2)


def lay_out(fuzzy, vectors, n_components=2, mode="exact", seed=3, n_epochs=100, threads=2, **other):
    return layout(
        fuzzy,
        vectors,
        n_components=n_components,
        min_dist=0.1,
        spread=1.0,
        n_epochs=n_epochs,
        mode=mode,
        seed=seed,
        negative_sample_rate=5,
        threads=threads,
        **{"progress": None, "learning_rate": 1.0, **other},
    )


@pytest.fixture(scope="module")
def fuzzy(vectors):
    return fuzzy_graph(graph_of(vectors), n_neighbors=15)


def test_the_fuzzy_set_is_symmetric_with_weights_up_to_one(fuzzy):
    assert abs(fuzzy - fuzzy.T).max() < 1e-6
    assert fuzzy.diagonal().sum() == 0
    assert fuzzy.data.min() > 0
    assert fuzzy.data.max() <= 1 + 1e-6


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn, the reference, is not installed")
@pytest.mark.filterwarnings("ignore")
def test_the_fuzzy_set_and_the_curve_are_those_of_umap_learn(vectors, monkeypatch):
    from umap import umap_

    # As plain Python: to compile them takes longer than a few hundred documents.
    for name in ("smooth_knn_dist", "compute_membership_strengths"):
        monkeypatch.setattr(umap_, name, getattr(umap_, name).py_func)
    some = vectors[:400]
    graph = graph_of(some)
    n = len(some)
    indices = np.hstack([np.arange(n)[:, None], graph.indices[:, :14]]).astype(np.int32)
    distances = np.hstack([np.zeros((n, 1)), graph.distances[:, :14]]).astype(np.float32)
    theirs, _, _ = umap_.fuzzy_simplicial_set(
        some, 15, np.random.RandomState(0), "cosine", knn_indices=indices, knn_dists=distances
    )
    assert abs(fuzzy_graph(graph, n_neighbors=15) - theirs).max() < 1e-4
    assert fit_ab(spread=1.0, min_dist=0.1) == pytest.approx(umap_.find_ab_params(1.0, 0.1))


def test_a_graph_with_too_few_neighbours_is_refused(vectors):
    with pytest.raises(ShapeError, match="n_neighbors=15 needs 14"):
        fuzzy_graph(graph_of(vectors, k=5), n_neighbors=15)


def test_a_layout_keeps_topics_together_and_neighbourhoods_near(fuzzy, vectors, topics):
    coordinates = lay_out(fuzzy, vectors)
    assert coordinates.shape == (len(vectors), 2)
    assert coordinates.dtype == np.float32
    kept = faithfulness(vectors, coordinates, k=15, sample=500, seed=0, threads=2)
    assert kept.trustworthiness > 0.9
    assert kept.preservation > 0.1  # noise in 48 dimensions: there is no more to keep
    middles = np.array([np.median(coordinates[topics == topic], axis=0) for topic in range(12)])
    nearest = ((coordinates[:, None] - middles) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == topics).mean() > 0.9


def test_exact_layouts_repeat_to_the_bit_and_seeds_differ(fuzzy, vectors):
    first = lay_out(fuzzy, vectors, threads=1)
    assert first.tobytes() == lay_out(fuzzy, vectors, threads=2).tobytes()
    assert first.tobytes() != lay_out(fuzzy, vectors, seed=4).tobytes()


def test_two_layouts_may_run_at_once(fuzzy, vectors):
    alone = lay_out(fuzzy, vectors)
    found = {}
    runs = [threading.Thread(target=lambda i=i: found.update({i: lay_out(fuzzy, vectors)})) for i in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert found[0].tobytes() == found[1].tobytes() == alone.tobytes()


def test_fast_layouts_are_as_faithful(fuzzy, vectors):
    exact, fast = (
        faithfulness(vectors, lay_out(fuzzy, vectors, mode=mode), k=15, sample=500, seed=0, threads=2)
        for mode in ("exact", "fast")
    )
    assert fast.preservation == pytest.approx(exact.preservation, abs=0.05)


def test_progress_is_reported_after_each_epoch(fuzzy, vectors):
    reported = []
    lay_out(fuzzy, vectors, n_epochs=7, progress=lambda done, all_: reported.append((done, all_)))
    assert reported == [(epoch, 7) for epoch in range(1, 8)]


def test_disconnected_components_are_laid_out(vectors):
    random = np.random.default_rng(0)
    islands = np.vstack([np.eye(48)[i] + 0.01 * random.normal(size=(40, 48)) for i in range(5)]).astype(np.float32)
    fuzzy = fuzzy_graph(graph_of(islands), n_neighbors=10)
    assert connected_components(fuzzy)[0] == 5
    coordinates = lay_out(fuzzy, islands)
    middles = coordinates.reshape(5, 40, 2).mean(axis=1)
    nearest = ((coordinates[:, None] - middles) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == np.repeat(np.arange(5), 40)).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "rows",
    [
        np.ones((1, 8)),
        np.eye(8)[:2],
        np.ones((3, 8)),
        np.eye(8)[:5],
        np.ones((60, 8)),
        np.zeros((20, 8)),
        np.hstack([np.random.default_rng(0).normal(size=(80, 2)), np.zeros((80, 6))]),
        np.random.default_rng(0).normal(size=(50, 1)),
    ],
    ids=["one", "two", "three the same", "five", "sixty the same", "zeros", "flat dimensions", "one dimension"],
)
@pytest.mark.parametrize("n_components", [2, 5])
def test_small_and_flat_sets_get_finite_distinct_positions(rows, n_components):
    rows = rows.astype(np.float32)
    coordinates = lay_out(fuzzy_graph(graph_of(rows), n_neighbors=15), rows, n_components=n_components)
    assert coordinates.shape == (len(rows), n_components)
    assert np.isfinite(coordinates).all()
    assert len(np.unique(coordinates, axis=0)) == len(rows)


def test_the_start_is_the_principal_plane_stretched_to_ten(vectors):
    start = pca_init(vectors, n_components=2, seed=0)
    centred = vectors - vectors.mean(axis=0)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    for axis in range(2):
        assert abs(np.corrcoef(plane[:, axis], start[:, axis])[0, 1]) > 0.9999
    np.testing.assert_allclose(start.min(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(start.max(axis=0), 10, atol=1e-4)


def test_a_graph_of_other_documents_is_refused(fuzzy, vectors):
    with pytest.raises(ShapeError, match=r"3,000 documents, the embedding 2,999"):
        lay_out(fuzzy, vectors[:-1])


def test_fewer_epochs_for_larger_sets():
    assert default_epochs(100, 2) > default_epochs(100_000, 2)
    assert default_epochs(100, 5) == default_epochs(100_000, 5)


def test_a_layout_starts_from_the_given_positions(fuzzy, vectors):
    start = np.random.default_rng(5).uniform(0, 10, size=(len(vectors), 2)).astype(np.float32)
    assert lay_out(fuzzy, vectors, n_epochs=0, init=start).tobytes() == start.tobytes()
    settled = lay_out(fuzzy, vectors)
    again = lay_out(fuzzy, vectors, n_epochs=10, learning_rate=0.01, init=settled)
    assert 0 < np.median(np.linalg.norm(again - settled, axis=1)) < 0.3
    with pytest.raises(ShapeError, match="none of a layout"):
        lay_out(fuzzy, vectors, n_components=3, init=start)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_layout_is_shown_after_each_quarter_and_stays_the_same(fuzzy, vectors, dimensions):
    seen = []

    def show(coordinates, done, total):
        seen.append((coordinates.copy(), done, total))

    plain = lay_out(fuzzy, vectors, n_components=dimensions, n_epochs=30)
    shown = lay_out(fuzzy, vectors, n_components=dimensions, n_epochs=30, preview=show)
    assert shown.tobytes() == plain.tobytes()
    assert [(done, total) for _, done, total in seen] == [(8, 30), (15, 30), (23, 30)]
    ways = [float(np.abs(coordinates - plain).mean()) for coordinates, _, _ in seen]
    assert sorted(ways, reverse=True) == ways
    assert ways[-1] > 0


def test_quarters_of_few_epochs_are_rounded_up_and_exclude_the_end():
    shown = {total: [done for done in range(total + 1) if is_shown(done, total)] for total in (1, 2, 3, 4, 5, 200)}
    assert shown == {1: [], 2: [1], 3: [1, 2], 4: [1, 2, 3], 5: [2, 3, 4], 200: [50, 100, 150]}
    assert [next_shown(done, 200) for done in (0, 49, 50, 150, 199)] == [50, 50, 100, 200, 200]
