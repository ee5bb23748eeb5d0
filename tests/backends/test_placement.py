"""New documents among fitted ones: found, placed, clustered and judged, each by itself."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from latentscale.backends.cpu import placement_search
from latentscale.backends.cpu.clustering import hdbscan, nearest_centroid
from latentscale.backends.cpu.layout import fuzzy_graph, layout
from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.backends.cpu.placement import assign_clusters, neighbors_among, place
from latentscale.backends.outliers import distance_quantiles, mean_distances, outlier_scores
from latentscale.embedders import open_embedder
from latentscale.errors import CorpusError, ShapeError


class Fit:
    """4,000 descriptions of packages: vectors, graph, a map and clusters; and 200 more that were left out."""

    def __init__(self, texts):
        unit = open_embedder().embed(texts).vectors
        self.vectors, self.new = np.ascontiguousarray(unit[200:]), unit[:200]
        self.graph = nearest_neighbors(self.vectors, k=15, method="exact", recall_target=1.0, seed=0, threads=2)
        fuzzy = fuzzy_graph(self.graph, n_neighbors=15)

        def lay_out(n_components, min_dist):
            return layout(
                fuzzy,
                self.vectors,
                n_components=n_components,
                min_dist=min_dist,
                spread=1.0,
                n_epochs=150,
                mode="exact",
                seed=1,
                negative_sample_rate=5,
                learning_rate=1.0,
                threads=1,
            )

        self.map, self.solid = lay_out(2, 0.1), lay_out(3, 0.1)
        self.clusters = hdbscan(
            lay_out(5, 0.0),
            min_cluster_size=10,
            min_samples=8,
            cluster_selection_method="eom",
            cluster_selection_epsilon=0.0,
        )
        self.nearest, self.centroids = nearest_centroid(self.vectors, self.clusters.labels)
        self.sizes = np.bincount(self.clusters.labels[self.clusters.labels >= 0])
        self.keys = np.random.default_rng(0).integers(0, 2**64, 200, dtype=np.uint64)

    def find(self, new, method="exact", threads=1, k=15):
        return neighbors_among(
            new, self.vectors, k=k, graph_indices=self.graph.indices, seed=0, threads=threads, method=method
        )

    def place(self, found, keys, coordinates=None, seed=0):
        return place(
            found.indices,
            found.distances,
            self.map if coordinates is None else coordinates,
            keys=keys,
            n_neighbors=15,
            spread=1.0,
            seed=seed,
        )

    def assign(self, found, new, **other):
        given = {"centroids": self.centroids, "sizes": self.sizes, **other}
        return assign_clusters(
            found.indices,
            found.distances,
            cluster=self.clusters.labels,
            probability=self.clusters.probabilities,
            vectors=new,
            **given,
        )


@pytest.fixture(scope="module")
def fit(demo):
    return Fit(demo.sample(4200, seed=5)["text"].to_list())


@pytest.fixture(scope="module")
def found(fit):
    return fit.find(fit.new)


def kept_neighbors(fit, new, positions, coordinates, k=15):
    """Share of the 15 nearest fitted vectors of each that are among its 15 nearest on the map."""
    scores = new @ fit.vectors.T
    apart = ((positions[:, None] - coordinates[None]) ** 2).sum(axis=2)
    true = np.argpartition(-scores, k, axis=1)[:, :k]
    near = np.argpartition(apart, k, axis=1)[:, :k]
    return np.mean([len(set(one) & set(other)) for one, other in zip(true.tolist(), near.tolist(), strict=True)]) / k


def test_the_exact_search_finds_what_a_full_sort_finds(fit, found):
    apart = np.maximum(1.0 - fit.new.astype(np.float64) @ fit.vectors.astype(np.float64).T, 0.0)
    assert np.abs(np.sort(apart, axis=1)[:, :15] - found.distances).max() < 2e-6
    assert np.abs(np.take_along_axis(apart, found.indices.astype(np.int64), axis=1) - found.distances).max() < 2e-6
    assert (np.diff(found.distances, axis=1) >= 0).all()
    assert (found.method, found.recall) == ("exact", 1.0)
    assert (found.indices.dtype, found.distances.dtype) == (np.int32, np.float32)


def test_the_walk_along_the_graph_reaches_the_recall_and_says_so(fit, found):
    walked = fit.find(fit.new, method="graph", threads=2)
    shared = [len(set(a) & set(b)) for a, b in zip(walked.indices.tolist(), found.indices.tolist(), strict=True)]
    assert np.mean(shared) / 15 > 0.95
    assert walked.recall > 0.95
    assert walked.notes == []
    assert walked.details["tried"][-1]["width"] == walked.details["width"]
    same = walked.indices == found.indices
    assert np.array_equal(walked.distances[same], found.distances[same])


def test_a_walk_that_cannot_reach_the_target_ends_and_says_so(fit):
    # A graph without a link to most documents.
    torn = np.repeat(np.arange(len(fit.vectors), dtype=np.int32)[:, None], 15, axis=1)
    found = neighbors_among(
        fit.new, fit.vectors, k=15, graph_indices=torn, recall_target=1.0, seed=0, threads=1, method="graph"
    )
    assert "below the target of 100%" in found.notes[0]
    assert (found.indices >= 0).all()


def test_a_graph_that_cannot_be_searched_is_left_for_the_exact_search(fit, found, monkeypatch):
    monkeypatch.setattr(placement_search, "EXACT_LIMIT", 1)
    # Each document is linked to its near copies alone.
    torn = np.arange(len(fit.vectors), dtype=np.int32)[:, None] // 16 * 16 + np.arange(15, dtype=np.int32)
    torn = np.minimum(torn, len(fit.vectors) - 1)
    auto = neighbors_among(fit.new, fit.vectors, k=15, graph_indices=torn, seed=0, threads=1)
    assert (auto.method, auto.recall) == ("exact", 1.0)
    assert "cannot be searched" in auto.notes[0]
    assert np.array_equal(auto.indices, found.indices)
    whole = neighbors_among(fit.new, fit.vectors, k=15, graph_indices=fit.graph.indices, seed=0, threads=1)
    assert whole.method == "graph"


@pytest.mark.parametrize("method", ["exact", "graph"])
def test_neighbours_of_a_document_do_not_depend_on_batch_or_threads(fit, method):
    together = fit.find(fit.new, method=method, threads=2)
    for some in (slice(7, 8), slice(100, 103), slice(0, 150)):
        alone = fit.find(fit.new[some], method=method, threads=1)
        assert np.array_equal(alone.indices, together.indices[some])
        assert np.array_equal(alone.distances, together.distances[some])


def test_the_first_of_many_copies_are_the_neighbors_of_one_more(fit):
    crowd = np.vstack([fit.vectors[:700], np.repeat(fit.vectors[300:301], 6000, axis=0), fit.vectors[700:900]])
    # Enough of them that candidates must be dropped on the way.
    found = neighbors_among(
        np.repeat(fit.vectors[300:301], 130, axis=0), crowd, k=5, graph_indices=None, seed=0, threads=1
    )
    assert (found.indices == [300, 700, 701, 702, 703]).all()
    assert (found.distances == 0).all()


@pytest.mark.parametrize("n", [1, 2, 16, 70])
def test_few_fitted_documents_are_all_neighbors(fit, n):
    found = neighbors_among(fit.new[:3], fit.vectors[:n], k=15, graph_indices=None, seed=0, threads=1)
    assert found.indices.shape == (3, min(n, 15))
    positions = fit.place(found, fit.keys[:3], fit.map[:n])
    assert np.isfinite(positions).all()
    assert len(np.unique(positions, axis=0)) == 3


def test_an_empty_set_of_new_documents_is_accepted(fit):
    found = fit.find(fit.new[:0])
    assert found.indices.shape == (0, 15)
    assert found.recall is None
    assert fit.place(found, fit.keys[:0]).shape == (0, 2)
    assert [len(part) for part in fit.assign(found, fit.new[:0])] == [0, 0, 0]


def test_arrays_that_do_not_belong_together_are_refused(fit, found):
    with pytest.raises(ShapeError, match="covers 10 documents"):
        neighbors_among(fit.new, fit.vectors, k=5, graph_indices=fit.graph.indices[:10], seed=0, threads=1)
    with pytest.raises(ShapeError, match="no fitted document"):
        neighbors_among(fit.new, fit.vectors[:0], k=5, graph_indices=None, seed=0, threads=1)
    with pytest.raises(ShapeError, match="shape"):
        neighbors_among(fit.new[:, :9], fit.vectors, k=5, graph_indices=None, seed=0, threads=1)
    with pytest.raises(ShapeError, match="keys"):
        fit.place(found, fit.keys[:5])
    with pytest.raises(CorpusError, match="not a number"):
        neighbors_among(
            np.full((1, fit.vectors.shape[1]), np.nan), fit.vectors, k=5, graph_indices=None, seed=0, threads=1
        )


def test_placed_documents_keep_as_many_neighbors_as_fitted_ones(fit, found):
    placed = kept_neighbors(fit, fit.new, fit.place(found, fit.keys), fit.map)
    some = np.arange(0, 4000, 20)
    # Of a fitted document, itself is one of the 15 in both.
    fitted = (kept_neighbors(fit, fit.vectors[some], fit.map[some], fit.map) * 15 - 1) / 14
    assert placed > fitted
    middle = (fit.map[found.indices]).mean(axis=1)
    assert placed > 1.5 * kept_neighbors(fit, fit.new, middle, fit.map)


def test_places_in_three_dimensions_keep_neighbors_too(fit, found):
    positions = fit.place(found, fit.keys, fit.solid)
    assert positions.shape == (200, 3)
    assert kept_neighbors(fit, fit.new, positions, fit.solid) > 0.2


def test_a_position_does_not_depend_on_the_batch(fit, found):
    together = fit.place(found, fit.keys)
    for one in range(0, 200, 9):
        alone = fit.place(fit.find(fit.new[one : one + 1]), fit.keys[one : one + 1])
        assert np.array_equal(alone[0], together[one])


def test_places_stay_within_the_outline_of_the_neighbors(fit, found):
    positions, neighbors = fit.place(found, fit.keys), fit.map[found.indices]
    slack = 0.026
    assert (positions >= neighbors.min(axis=1) - slack).all()
    assert (positions <= neighbors.max(axis=1) + slack).all()


def test_a_copy_of_a_fitted_document_is_placed_on_it(fit):
    some = np.arange(50, 4000, 70)
    found = fit.find(fit.vectors[some])
    assert (found.distances[:, 0] == 0).all()
    keys = np.arange(len(some), dtype=np.uint64)
    positions = fit.place(found, keys)
    assert (positions == fit.map[found.indices[:, 0]]).all()
    assert (fit.place(found, keys + np.uint64(1000), seed=1) == positions).all()


def test_placing_loads_neither_a_compiler_nor_scipy():
    program = """
import sys, numpy as np
from latentscale.backends.cpu.placement import neighbors_among, place
v = np.random.default_rng(0).normal(size=(500, 32)).astype(np.float32)
v /= np.linalg.norm(v, axis=1, keepdims=True)
found = neighbors_among(v[:9], v[9:], k=15, graph_indices=None, seed=0, threads=1)
place(found.indices, found.distances, v[9:, :2], keys=np.arange(9, dtype=np.uint64), n_neighbors=15, spread=1.0, seed=0)
print([name for name in ("numba", "scipy", "sklearn", "pyarrow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_new_documents_get_the_cluster_that_a_fitted_twin_has(fit):
    """Each fitted document, looked up without itself, mostly finds its own cluster again."""
    some = np.arange(0, 4000, 4)
    given, nearest, probability = assign_clusters(
        fit.graph.indices[some],
        fit.graph.distances[some],
        cluster=fit.clusters.labels,
        probability=fit.clusters.probabilities,
        vectors=fit.vectors[some],
        centroids=fit.centroids,
        sizes=fit.sizes,
    )
    truth = fit.clusters.labels[some]
    both = (given >= 0) & (truth >= 0)
    assert (given == truth)[both].mean() > 0.93
    assert (given == truth).mean() > 0.8
    assert abs((given < 0).mean() - (truth < 0).mean()) < 0.08
    assert (nearest[given >= 0] == given[given >= 0]).all()
    assert (probability[given < 0] == 0).all()
    assert (probability[given >= 0] > 0).all()
    assert probability.max() <= 1


def test_noise_goes_to_the_nearest_centroid_in_use(fit, found):
    given, nearest, _ = fit.assign(found, fit.new)
    noise = given < 0
    assert noise.any()
    assert (nearest[noise] == (fit.new[noise] @ fit.centroids.T).argmax(axis=1)).all()
    # The id that most of them went to is not in use any more, whatever its row of centroids holds.
    gone = np.bincount(nearest[noise]).argmax()
    sizes, centroids = fit.sizes.copy(), fit.centroids.copy()
    sizes[gone] = 0
    centroids[gone] = np.nan
    nearest = fit.assign(found, fit.new, sizes=sizes, centroids=centroids)[1]
    assert (nearest[noise] >= 0).all()
    assert not (nearest[noise] == gone).any()
    assert (fit.assign(found, fit.new, sizes=sizes * 0)[1][noise] == -1).all()


def test_the_outlier_score_is_the_share_of_the_fit_that_is_nearer(fit, found):
    own = mean_distances(fit.graph.distances)
    table = distance_quantiles(fit.graph.distances)
    assert table.shape == (257,)
    scores = outlier_scores(own, table)
    exact = (own[None] < own[:, None]).mean(axis=1)
    assert np.abs(outlier_scores(own, np.sort(own)) - exact).max() < 0.001
    assert np.abs(scores - exact).max() < 0.01
    new = outlier_scores(mean_distances(found.distances), table)
    assert (new > 0.95).mean() < 0.12
    assert 0.35 < np.median(new) < 0.65
    far = outlier_scores(np.array([0.0, own.max() * 2], np.float32), table)
    assert far.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("shape", [(0, 0), (1, 0)])
def test_no_document_is_farther_out_than_one_without_neighbours(shape: tuple[int, int]):
    table = distance_quantiles(np.zeros(shape, np.float32))
    assert outlier_scores(np.array([0.0, 1.2], np.float32), table).tolist() == [0.0, 0.0]


def test_in_a_fit_of_copies_a_copy_is_no_outlier_and_all_else_is():
    table = distance_quantiles(np.zeros((100, 15), np.float32))
    assert outlier_scores(np.array([0.0, 0.1], np.float32), table).tolist() == [0.0, 1.0]
