"""Overlay: place the documents of one workspace on a map of another, without adding them to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from latentscale.config import JobConfig
from latentscale.errors import DamagedObjectError
from latentscale.stages.cluster import Clusters
from latentscale.stages.publish import published_columns
from latentscale.stages.publish.columns import Published, published_documents
from latentscale.stages.publish.points import SPLIT_COLUMNS, point_columns, with_source_columns
from latentscale.stages.stage import HELD_BYTES, Cost, JobSize, MapJob, StageContext, Table, WholeStage, Work
from latentscale.stages.update.fit import FittedMap, Ids, read_fit
from latentscale.storage.artifacts import ArtifactWriter, Record, needed_record
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, read_footer, read_parquet
from latentscale.storage.provenance import measured
from latentscale.storage.request import Request, not_in_identity
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import column_values, vectors_at

# Documents per block, which is one part of the points and shares the setup of a search.
BLOCK_ROWS = 65_536
# Outlier score from which a document counts as far from the map.
FAR = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayRequest(Request):
    """Everything that affects the points of an overlay.

    Attributes
    ----------
    snapshot, embedding : str
        Ids of the placed documents' snapshot and embedding.
    workspace : str
        Address of the map's workspace.
    map, content : str
        Id of the map, and digest of its fit.
    columns : tuple of str or None
        Source columns of the points; None: all.
    text : str
        Stored column of the text.
    with_text : bool
        Whether the points have this column.
    storage : mapping
        Storage settings of the map's store, without credentials.
    """

    snapshot: str
    embedding: str
    workspace: str
    map: str
    content: str
    recall: float
    backend: str
    text: str
    vectors: str | None
    columns: tuple[str, ...] | None
    with_text: bool
    storage: Mapping[str, Any] = not_in_identity({})


class OverlayStage(WholeStage):
    """Computes the points of documents on a map that is not changed.

    The artifact holds ``points``: the columns of a map's points, as an update would compute them, with the source
    columns of the documents. Documents are placed in blocks of consecutive ones, so that memory holds one block and the
    fit of the map; blocks written by an interrupted run are reused.
    """

    name = "overlay"
    tables: ClassVar[Mapping[str, Table]] = {
        "points": Table(
            columns={
                "row_id": "int64",
                "x": "float",
                "y": "float",
                "cluster": "int32",
                "nearest_cluster": "int32",
                "probability": "float",
                "density": "float",
                "neighbor_distance": "float",
                "outlier_score": "float",
            }
        )
    }

    def work(self, job: MapJob, store: Store, placed_on: Record) -> Work:
        """Return the points of ``job.snapshot`` on the map ``placed_on``, which is in ``store``."""
        embedding = job.records["embed"]
        publish = job.config.publish
        request = OverlayRequest(
            snapshot=job.snapshot.id,
            embedding=embedding.id,
            workspace=store.url,
            map=placed_on.id,
            content=read_fit(store, placed_on).map.content,
            recall=job.config.update.recall,
            backend=job.choose("place").backend,
            text=job.workspace.text_column,
            vectors=job.vectors_column,
            columns=publish.columns,
            with_text=publish.text == "points",
            storage={} if store.is_local else store.storage.model_dump(mode="json"),
        )
        return Work(stage=self, slot=self.name, title="place", request=request, parents=(embedding,), steps=True)

    def make(self, context: StageContext, request: OverlayRequest) -> Record:
        """Place the documents block by block; existing blocks are reused."""
        store = context.store
        embedding = needed_record(store, "embedding", request.embedding)
        writer = ArtifactWriter(store, self.kind, request.identity(), [embedding], run=context.run)
        with measured() as cost:
            snapshot = read_snapshot(store, request.snapshot)
            blocks = list(_blocks(snapshot))
            placing = _Placing(context, request, snapshot, writer.id)
            there = store.list(f"{writer.folder}/points")
            found: list[Mapping[str, Any]] = []
            for number, offsets in enumerate(blocks):
                name = f"points/part-{number:05d}.parquet"
                written = f"{writer.folder}/{name}"
                facts = _facts_of(store, written, writer.id) if written in there else None
                if facts is None:
                    table, facts = placing.place(offsets)
                    split = [one for one in SPLIT_COLUMNS if one in table.column_names]
                    data = memoryview(encode_table(table, facts=facts, byte_stream_split=split))
                    writer.put(name, data, rows=table.num_rows)
                else:
                    writer.keep(name, rows=int(facts["documents"]))
                found.append(facts)
                context.progress(number + 1, len(blocks))
        recalls = [float(facts["recall"]) for facts in found if facts["recall"] is not None]
        return writer.commit(
            counts={
                **{key: sum(int(facts[key]) for facts in found) for key in ("documents", "noise", "far")},
                "recall": min(recalls, default=None),
            },
            cost=cost,
            choices={"backend": request.backend, "methods": sorted({str(facts["method"]) for facts in found})},
            notes=list(dict.fromkeys(note for facts in found for note in facts["notes"])),
        )

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the size of the map, for one block of documents."""
        held = 300.0 + 12.0 * (config.project.n_neighbors + 15) + HELD_BYTES * size.dim
        return Cost(
            cpu_seconds=2.0e-4 * BLOCK_ROWS,
            parallel=True,
            memory_bytes=size.documents * held + BLOCK_ROWS * (2_000.0 + 8.0 * size.dim),
            scratch_bytes=size.documents * size.dim * 4.0,
        )


STAGE = OverlayStage()


class _Placing:
    """Places blocks of documents; the fit of the map is read lazily."""

    def __init__(self, context: StageContext, request: OverlayRequest, snapshot: Snapshot, identity: str) -> None:
        self._context, self._request, self._snapshot, self._id = context, request, snapshot, identity
        self._fitted: FittedMap | None = None
        self._labels = pa.table({})
        self._columns: Published | None = None

    def _open(self) -> tuple[FittedMap, Published]:
        if self._fitted is None or self._columns is None:
            request = self._request
            storage = dict(request.storage) or self._context.store.storage
            store = Store(request.workspace, storage=storage)
            placed_on = needed_record(store, "map", request.map)
            self._fitted = FittedMap(store, read_fit(store, placed_on))
            self._labels = read_parquet(store, f"{placed_on.folder}/labels.parquet", ["layer", "cluster", "label"])
            settings = {
                "columns": None if request.columns is None else list(request.columns),
                "text": "points" if request.with_text else "none",
            }
            here, shards = self._context.store, self._snapshot.shards
            self._columns = published_columns(here, shards, settings, request.text, request.vectors)
        return self._fitted, self._columns

    def place(self, offsets: Ids) -> tuple[pa.Table, dict[str, Any]]:
        """Place the documents at ``offsets`` that have a vector: their points, and summary facts."""
        fitted, published = self._open()
        request, store, snapshot = self._request, self._context.store, self._snapshot
        new = vectors_at(store, snapshot, request.embedding, offsets)
        matrix = new.matrix if len(new) else np.empty((0, fitted.width), np.float32)
        values = column_values(store, snapshot, new.row_ids, fitted.column) if fitted.column else None
        placed, found = fitted.place(
            matrix,
            values,
            backend=request.backend,
            recall_target=request.recall,
            threads=self._context.threads,
        )
        points = Clusters(
            row_ids=new.row_ids,
            cluster=placed["cluster"],
            nearest_cluster=placed["nearest_cluster"],
            probability=placed["probability"],
            tree=fitted.clusters.tree,
        )
        axes = [name for name in ("x", "y", "z") if name in placed]
        places = np.column_stack([placed[name] for name in axes])
        columns = point_columns(points, places, placed["density"], self._labels)
        columns |= {name: pa.array(placed[name]) for name in ("neighbor_distance", "outlier_score")}
        read = ["source", "source_row", *published.points]
        schema = pa.schema([pa.field("source", pa.string()), pa.field("source_row", pa.int64()), *published.schema])
        documents = list(published_documents(store, snapshot, new.row_ids, read, schema))
        empty = pa.schema([schema.field(name) for name in read]).empty_table()
        table = with_source_columns(pa.table(columns), pa.concat_tables(documents) if documents else empty)
        return table, {
            "artifact": self._id,
            "documents": len(new),
            "noise": int((placed["cluster"] < 0).sum()),
            "far": int((placed["outlier_score"] >= FAR).sum()),
            "recall": found.recall,
            "method": found.method,
            "notes": list(found.notes),
        }


def _blocks(snapshot: Snapshot) -> Iterator[Ids]:
    """Yield the offsets of the documents in blocks of whole shards."""
    held: list[Ids] = []
    rows = 0
    for shard in snapshot.shards:
        if rows and rows + shard.rows > BLOCK_ROWS:
            yield np.concatenate(held)
            held, rows = [], 0
        held.append(shard.base + np.flatnonzero(snapshot.kept(shard)))
        rows += shard.rows
    if held:
        yield np.concatenate(held)


def _facts_of(store: Store, name: str, identity: str) -> dict[str, Any] | None:
    """Read the facts in the footer of a part; None if it is damaged or of another artifact."""
    try:
        facts = read_footer(store, name).facts
    except DamagedObjectError:
        return None
    return facts if facts.get("artifact") == identity else None
