"""cuML's UMAP over a precomputed neighbour graph and initial coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.layout import start_positions
from latentscale.backends.cuml import calls
from latentscale.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from latentscale.backends.results import NeighborGraph


def cuml_layout(
    graph: NeighborGraph,
    vectors: NDArray[Any],
    *,
    usable: int,
    n_components: int,
    n_epochs: int,
    min_dist: float,
    spread: float,
    negative_sample_rate: int,
    learning_rate: float,
    deterministic: bool,
    seed: int,
    init: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Lay out documents with cuML's UMAP: float32, shape (n, n_components).

    Parameters
    ----------
    usable : int
        Number of neighbours per document, without itself; at least 1.
    init : float32 ndarray, shape (n, n_components), optional
        Initial coordinates; by default the first principal components.

    Raises
    ------
    ShapeError
        If the graph and the vectors are of different numbers of documents.
    EnvironmentFailure
        If the GPU cannot do it.
    """
    n = len(vectors)
    if len(graph) != n:
        raise ShapeError(
            f"the neighbour graph covers {len(graph):,} documents, the embedding {n:,}",
            hint="Build the graph from the same snapshot.",
        )
    # cuML expects the document itself first, even before its duplicates.
    indices = np.column_stack((np.arange(n, dtype=np.int64), graph.indices[:, :usable]))
    distances = np.column_stack((np.zeros(n, np.float32), graph.distances[:, :usable]))
    return calls.umap(
        np.asarray(vectors, np.float32),
        np.ascontiguousarray(indices, np.int64),
        np.ascontiguousarray(distances, np.float32),
        start_positions(vectors, None, init, n_components=n_components, seed=seed),
        n_epochs=n_epochs,
        min_dist=min_dist,
        spread=spread,
        negative_sample_rate=negative_sample_rate,
        learning_rate=learning_rate,
        random_state=seed if deterministic else None,
    )
