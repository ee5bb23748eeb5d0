"""The k-nearest-neighbour graph of a map, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.stages.neighbors import read_graph
from latentscale.storage.artifacts import Record, iterate_table, needed_record
from latentscale.storage.objects import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The k-nearest-neighbour graph of the documents to which a map was fitted.

    Attributes
    ----------
    row_ids : int64 ndarray, shape (n,)
        Row ids of the documents.
    indices : int32 ndarray, shape (n, k)
        Positions in ``row_ids``, nearest first: ``row_ids[indices[i, 0]]`` is the nearest to ``row_ids[i]``.
    distances : float32 ndarray, shape (n, k)
        Cosine distances, in [0, 2].
    recall : float or None
        Fraction of the true nearest neighbours in the graph, measured on a sample; 1.0 for an exact search.
    """

    row_ids: NDArray[np.int64]
    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    recall: float | None

    def __len__(self) -> int:
        return len(self.row_ids)

    def __repr__(self) -> str:
        return f"<Graph of {len(self):,} documents, {self.indices.shape[1]} neighbours each>"


def graph_of(store: Store, record: Record) -> Graph:
    """Read the graph of a map; an updated map has the graph of its fit."""
    neighbors = needed_record(store, "neighbors", str(record.request["neighbors"]))
    found = read_graph(store, neighbors)
    pieces = [table["row_id"].to_numpy() for table in iterate_table(store, neighbors, "graph", ["row_id"])]
    return Graph(
        row_ids=np.concatenate([np.empty(0, dtype=np.int64), *pieces]),
        indices=found.indices,
        distances=found.distances,
        recall=found.recall,
    )
