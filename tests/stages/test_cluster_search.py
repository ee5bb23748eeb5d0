"""Requested numbers of clusters, and default clusterings that collapse, with the real HDBSCAN."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from latentscale.backends import Clustering
from latentscale.backends.cpu.clustering import hdbscan
from latentscale.config.stages import ClusterConfig
from latentscale.stages.cluster_search import DensitySettings, about, collapse, without_collapse

FIRST = DensitySettings(min_cluster_size=5, min_samples=5, cluster_selection_method="eom")


class Fits:
    """Fits HDBSCAN on one layout and counts the fits."""

    def __init__(self, points: np.ndarray[Any, Any]) -> None:
        self.points = points
        self.seen: list[DensitySettings] = []

    def __call__(self, settings: DensitySettings) -> Clustering:
        self.seen.append(settings)
        return hdbscan(self.points, **asdict(settings), cluster_selection_epsilon=0.0)


@pytest.fixture(scope="module")
def topics() -> np.ndarray[Any, Any]:
    """Eight groups of eight groups of thirty points."""
    random = np.random.default_rng(0)
    broad = random.normal(0, 100, (8, 1, 1, 5))
    fine = random.normal(0, 8, (8, 8, 1, 5))
    return (broad + fine + random.normal(0, 0.8, (8, 8, 30, 5))).reshape(-1, 5)


@pytest.fixture(scope="module")
def two_scale_groups() -> np.ndarray[Any, Any]:
    """A wide group with denser parts, and two small distant groups: two or three clusters by excess of mass."""
    random = np.random.default_rng(1)
    spots = random.normal(0, 1, (12, 1, 3)) + random.normal(0, 0.3, (12, 150, 3))
    return np.concatenate([spots.reshape(-1, 3), *(random.normal(c, 0.05, (60, 3)) for c in (40, -40))])


@pytest.mark.parametrize("wanted", [60, 20, 8])
def test_about_the_requested_number_of_clusters_is_found_in_a_few_fits(topics, wanted):
    fits = Fits(topics)
    found = about(fits, FIRST, wanted, methods=("eom", "leaf"))
    assert found.n_clusters == pytest.approx(wanted, rel=0.5)
    assert len(fits.seen) <= 14
    assert np.bincount(found.labels[found.labels >= 0]).min() >= FIRST.min_cluster_size
    assert [one["clusters"] for one in found.details["tried"]].count(found.n_clusters) >= 1
    off = abs(np.log(found.n_clusters / wanted)) > np.log(1.1)
    assert any("cluster.levels asks for about" in note for note in found.notes) == off


def test_an_unreachable_number_of_clusters_is_reported(topics):
    found = about(Fits(topics), FIRST, 900, methods=("leaf",))
    assert found.n_clusters < 500
    assert found.notes[-1].startswith("cluster.levels asks for about 900 clusters of at least 5 documents")


def test_a_collapsed_default_clustering_is_replaced_and_reported(two_scale_groups):
    fits = Fits(two_scale_groups)
    first = DensitySettings(min_cluster_size=15, min_samples=10, cluster_selection_method="eom")
    default = fits(first)
    assert collapse(default) is not None
    found = without_collapse(fits, first)
    assert collapse(found) is None
    assert found.n_clusters >= 5
    assert found.details["replaced_default"]
    assert found.details["collapsed"] == collapse(default)
    assert found.details["tried"][0]["clusters"] == default.n_clusters
    assert found.notes[-2] == f"The default settings of HDBSCAN gave {collapse(default)}."
    assert "were used instead" in found.notes[-1]


def test_a_good_default_clustering_is_kept(topics):
    fits = Fits(topics)
    found = without_collapse(fits, FIRST)
    assert fits.seen == [FIRST]
    assert "tried" not in found.details


def test_if_everything_collapses_the_best_is_kept_and_reported():
    fits = Fits(np.random.default_rng(2).normal(size=(1_200, 5)))
    first = DensitySettings(min_cluster_size=400, min_samples=10, cluster_selection_method="eom")
    found = without_collapse(fits, first)
    assert len(found.details["tried"]) == 6
    assert collapse(found) is not None
    assert "still gave" in found.notes[-1] or "better" in found.notes[-1]


@pytest.mark.parametrize(
    ("given", "levels"), [([60, 20, 5], (60, 20, 5)), (40, (40,)), ("about 40", (40,)), ("60,20,5", (60, 20, 5))]
)
def test_levels_are_a_list_a_number_or_about_a_number(given, levels):
    assert ClusterConfig(levels=given).levels == levels


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"levels": [60, 50]}, "50 clusters above 60 leave some with a single child"),
        ({"levels": [60, 20, 1]}, "greater than or equal to 2"),
        ({"levels": "many"}, "valid integer"),
        ({"levels": [20], "method": "column", "column": "c"}, "values of a column are the finest layer"),
        ({"levels": [20], "method": "kmeans", "n_clusters": 30}, "leave one out"),
    ],
)
def test_impossible_levels_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        ClusterConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        ({}, True),
        ({"min_cluster_size": 9}, False),
        ({"min_samples": 3}, False),
        ({"cluster_selection_epsilon": 1}, False),
    ],
)
def test_explicit_settings_are_kept(settings, may):
    assert ClusterConfig(**settings).may_adapt is may
