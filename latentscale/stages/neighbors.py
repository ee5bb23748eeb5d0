"""Neighbors: the nearest-neighbour graph of a snapshot, computed once and read by all later stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from latentscale.backends import NeighborGraph
from latentscale.config import NeighborsConfig, ProjectConfig
from latentscale.provenance import measured
from latentscale.stages.vectors import load_vectors
from latentscale.storage.artifacts import ArtifactWriter, Record, iterate_table, read_table
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot

VERSION = 1
# The recall that is reported, duplicates and "more like this" look at 15 neighbours whatever the layout asks for.
LEAST_NEIGHBORS = 15


def neighbors_request(
    config: NeighborsConfig, project: ProjectConfig, *, snapshot_id: str, embedding: Record
) -> dict[str, Any]:
    """Everything that alters the graph, which has the same bits for any number of threads."""
    k = config.k or max(project.n_neighbors - 1, LEAST_NEIGHBORS)
    return {
        "version": VERSION,
        "snapshot": snapshot_id,
        "embedding": embedding.id,
        "k": k,
        "method": config.method,
        "recall": config.recall,
        "seed": project.seed,
    }


def make_neighbors(store: Store, request: dict[str, Any], embedding: Record, threads: int, run: str | None) -> Record:
    """Compute the graph of ``request`` and write it."""
    from latentscale.backends.cpu.neighbors import nearest_neighbors

    writer = ArtifactWriter(store, "neighbors", request, [embedding], run=run)
    with measured() as cost:
        vectors = load_vectors(store, read_snapshot(store, request["snapshot"]), embedding.id)
        graph = nearest_neighbors(
            vectors.matrix,
            k=request["k"],
            method=request["method"],
            recall_target=request["recall"],
            seed=request["seed"],
            threads=threads,
        )
        k = graph.k
        table = pa.table(
            {
                "row_id": pa.array(vectors.row_ids),
                "indices": pa.FixedSizeListArray.from_arrays(pa.array(graph.indices.reshape(-1)), k),
                "distances": pa.FixedSizeListArray.from_arrays(pa.array(graph.distances.reshape(-1)), k),
            }
            if k
            else {"row_id": pa.array(vectors.row_ids)}
        )
        writer.put_table("graph", table, byte_stream_split=["distances.list.element"])
    return writer.commit(
        counts={"documents": len(vectors), "dim": int(vectors.matrix.shape[1]), "k": k, "recall": graph.recall},
        cost=cost,
        choices={"backend": "cpu", "method": graph.method, **graph.details},
        notes=graph.notes,
    )


def read_graph(store: Store, record: Record) -> NeighborGraph:
    """Read a graph as it was computed."""
    n, k = int(record.counts["documents"]), int(record.counts["k"])
    indices = np.empty((n, k), dtype=np.int32)
    distances = np.empty((n, k), dtype=np.float32)
    done = 0
    for table in iterate_table(store, record, "graph") if k else ():
        rows = table.num_rows
        indices[done : done + rows] = _matrix(table["indices"], k)
        distances[done : done + rows] = _matrix(table["distances"], k)
        done += rows
    return NeighborGraph(
        indices=indices, distances=distances, recall=record.counts["recall"], method=str(record.choices["method"])
    )


def read_row_ids(store: Store, record: Record) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The ``row_id`` of each matrix position of a graph (int64, shape (n,))."""
    return read_table(store, record, "graph", ["row_id"])["row_id"].to_numpy()


def _matrix(column: pa.ChunkedArray, width: int) -> np.ndarray[Any, Any]:
    return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks]).reshape(-1, width)
