"""Neighbors: the nearest-neighbour graph of a snapshot, computed once and used by all later stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from latentscale.backends import NeighborGraph
from latentscale.backends.select import open_backend
from latentscale.config import JobConfig
from latentscale.stages.rates import is_searched_exactly, neighbor_seconds, peak_bytes
from latentscale.stages.stage import Cost, JobSize, MapJob, StageContext, Table, WholeStage, Work
from latentscale.storage.artifacts import ArtifactWriter, Record, iterate_table, needed_record
from latentscale.storage.objects import Store
from latentscale.storage.provenance import measured
from latentscale.storage.request import Request, omitted_at_default
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import load_vectors

# Reported recall, duplicates and "more like this" use 15 neighbours, whatever the layout needs.
LEAST_NEIGHBORS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborsRequest(Request):
    """Everything that affects the graph, which has the same bits for any number of threads."""

    VERSION: ClassVar[int] = 1

    snapshot: str
    embedding: str
    k: int
    method: str
    recall: float
    seed: int
    backend: str = omitted_at_default("cpu")


class NeighborsStage(WholeStage):
    """Computes the nearest-neighbour graph of a snapshot."""

    name = "neighbors"
    tables: ClassVar[Mapping[str, Table]] = {
        "graph": Table(
            columns={"row_id": "int64", "indices": "fixed_size_list", "distances": "fixed_size_list"}, by_document=True
        )
    }

    def works(self, job: MapJob) -> Iterator[Work]:
        """Return one graph, with as many neighbours as later stages need."""
        config, embedding = job.config.neighbors, job.records["embed"]
        request = NeighborsRequest(
            snapshot=job.snapshot.id,
            embedding=embedding.id,
            k=wanted_neighbors(job.config),
            method=config.method,
            recall=config.recall,
            seed=job.config.project.seed,
            backend=job.choose(self.name).backend,
        )
        yield Work(
            stage=self,
            slot=self.name,
            title=self.name,
            request=request,
            parents=(embedding,),
            starts_workers=(job.config.engine.resources.of(self.name).workers or 1) > 1,
        )

    def make(self, context: StageContext, request: NeighborsRequest) -> Record:
        """Compute the graph and write it."""
        store = context.store
        embedding = needed_record(store, "embedding", request.embedding)
        writer = ArtifactWriter(store, self.kind, request.identity(), [embedding], run=context.run)
        with measured() as cost:
            vectors = load_vectors(store, read_snapshot(store, request.snapshot), embedding.id)
            backend = open_backend(request.backend)
            if context.replicas is not None:
                # Checked by backends.select.check_workers.
                shared: Callable[..., NeighborGraph] = getattr(backend, "neighbors_of_workers")  # noqa: B009
                graph = shared(vectors.matrix, k=request.k, replicas=context.replicas)
            else:
                graph = backend.neighbors(
                    vectors.matrix,
                    k=request.k,
                    method=request.method,
                    recall_target=request.recall,
                    seed=request.seed,
                    threads=context.threads,
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
            choices={"backend": graph.backend, "method": graph.method, **graph.details},
            notes=graph.notes,
        )

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the measured rates of the exact search and of NN-descent."""
        exact = is_searched_exactly(size)
        return Cost(
            cpu_seconds=neighbor_seconds(size),
            parallel=True,
            memory_bytes=peak_bytes(size, fixed=50e6 if exact else 330e6, document=1_650.0),
            disk_bytes=size.documents * wanted_neighbors(config) * 6.5,
            scratch_bytes=size.documents * size.dim * 4.0,
        )


STAGE = NeighborsStage()


def wanted_neighbors(config: JobConfig) -> int:
    """Number of neighbours per document: as configured, or as the layout and the quality figures need."""
    return config.neighbors.k or max(config.project.n_neighbors - 1, LEAST_NEIGHBORS)


def read_graph(store: Store, record: Record) -> NeighborGraph:
    """Read the graph of an artifact."""
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
        indices=indices,
        distances=distances,
        recall=record.counts["recall"],
        method=str(record.choices["method"]),
        backend=str(record.choices["backend"]),
    )


def _matrix(column: pa.ChunkedArray, width: int) -> np.ndarray[Any, Any]:
    return np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks]).reshape(-1, width)
