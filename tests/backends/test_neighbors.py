"""Neighbour search: the true answer, the measured one, and inputs that have none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from latentscale.backends.cpu.neighbors import nearest_neighbors
from latentscale.errors import CorpusError, ShapeError


def search(vectors, method="auto", k=15, threads=2, seed=7, recall_target=0.95):
    return nearest_neighbors(vectors, k=k, method=method, recall_target=recall_target, seed=seed, threads=threads)


def test_exact_neighbours_are_those_of_a_full_sort(vectors):
    graph = search(vectors, "exact")
    apart = 1.0 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(apart, np.inf)
    truth = np.sort(apart, axis=1)[:, :15]
    assert graph.indices.dtype == np.int32
    assert graph.distances.dtype == np.float32
    np.testing.assert_allclose(graph.distances, np.maximum(truth, 0), atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(apart, graph.indices.astype(int), axis=1), truth, atol=2e-6)
    assert graph.recall == 1.0


@pytest.mark.parametrize("method", ["exact", "pynndescent"])
def test_a_row_is_never_its_own_neighbour_and_no_neighbour_comes_twice(vectors, method):
    graph = search(vectors, method)
    assert (graph.indices != np.arange(len(vectors))[:, None]).all()
    assert ((graph.indices >= 0) & (graph.indices < len(vectors))).all()
    assert (np.diff(np.sort(graph.indices, axis=1), axis=1) > 0).all()
    assert (np.diff(graph.distances, axis=1) >= 0).all()


@pytest.mark.parametrize("method", ["exact", "pynndescent"])
def test_the_number_of_threads_does_not_change_a_bit(vectors, method):
    one, two = search(vectors, method, threads=1), search(vectors, method, threads=2)
    np.testing.assert_array_equal(one.indices, two.indices)
    assert one.distances.tobytes() == two.distances.tobytes()


def test_the_measured_recall_is_close_to_the_true_one(vectors):
    graph = search(vectors, "pynndescent")
    truth = search(vectors, "exact").indices
    found = np.mean([len(set(ours) & set(true)) / 15 for ours, true in zip(graph.indices, truth, strict=True)])
    assert graph.method == "pynndescent"
    assert graph.recall == pytest.approx(found, abs=0.03)
    assert graph.recall >= 0.95


def test_the_search_is_widened_until_the_target_and_says_if_it_is_not_reached():
    hard = np.random.default_rng(0).normal(size=(4000, 256)).astype(np.float32)
    graph = search(hard, "pynndescent", k=10, recall_target=1.0)
    recalls = [tried["recall"] for tried in graph.details["searches"]]
    assert len(recalls) > 1
    assert recalls[-1] > recalls[0]
    assert graph.recall < 1.0
    assert "below the target" in graph.notes[0]


def test_identical_rows_have_the_same_neighbours_with_every_method(vectors):
    many = np.vstack([vectors[:500], np.repeat(vectors[500:501], 1000, axis=0)])
    graph = search(many, "pynndescent")
    assert (graph.distances[500:] == 0).all()
    assert set(graph.indices[900]) == set(range(500, 515))


@pytest.mark.parametrize("n", [1, 2, 3, 10, 15, 16])
def test_documents_of_small_sets_have_all_others_as_neighbours(n, vectors):
    graph = search(vectors[:n])
    assert graph.indices.shape == graph.distances.shape == (n, min(15, n - 1))
    assert graph.recall == (1.0 if n > 1 else None)


def test_float16_from_a_mapped_file_gives_the_neighbours_of_the_array(vectors, tmp_path):
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float16))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    np.testing.assert_array_equal(search(mapped).indices, search(vectors.astype(np.float16)).indices)


def test_a_vector_that_is_not_a_number_is_refused_with_its_position(vectors):
    broken = vectors.copy()
    broken[1234, 5] = np.nan
    with pytest.raises(CorpusError, match="1,234"):
        search(broken)


def test_something_that_is_no_matrix_is_refused():
    with pytest.raises(ShapeError, match="documents, dimensions"):
        search(np.zeros(12, np.float32))


def test_another_process_gives_the_same_bits(vectors, tmp_path):
    np.save(tmp_path / "vectors.npy", vectors)
    program = (
        "import sys, hashlib, numpy as np\n"
        "from latentscale.backends.cpu.neighbors import nearest_neighbors\n"
        "from latentscale.backends.cpu.layout import fuzzy_graph, layout\n"
        "v = np.load(sys.argv[1])\n"
        "g = nearest_neighbors(v, k=14, method='exact', recall_target=1.0, seed=0, threads=int(sys.argv[2]))\n"
        "y = layout(fuzzy_graph(g, n_neighbors=15), v, n_components=2, min_dist=0.1, spread=1.0, n_epochs=50,\n"
        "    mode='exact', seed=3, negative_sample_rate=5, learning_rate=1.0, threads=int(sys.argv[2]))\n"
        "print(hashlib.sha256(g.distances.tobytes() + g.indices.tobytes() + y.tobytes()).hexdigest())\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "vectors.npy"), threads],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
        ).stdout.strip()
        for threads in ("1", "2")
    }
    assert len(answers) == 1
    assert len(answers.pop()) == hashlib.sha256().digest_size * 2


@pytest.mark.skipif(sys.platform != "linux", reason="says what GNU OpenMP read when it was loaded")
@pytest.mark.parametrize(("asked", "read"), [(None, "PASSIVE"), ("active", "ACTIVE")])
def test_threads_that_wait_for_the_search_sleep_unless_the_user_says_otherwise(asked, read):
    program = (
        "import os, numpy as np, numba\n"
        "from latentscale.backends.cpu.descent import nn_descent\n"
        "before = os.environ.get('OMP_WAIT_POLICY')\n"
        "x = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)\n"
        "nn_descent(x / np.linalg.norm(x, axis=1)[:, None], width=20, trees=1.0, delta=0.001, seed=1, threads=2)\n"
        "assert os.environ.get('OMP_WAIT_POLICY') == before\n"
        "print(numba.threading_layer())\n"
    )
    without = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_WAIT", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=without | {"OMP_DISPLAY_ENV": "true"} | ({"OMP_WAIT_POLICY": asked} if asked else {}),
    )
    if done.stdout.strip() != "omp":
        pytest.skip(f"numba's threads are of {done.stdout.strip()} here")
    # The first to be loaded is numba's: scikit-learn, which comes after it, may bring its own.
    said = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    assert f"'{read}'" in said[0]
