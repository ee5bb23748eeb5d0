"""Measure a map: how far its layout, its clusters and its labels can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.backends import NeighborGraph
from latentscale.stages.cluster import Clusters
from latentscale.stages.vectors import Vectors
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import Snapshot

NEIGHBORS = 15
SEED = 0


def measure_map(
    store: Store,
    snapshot: Snapshot,
    vectors: Vectors,
    graph: NeighborGraph,
    coordinates: NDArray[np.float32],
    clusters: Clusters,
    *,
    settings: Mapping[str, Any],
    threads: int,
) -> dict[str, Any]:
    """Measure what ``quality.json`` holds.

    Returns
    -------
    dict
        See docs/file-format.md. Shares are in [0, 1]; what is not defined for so few documents is null.
    """
    from latentscale import quality

    kept = quality.faithfulness(
        vectors.matrix, coordinates, k=NEIGHBORS, sample=settings["sample"], seed=SEED, threads=threads
    )
    facts: dict[str, Any] = {
        "documents": len(vectors),
        "recall": graph.recall,
        "trustworthiness": kept.trustworthiness,
        "preservation": kept.preservation,
        "k": kept.k,
        "sample": kept.sample,
    }
    return facts
