"""Sibling clusters, and the nearest of them: what a label must be distinguishable from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.grouping import members_by_cluster
from latentscale.stages.cluster import Clusters

# Number of nearest siblings that a label is compared with.
NEAREST = 12
_BLOCK = 1_024


def sibling_groups(cluster_keys: Sequence[tuple[int, int]], parents: Sequence[int | None]) -> list[list[int]]:
    """Group the positions in ``cluster_keys``, pairs of (layer, cluster), by their parent.

    Parameters
    ----------
    parents : sequence of int or None
        Parent of each cluster; clusters of the coarsest layer have none and are siblings of each other.
    """
    groups: dict[tuple[int, int | None], list[int]] = {}
    for index, ((layer, _), parent) in enumerate(zip(cluster_keys, parents, strict=True)):
        groups.setdefault((layer, parent), []).append(index)
    return list(groups.values())


def nearest_siblings(
    clusters: Clusters, cluster_keys: Sequence[tuple[int, int]], groups: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Find the ``NEAREST`` siblings of each cluster by the cosine of their centroids, nearest first.

    For an only child they are clusters of its layer.

    Returns
    -------
    list of list of int
        Positions in ``cluster_keys``.
    """
    centroids = cluster_centroids(clusters, cluster_keys)
    nearest: list[list[int]] = [[] for _ in cluster_keys]
    layers: dict[int, list[int]] = {}
    for position, (layer, _) in enumerate(cluster_keys):
        layers.setdefault(layer, []).append(position)
    for group in groups:
        others = group if len(group) > 1 else layers[cluster_keys[group[0]][0]]
        index = np.asarray(others)
        for start in range(0, len(group), _BLOCK):
            rows = np.asarray(group[start : start + _BLOCK])
            similarity = centroids[rows] @ centroids[index].T
            similarity[rows[:, None] == index[None, :]] = -np.inf
            best = np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEAREST, len(index) - 1)]
            for row, positions in zip(rows.tolist(), best, strict=True):
                nearest[row] = index[positions].tolist()
    return nearest


def cluster_centroids(clusters: Clusters, cluster_keys: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Compute unit centroids of clusters, given as (layer, cluster): shape (len(cluster_keys), dim)."""
    dim = clusters.tree.schema.field("centroid").type.list_size
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in clusters.tree["centroid"].chunks] or [[]])
    finest = flat.reshape(-1, dim).astype(np.float32)
    weights = clusters.tree["size"].to_numpy().astype(np.float32)
    inner = [members_by_cluster(layer) for layer in clusters.coarser()]
    means = np.zeros((len(cluster_keys), dim), np.float32)
    for index, (layer, cluster) in enumerate(cluster_keys):
        members = np.array([cluster]) if layer == 0 else inner[layer - 1][cluster]
        means[index] = (finest[members] * weights[members, None]).sum(axis=0)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
