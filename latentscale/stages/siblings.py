"""Which clusters are siblings, and which of them are most alike: what a label has to be told apart from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentscale.backends.grouping import members_by_cluster
from latentscale.stages.cluster import Clusters

# Siblings that a label is compared with, the nearest ones.
NEAREST = 12
_BLOCK = 1_024


def sibling_groups(wanted: Sequence[tuple[int, int]], parents: Sequence[int | None]) -> list[list[int]]:
    """Positions in ``wanted`` of the clusters of each parent, given as (layer, cluster).

    Parameters
    ----------
    parents : sequence of int or None
        Of each; those of the coarsest layer have none and are siblings of each other.
    """
    groups: dict[tuple[int, int | None], list[int]] = {}
    for at, ((layer, _), parent) in enumerate(zip(wanted, parents, strict=True)):
        groups.setdefault((layer, parent), []).append(at)
    return list(groups.values())


def nearest_siblings(
    found: Clusters, wanted: Sequence[tuple[int, int]], groups: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Of each cluster: its nearest siblings by the cosine of their centroids, at most ``NEAREST``, the nearest first.

    An only child has those of its layer instead.

    Returns
    -------
    list of list of int
        Positions in ``wanted``.
    """
    centroids = cluster_centroids(found, wanted)
    near: list[list[int]] = [[] for _ in wanted]
    layers: dict[int, list[int]] = {}
    for at, (layer, _) in enumerate(wanted):
        layers.setdefault(layer, []).append(at)
    for group in groups:
        others = group if len(group) > 1 else layers[wanted[group[0]][0]]
        index = np.asarray(others)
        for start in range(0, len(group), _BLOCK):
            rows = np.asarray(group[start : start + _BLOCK])
            similarity = centroids[rows] @ centroids[index].T
            similarity[rows[:, None] == index[None, :]] = -np.inf
            best = np.argsort(-similarity, axis=1, kind="stable")[:, : min(NEAREST, len(index) - 1)]
            for row, positions in zip(rows.tolist(), best, strict=True):
                near[row] = index[positions].tolist()
    return near


def cluster_centroids(found: Clusters, wanted: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """Centroids of clusters, given as (layer, cluster), of unit length; shape (n_wanted, dim)."""
    dim = found.tree.schema.field("centroid").type.list_size
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in found.tree["centroid"].chunks] or [[]])
    finest = flat.reshape(-1, dim).astype(np.float32)
    weights = found.tree["size"].to_numpy().astype(np.float32)
    inner = [members_by_cluster(layer) for layer in found.coarser()]
    means = np.zeros((len(wanted), dim), np.float32)
    for at, (layer, cluster) in enumerate(wanted):
        inside = np.array([cluster]) if layer == 0 else inner[layer - 1][cluster]
        means[at] = (finest[inside] * weights[inside, None]).sum(axis=0)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
