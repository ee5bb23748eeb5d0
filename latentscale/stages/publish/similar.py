"""The nearest documents of each document of a fit, for the page."""

from __future__ import annotations

import numpy as np

from latentscale.backends import NeighborGraph
from latentscale.viewer.similar import Similar

# Documents that the page lists as similar to one.
MOST_SIMILAR = 15


def similar_of_graph(graph: NeighborGraph) -> Similar | None:
    """The nearest of each document of a graph, whose rows are those of the page; None for a single document."""
    k = min(MOST_SIMILAR, graph.k)
    if k == 0:
        return None
    return Similar(places=graph.indices[:, :k].astype(np.int64), similarity=1 - graph.distances[:, :k])
