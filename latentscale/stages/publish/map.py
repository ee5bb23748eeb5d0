"""Publish: combine a layout, clusters and labels into points, tables, quality figures and a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends import Faithfulness, NeighborGraph
from latentscale.backends.outliers import JUDGED_BY, mean_distances, outlier_scores
from latentscale.backends.select import open_backend
from latentscale.config import JobConfig, PublishConfig, QualityConfig
from latentscale.digest import artifact_id
from latentscale.errors import name_list
from latentscale.quality.measure import measure_map
from latentscale.quality.metrics import stability
from latentscale.stages.cluster import Clusters, ClustersRequest, cluster_points, read_clusters
from latentscale.stages.label_table import LABELS_TABLE
from latentscale.stages.neighbors import read_graph
from latentscale.stages.project import HEIGHT_SLOT, compute_layout, read_coordinates
from latentscale.stages.project_request import ProjectionRequest
from latentscale.stages.publish.columns import published_columns
from latentscale.stages.publish.confounders import measure_confounders
from latentscale.stages.publish.labels import map_labels, published_evidence
from latentscale.stages.publish.meaning import meaning_of
from latentscale.stages.publish.noise import shown_clusters, shown_labels
from latentscale.stages.publish.page import write_viewer
from latentscale.stages.publish.points import write_points
from latentscale.stages.publish.similar import similar_of_graph
from latentscale.stages.publish.thumbnail import draw_thumbnail
from latentscale.stages.rates import peak_bytes
from latentscale.stages.stage import Cost, JobSize, MapJob, StageContext, Table, WholeStage, Work
from latentscale.storage.artifacts import ArtifactWriter, Record, find_record, needed_record, read_table
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, read_parquet
from latentscale.storage.provenance import measured
from latentscale.storage.request import Request, omitted_at_default
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import Vectors, column_values, load_vectors
from latentscale.viewer.height import Height
from latentscale.viewer.labels import with_hues

# Trustworthiness and preservation use 15 neighbours, and the same sample for all maps of a corpus.
MEASURED_NEIGHBORS = 15
MEASURED_SEED = 0
# Columns of the table of labels that the quality figures use.
LABEL_COLUMNS = ("layer", "label", "source", "coverage", "coverage_outside", "held_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRequest(Request):
    """Everything that affects a map.

    ``align`` is the map whose cluster ids and colours are carried over; ``grown`` and ``update`` are set for maps made
    by an update (``stages/update/grow.py``); ``height`` is the three-dimensional layout, if the map has one.
    """

    VERSION: ClassVar[int] = 3

    snapshot: str
    embedding: str
    neighbors: str
    projection: str
    clusters: str
    labels: str
    publish: Mapping[str, Any]
    quality: Mapping[str, Any]
    text: str
    vectors: str | None
    align: str | None = omitted_at_default(None)
    grown: int | None = omitted_at_default(None)
    update: Mapping[str, Any] | None = omitted_at_default(None)
    backend: str = omitted_at_default("cpu")
    height: str | None = omitted_at_default(None)


def publish_settings(config: PublishConfig, *, title: str | None) -> dict[str, Any]:
    """The settings of ``publish`` that affect a map; settings added later are included only if set.

    Parameters
    ----------
    title : str or None
        None for the name of the workspace, which is not part of the map: a corpus has the same map id everywhere.
    """
    settings: dict[str, Any] = {
        "columns": None if config.columns is None else list(config.columns),
        "text": config.text,
        "partition_by": config.partition_by,
        "viewer": config.viewer,
        "title": title,
    }
    if config.semantic and config.viewer:
        settings["semantic"] = True
    if config.noise != "keep":
        settings["noise"] = config.noise
    if config.images is not None and config.viewer:
        settings |= {"images": config.images, "image_origins": list(config.image_origins)}
    if config.url is not None and config.viewer:
        settings["url"] = config.url
    return settings if config.search else settings | {"search": False}


def quality_settings(config: QualityConfig) -> dict[str, Any]:
    """The settings of ``quality`` that affect a map."""
    return {"sample": config.sample, "against": config.against, "stability": config.stability}


class PublishStage(WholeStage):
    """Writes a map: points, labels, quality figures and the page."""

    name = "publish"
    tables: ClassVar[Mapping[str, Table]] = {
        "labels": Table(
            columns={**LABELS_TABLE.columns, "x": "float", "y": "float", "hull": "list", "centroid": "fixed_size_list"}
        ),
        "points": Table(
            columns={
                "row_id": "int64",
                "x": "float",
                "y": "float",
                "cluster": "int32",
                "nearest_cluster": "int32",
                "probability": "float",
                "density": "float",
            }
        ),
        "removed": Table(columns={"row_id": "int64"}),
    }

    def works(self, job: MapJob) -> Iterator[Work]:
        """Return the map of the job's layout, clusters and labels."""
        graph = job.records["neighbors"]
        parents = [graph, job.records["project"], job.records["cluster"], job.records["label"]]
        height = job.records.get(HEIGHT_SLOT)
        request = MapRequest(
            snapshot=graph.request["snapshot"],
            embedding=graph.request["embedding"],
            neighbors=graph.id,
            projection=parents[1].id,
            clusters=parents[2].id,
            labels=parents[3].id,
            publish=publish_settings(job.config.publish, title=job.config.publish.title),
            quality=quality_settings(job.config.quality),
            text=job.workspace.text_column,
            vectors=job.vectors_column,
            # The quality figures compare neighbours.
            backend=job.choose("neighbors").backend,
            height=height.id if height else None,
        )
        if height:
            parents.append(height)
        request, align = job.aligned(self.kind, request)
        if request.publish["title"] is None:
            # Maps of early versions have the workspace's name in their request; they are reused.
            named = replace(request, publish={**request.publish, "title": job.workspace.name})
            if find_record(job.store, self.kind, artifact_id(self.kind, named.identity())) is not None:
                request = named
        yield Work(stage=self, slot=self.name, title=self.name, request=request, parents=(*parents, *align))

    def make(self, context: StageContext, request: MapRequest) -> Record:
        """Write all parts of the map, its record last."""
        from latentscale.backends.shapes import density

        store, settings = context.store, request.publish
        graph = needed_record(store, "neighbors", request.neighbors)
        projection = needed_record(store, "projection", request.projection)
        made_clusters = needed_record(store, "clusters", request.clusters)
        made_labels = needed_record(store, "labels", request.labels)
        align = needed_record(store, "map", request.align) if request.align else None
        height = needed_record(store, "projection", request.height) if request.height else None
        optional_parents = [record for record in (align, height) if record is not None]
        parents = [graph, projection, made_clusters, made_labels, *optional_parents]
        writer = ArtifactWriter(store, self.kind, request.identity(), parents, run=context.run)
        with measured() as cost:
            snapshot = read_snapshot(store, request.snapshot)
            vectors = load_vectors(store, snapshot, request.embedding)
            clusters = read_clusters(store, made_clusters)
            coordinates = read_coordinates(store, projection)
            space = read_coordinates(store, height) if height else None
            columns = published_columns(store, snapshot.shards, settings, request.text, request.vectors)
            before = read_parquet(store, f"{align.folder}/labels.parquet") if align else None
            label_table = published_evidence(read_table(store, made_labels, "labels"), {*columns.page, *columns.points})
            label_table = map_labels(label_table, clusters, coordinates, space)
            labels = with_hues(label_table, before)
            faithfulness, faithfulness_3d = (
                None if layout is None else _faithfulness(context, request, vectors, layout)
                for layout in (coordinates, space)
            )
            neighbors = read_graph(store, graph)
            assert faithfulness is not None, "every map has flat coordinates"
            quality = measure_map(
                neighbors,
                coordinates,
                cluster=clusters.cluster,
                nearest_cluster=clusters.nearest_cluster,
                sizes=clusters.tree["size"].to_numpy(),
                persistence=clusters.tree["persistence"].to_numpy(),
                n_neighbors=int(projection.request["n_neighbors"]),
                against=_classes(store, snapshot, clusters, request.quality["against"]),
                stability=_stability(context, vectors, clusters, made_clusters)
                if request.quality["stability"]
                else None,
                faithfulness=faithfulness,
                labels=labels.select([name for name in LABEL_COLUMNS if name in labels.column_names]).to_pylist(),
                collapsed=made_clusters.choices.get("collapsed"),
                **_truncation(needed_record(store, "embedding", request.embedding)),
                follows=measure_confounders(
                    store, snapshot, clusters.row_ids, clusters.cluster, text_column=request.text
                ),
                space=None if space is None or faithfulness_3d is None else (space, faithfulness_3d),
            )
            densities = density(coordinates)
            partitions = write_points(
                writer,
                store,
                snapshot,
                clusters,
                coordinates if space is None else space,
                densities,
                labels,
                columns,
                settings["partition_by"],
                extra_columns=_sparseness(neighbors),
            )
            writer.put(
                "labels.parquet", memoryview(encode_table(labels, facts={"map": writer.id})), rows=labels.num_rows
            )
            page_clusters = shown_clusters(clusters, settings)
            writer.put("thumbnail.png", draw_thumbnail(coordinates, page_clusters, shown_labels(labels, settings)))
            writer.put("quality.json", json.dumps(quality, indent=1, ensure_ascii=False).encode())
            counts = dict(made_clusters.counts) | {
                "published": columns.sentence(settings["text"])
                + (f", in {partitions:,} partitions" if partitions else "")
            }
            if settings["viewer"]:
                counts["page"] = write_viewer(
                    writer,
                    store,
                    snapshot,
                    clusters,
                    coordinates,
                    labels,
                    columns,
                    settings,
                    quality,
                    height=None if space is None else Height.of(space),
                    similar=similar_of_graph(neighbors),
                    meaning=meaning_of(needed_record(store, "embedding", request.embedding), vectors.matrix, labels)
                    if settings.get("semantic")
                    else None,
                )
                if "text_dates" in counts["page"]:
                    counts["published"] += f"; of text, as dates: {name_list(counts['page']['text_dates'])}"
        return writer.commit(counts=counts, cost=cost, job=context.job)

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate from the measured rates of points, tiles and the search index."""
        return Cost(
            cpu_seconds=0.3
            + (1.6e-5 + (2.1e-5 if config.publish.search else 0.0) + (5e-5 if config.publish.semantic else 0.0))
            * size.documents,
            memory_bytes=peak_bytes(size, fixed=152e6, document=1_600.0, text=9_500.0),
            disk_bytes=0.5 * size.text_bytes
            + size.documents * (80 + (100 if config.publish.search else 0) + (135 if config.publish.semantic else 0)),
            scratch_bytes=size.documents * size.dim * 4.0,
        )


STAGE = PublishStage()


def _truncation(embedding: Record) -> dict[str, Any]:
    """Share of distinct texts that the model truncated, and its token limit; empty for vectors of the corpus."""
    unique, cut = embedding.counts.get("unique"), embedding.counts.get("truncated")
    if not unique or cut is None:
        return {}
    # The model's own limit may be lower than that of the settings.
    model = embedding.request.get("model")
    limit = cast("Mapping[str, Any]", model).get("max_tokens") if isinstance(model, Mapping) else None
    return {"truncated": cut / unique, "max_tokens": limit or embedding.choices.get("max_tokens")}


def _sparseness(graph: NeighborGraph) -> dict[str, pa.Array]:
    """Columns of fitted points: mean distance to their neighbours, outlier score, and ``fitted``."""
    distances = mean_distances(graph.distances[:, :JUDGED_BY])
    return {
        "neighbor_distance": pa.array(distances, mask=np.full(len(distances), graph.k == 0)),
        "outlier_score": pa.array(outlier_scores(distances, np.sort(distances))),
        "fitted": pa.array(np.ones(len(distances), dtype=bool)),
    }


def _faithfulness(
    context: StageContext, request: MapRequest, vectors: Vectors, coordinates: NDArray[np.float32]
) -> Faithfulness:
    return open_backend(request.backend).faithfulness(
        vectors.matrix,
        coordinates,
        k=MEASURED_NEIGHBORS,
        sample=int(request.quality["sample"]),
        seed=MEASURED_SEED,
        threads=context.threads,
    )


def _classes(
    store: Store, snapshot: Snapshot, clusters: Clusters, column: str | None
) -> tuple[str, NDArray[np.int32]] | None:
    """Read the classes that clusters are compared with, and the name of their column."""
    return None if column is None else (column, column_values(store, snapshot, clusters.row_ids, column).codes)


def _stability(context: StageContext, vectors: Vectors, clusters: Clusters, made: Record) -> float | None:
    """Measure stability by a second layout and clustering with another seed; None for clusters without a layout.

    Never initialised from an earlier map: both clusterings would agree because they start from it.
    """
    identity = made.request.get("projection")
    if not identity:
        return None
    projection = needed_record(context.store, "projection", str(identity))
    neighbors = needed_record(context.store, "neighbors", str(projection.request["neighbors"]))
    request = ProjectionRequest.read(projection.request)
    layout = compute_layout(context, replace(request, seed=request.seed + 1, earlier=None), neighbors, vectors)
    second = cluster_points(layout.coordinates, ClustersRequest.read(made.request), threads=context.threads)
    return stability(clusters.cluster, second.labels)
