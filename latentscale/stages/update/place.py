"""Place: assign positions and clusters to new documents, without moving existing points."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends import Assignment
from latentscale.config import JobConfig
from latentscale.stages.stage import HELD_BYTES, Cost, JobSize, MapJob, StageContext, Table, WholeStage, Work
from latentscale.stages.update.fit import Fit, FittedMap, Ids, read_fit
from latentscale.storage.artifacts import ArtifactWriter, Record, needed_record, read_table, table_parts
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.provenance import measured
from latentscale.storage.request import Request, omitted_at_default
from latentscale.storage.segments import contains, read_points
from latentscale.storage.snapshot import Snapshot, in_shards
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import Vectors, column_values, vectors_at


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest(Request):
    """Everything that affects the positions of new documents."""

    VERSION: ClassVar[int] = 3

    parent: str
    snapshot: str
    embedding: str
    fit: str
    n_neighbors: int
    spread: float
    seed: int
    recall: float
    text: str
    backend: str = omitted_at_default("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Differences between the documents of a new snapshot and those of a map.

    Attributes
    ----------
    removed : int64 ndarray, ascending
        ``row_id`` of points that are not reused: their documents were removed or read again.
    added : int64 ndarray, ascending
        Offsets of documents with a vector that are new or were read again.
    """

    removed: Ids
    added: Ids


def find_changes(store: Store, parent: Record, before: Snapshot, after: Snapshot) -> Changes:
    """Compare the points of a map with the documents of a later snapshot."""
    ids = [table["row_id"].to_numpy() for _, table in read_points(store, parent, ["row_id"])]
    shown = np.sort(np.concatenate(ids)) if ids else np.empty(0, dtype=np.int64)
    offsets = after.offsets(shown)
    same = (offsets == before.offsets(shown)) & in_shards(offsets, after.shards)
    same &= ~contains(after.superseded, offsets) & (after.row_ids(offsets) == shown)
    staying = np.sort(offsets[same])
    added: list[Ids] = []
    bases, ends = after.shards.bases, after.shards.bases + after.shards.rows
    held = np.searchsorted(staying, ends) - np.searchsorted(staying, bases)
    held += np.searchsorted(after.superseded, ends) - np.searchsorted(after.superseded, bases)
    for index in np.flatnonzero(held < after.shards.rows).tolist():
        shard = after.shards[index]
        rows = shard.base + np.flatnonzero(after.kept(shard))
        added.append(rows[~contains(staying, rows)])
    candidates = np.concatenate(added) if added else np.empty(0, dtype=np.int64)
    # A document of an old shard that is not on the map has no vector, unless another one with its id was shown instead.
    old = in_shards(candidates, before.shards) & ~contains(before.superseded, candidates)
    return Changes(removed=shown[~same], added=candidates[~old])


_POSITIONS = {
    "row_id": "int64",
    "x": "float",
    "y": "float",
    "cluster": "int32",
    "nearest_cluster": "int32",
    "probability": "float",
    "density": "float",
}


class PlaceStage(WholeStage):
    """Computes positions and clusters of documents that are not on a map yet.

    The artifact holds ``placed`` (one row a document: ``row_id``, ``x``, ``y``, ``cluster``, ``nearest_cluster``,
    ``probability``, ``density``, ``neighbor_distance``, ``outlier_score``, and ``z`` on a map of three dimensions),
    ``nearest`` (for each of them a fixed number of fitted documents, nearest first: ``position`` and ``distance``),
    ``reused`` (``row_id`` of documents that were read again with the same text, and are not changed) and ``removed``
    (``row_id`` of points that are removed or rewritten).
    """

    name = "place"
    tables: ClassVar[Mapping[str, Table]] = {
        "placed": Table(columns=_POSITIONS),
        "nearest": Table(columns={"position": "int32", "distance": "float"}),
        "reused": Table(columns={"row_id": "int64"}),
        "removed": Table(columns={"row_id": "int64"}),
    }

    def work(self, job: MapJob, fit: Fit, parent: Record) -> Work:
        """Return the placement of the documents that ``job.snapshot`` adds to the map ``parent``."""
        projection = fit.projection.request
        request = PlacementRequest(
            parent=parent.id,
            snapshot=job.snapshot.id,
            embedding=str(fit.map.request["embedding"]),
            fit=fit.map.id,
            n_neighbors=int(projection["n_neighbors"]),
            spread=float(projection["spread"]),
            seed=int(projection["seed"]),
            recall=job.config.update.recall,
            text=job.workspace.text_column,
            backend=job.choose(self.name).backend,
        )
        return Work(stage=self, slot=self.name, title=self.name, request=request, parents=(*fit.records(), parent))

    def make(self, context: StageContext, request: PlacementRequest) -> Record:
        """Place the documents that are not on the map ``request.parent``, and write the tables."""
        store = context.store
        parent = needed_record(store, "map", request.parent)
        fit = read_fit(store, parent)
        writer = ArtifactWriter(store, self.kind, request.identity(), [*fit.records(), parent], run=context.run)
        with measured() as cost:
            before = read_snapshot(store, str(parent.request["snapshot"]))
            after = read_snapshot(store, request.snapshot)
            changes = find_changes(store, parent, before, after)
            new = vectors_at(store, after, request.embedding, changes.added)
            reused = _unchanged(store, before, after, request, new, changes.removed)
            stay = contains(reused, new.row_ids)
            new = Vectors(matrix=new.matrix[~stay], offsets=new.offsets[~stay], row_ids=new.row_ids[~stay])
            placed, assignment = self._placed(context, request, fit, after, new)
            writer.put_table("placed", placed)
            if assignment and assignment.nearest is not None and assignment.nearest_distances is not None:
                near = {"position": assignment.nearest, "distance": assignment.nearest_distances}
                writer.put_table("nearest", pa.table({name: pa.array(one.reshape(-1)) for name, one in near.items()}))
            writer.put_table("reused", pa.table({"row_id": pa.array(reused)}))
            writer.put_table("removed", pa.table({"row_id": pa.array(changes.removed)}))
        again = int(contains(np.sort(new.row_ids), changes.removed).sum())
        return writer.commit(
            counts={
                "documents": len(new),
                "noise": int((placed["cluster"].to_numpy() < 0).sum()),
                "reused": len(reused),
                "removed": len(changes.removed) - len(reused) - again,
                "recall": assignment.recall if assignment else None,
            },
            cost=cost,
            choices={"backend": assignment.backend, "method": assignment.method, **assignment.details}
            if assignment
            else {"backend": request.backend},
            notes=assignment.notes if assignment else (),
        )

    def _placed(
        self, context: StageContext, request: PlacementRequest, fit: Fit, after: Snapshot, new: Vectors
    ) -> tuple[pa.Table, Assignment | None]:
        if not len(new):
            kinds = {"int64": pa.int64(), "int32": pa.int32(), "float": pa.float32()}
            columns = {name: kinds[kind] for name, kind in _POSITIONS.items()}
            columns |= {"neighbor_distance": pa.float32(), "outlier_score": pa.float32()}
            columns |= {"z": pa.float32()} if fit.height else {}
            return pa.table({name: pa.array([], kind) for name, kind in columns.items()}), None
        fitted = FittedMap(context.store, fit)
        values = column_values(context.store, after, new.row_ids, fitted.column) if fitted.column else None
        placed, assignment = fitted.place(
            new.matrix, values, backend=request.backend, recall_target=request.recall, threads=context.threads
        )
        table = pa.table({"row_id": pa.array(new.row_ids)} | {name: pa.array(one) for name, one in placed.items()})
        return table, assignment

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate for placing documents on a map of about as many."""
        return Cost(
            cpu_seconds=2.0e-4 * size.documents,
            parallel=True,
            memory_bytes=size.documents * (4_000.0 + HELD_BYTES * size.dim),
            disk_bytes=size.documents * 40.0,
            scratch_bytes=size.documents * size.dim * 4.0,
        )


STAGE = PlaceStage()


def _unchanged(
    store: Store, before: Snapshot, after: Snapshot, request: PlacementRequest, new: Vectors, removed: Ids
) -> Ids:
    """Find documents that moved to another shard with the same text: ``row_id``, ascending.

    Texts are compared, or the vectors of the corpus: embedders need not be deterministic, and an unchanged document
    must not move.
    """
    known = np.flatnonzero(contains(removed, new.row_ids))
    if not len(known):
        return np.empty(0, dtype=np.int64)
    ids = new.row_ids[known]
    earlier = vectors_at(store, before, request.embedding, np.sort(before.offsets(ids)))
    order = np.argsort(earlier.row_ids)
    known = known[contains(earlier.row_ids[order], ids)]
    ids = new.row_ids[known]
    rows = order[np.searchsorted(earlier.row_ids[order], ids)]
    alike = (earlier.matrix[rows] == new.matrix[known]).all(axis=1)
    spec = needed_record(store, "embedding", request.embedding).choices.get("spec") or {}
    if spec.get("kind") != "column" and not alike.all():
        alike |= _same_texts(store, before, after, ids, request.text)
    return np.sort(ids[alike])


def _same_texts(store: Store, before: Snapshot, after: Snapshot, row_ids: Ids, column: str) -> NDArray[np.bool_]:
    """Whether documents have the same text in two snapshots (bool, shape of ``row_ids``)."""
    texts: list[dict[int, bytes]] = []
    for snapshot in (before, after):
        found: dict[int, bytes] = {}
        for shard, rows, positions in snapshot.locate(row_ids):
            values = read_parquet(store, shard.name, [column]).column(0).take(pa.array(rows)).to_pylist()
            for position, value in zip(positions.tolist(), values, strict=True):
                found[position] = hashlib.blake2b(str(value).encode(), digest_size=16).digest()
        texts.append(found)
    return np.array([texts[0][at] == texts[1][at] for at in range(len(row_ids))], dtype=bool)


def read_nearest(store: Store, record: Record) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
    """Read positions and cosine distances of the fitted documents nearest to those of a placement, in its order.

    None for placements of earlier versions, which lack them.
    """
    if not table_parts(record, "nearest"):
        return None
    table = read_table(store, record, "nearest")
    shape = (int(record.counts["documents"]), -1)
    return table["position"].to_numpy().reshape(shape), table["distance"].to_numpy().reshape(shape)


def read_placement(store: Store, record: Record) -> tuple[pa.Table, Ids, Ids]:
    """Read (placed, reused, removed) of a placement."""
    return (
        read_table(store, record, "placed"),
        read_table(store, record, "reused")["row_id"].to_numpy(),
        read_table(store, record, "removed")["row_id"].to_numpy(),
    )
