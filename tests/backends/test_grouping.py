"""The members of all clusters from one sort."""

from __future__ import annotations

import numpy as np
import pytest

from latentscale.backends.grouping import members_by_cluster


@pytest.mark.parametrize("clusters", [1, 7, 300])
def test_members_are_those_of_a_mask_for_each_cluster(clusters: int) -> None:
    membership = np.random.default_rng(clusters).integers(-1, clusters, 1000).astype(np.int32)
    members = members_by_cluster(membership)
    assert len(members) == membership.max() + 1
    for cluster, found in enumerate(members):
        assert np.array_equal(found, np.flatnonzero(membership == cluster))


def test_ids_without_members_and_above_the_highest_have_none() -> None:
    members = members_by_cluster(np.array([3, -1, 0, 3], np.int32))
    assert [found.tolist() for found in members] == [[2], [], [], [0, 3]]
    assert members[4].tolist() == members[-1].tolist() == []


@pytest.mark.parametrize("membership", [np.empty(0, np.int32), np.full(5, -1, np.int32)])
def test_without_clusters_there_are_no_members(membership: np.ndarray) -> None:
    assert len(members_by_cluster(membership)) == 0
