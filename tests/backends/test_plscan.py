"""PLSCAN by the package ``fast-plscan`` over our own spanning tree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from latentscale.backends.cpu.backend import CpuBackend
from latentscale.errors import CorpusError, MissingPackageError
from tests.backends.test_spanning import groups


def test_it_has_the_clusters_of_the_package() -> None:
    from fast_plscan import PLSCAN

    points = groups(3_000, 5)
    found = CpuBackend().plscan(points, min_samples=10, min_cluster_size=10, threads=2)
    truth: Any = PLSCAN(min_samples=10).fit(points)
    assert found.n_clusters == truth.labels_.max() + 1 > 3
    assert adjusted_rand_score(truth.labels_, found.labels) > 0.99
    assert found.details["chosen_min_cluster_size"] > 10
    sizes = np.bincount(found.labels[found.labels >= 0])
    assert sizes.min() >= found.details["chosen_min_cluster_size"] // 2
    assert (np.diff(sizes) <= 0).all(), "ids by falling size"
    assert (found.probabilities[found.labels < 0] == 0).all()
    assert "which persist most" in found.notes[0]
    again = CpuBackend().plscan(points, min_samples=10, min_cluster_size=10, threads=1)
    assert again.labels.tobytes() == found.labels.tobytes()


def test_the_least_size_is_kept() -> None:
    points = groups(3_000, 5)
    found = CpuBackend().plscan(points, min_samples=5, min_cluster_size=200, threads=1)
    assert found.details["chosen_min_cluster_size"] >= 200
    assert 1 < found.n_clusters <= 15


def test_many_dimensions_have_the_tree_of_the_package() -> None:
    found = CpuBackend().plscan(groups(400, 40), min_samples=5, min_cluster_size=5, threads=1)
    assert found.n_clusters > 1


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 6, 11])
def test_few_documents(n: int) -> None:
    found = CpuBackend().plscan(groups(n, 5), min_samples=10, min_cluster_size=10, threads=1)
    assert len(found.labels) == n
    assert found.notes


def test_one_point_and_two() -> None:
    backend, alike = CpuBackend(), np.ones((50, 5), np.float32)
    assert backend.plscan(alike, min_samples=5, min_cluster_size=5, threads=1).n_clusters == 1
    halves = np.concatenate((alike, alike + 4))
    found = backend.plscan(halves, min_samples=5, min_cluster_size=5, threads=1)
    assert len(found.labels) == 100
    assert len(set(found.labels[:50].tolist())) == 1
    with pytest.raises(CorpusError, match="NaN"):
        backend.plscan(np.full((30, 5), np.nan), min_samples=5, min_cluster_size=5, threads=1)


def test_without_the_package_a_run_ends_before_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import latentscale

    monkeypatch.setitem(sys.modules, "fast_plscan", None)
    with pytest.raises(MissingPackageError, match=r"cluster.method=plscan needs the package") as raised:
        latentscale.run("demo", out=tmp_path / "maps", cluster={"method": "plscan"}, progress="quiet")
    assert raised.value.hint == "pip install 'latentscale[plscan]'"
    assert not (tmp_path / "maps" / "documents").exists()
