"""Nearest documents of each document of a fit, for the page."""

from __future__ import annotations

import numpy as np

from latentscale.backends import NeighborGraph
from latentscale.viewer.similar import Similar

# Number of similar documents that the page lists.
MOST_SIMILAR = 15


def similar_of_graph(graph: NeighborGraph) -> Similar | None:
    """Take the nearest documents from a graph, whose rows are those of the page; None for a single document."""
    k = min(MOST_SIMILAR, graph.k)
    if k == 0:
        return None
    return Similar(neighbors=graph.indices[:, :k].astype(np.int64), similarity=1 - graph.distances[:, :k])
