"""Project: UMAP layouts of the neighbour graph: two-dimensional for the map, of a few dimensions for clustering, and
the height of a map of three dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.backends import Layout, NeighborGraph
from latentscale.backends.abilities import takes_preview
from latentscale.backends.identical import first_occurrence, shared_positions
from latentscale.backends.select import open_backend
from latentscale.config import JobConfig
from latentscale.digest import artifact_id
from latentscale.stages.earlier import EPOCHS, RATE, configured_epochs, earlier_start, with_earlier_start
from latentscale.stages.neighbors import read_graph
from latentscale.stages.previewed import preview_cost
from latentscale.stages.project_request import ProjectionRequest
from latentscale.stages.rates import layout_seconds, peak_bytes
from latentscale.stages.stage import Cost, JobSize, MapJob, StageContext, Table, WholeStage, Work
from latentscale.storage.artifacts import ArtifactWriter, Record, find_record, needed_record, read_table
from latentscale.storage.objects import Store
from latentscale.storage.provenance import measured
from latentscale.storage.segments import read_points
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.vectors import Vectors, load_vectors

if TYPE_CHECKING:
    from latentscale.backends.shown import PreviewCallback

MAP_DIMENSIONS = 2
# Slots of the further layouts: the one for clustering, and the one with heights.
LAYOUT_SLOT, HEIGHT_SLOT = LAYOUT_SLOTS = ("layout", "height")
# With fewer shared documents a layout is not aligned.
LEAST_SHARED = 3
# For each pair of dimensions: the covariance of the vectors and its eigenvectors, as measured. It counts for widths of
# tens of thousands, as of a dense matrix of words.
_PCA_BYTES = 50.0


class ProjectStage(WholeStage):
    """Computes layouts of the neighbour graph: two-dimensional for the map, of a few dimensions for clustering.

    A map of three dimensions has a further one, with x and y fixed to those of the map and z optimised.
    """

    name = "project"
    tables: ClassVar[Mapping[str, Table]] = {
        "coordinates": Table(columns={"row_id": "int64", "coordinates": "fixed_size_list"}, by_document=True)
    }

    def works(self, job: MapJob) -> Iterator[Work]:
        """Return the map's layout, and the height layout if the map has three dimensions."""
        yield replace(self.layout_of(job, MAP_DIMENSIONS, slot=self.name), is_shown=True)
        if job.config.project.map_dimensions > MAP_DIMENSIONS:
            yield self._height(job)

    def _height(self, job: MapJob) -> Work:
        """Return the three-dimensional layout, whose x and y are those of the flat map."""
        dimensions = job.config.project.map_dimensions
        work = self.layout_of(job, dimensions, slot=HEIGHT_SLOT, fixed=job.records[self.name])
        return replace(work, title=f"project {dimensions}-D, x and y kept", is_shown=True)

    def layout_of(self, job: MapJob, n_components: int, *, slot: str, fixed: Record | None = None) -> Work:
        """Return a layout of the job's graph in ``n_components`` dimensions; ``fixed`` provides the first ones."""
        config, graph = job.config.project, job.records["neighbors"]
        backend = job.choose(self.name).backend
        documents = int(graph.counts["documents"])
        request = ProjectionRequest(
            neighbors=graph.id,
            snapshot=graph.request["snapshot"],
            embedding=graph.request["embedding"],
            n_components=n_components,
            n_neighbors=config.n_neighbors,
            # The layout for clustering has min_dist 0.
            min_dist=config.min_dist if n_components == MAP_DIMENSIONS else 0.0,
            spread=config.spread,
            n_epochs=config.n_epochs,
            negative_sample_rate=config.negative_sample_rate,
            learning_rate=config.learning_rate,
            seed=config.seed,
            deterministic=config.mode == "exact"
            or (config.mode == "auto" and documents <= open_backend(backend).deterministic_documents),
            backend=backend,
            # No densMAP for clustering: HDBSCAN relies on the densities of UMAP.
            density_weight=config.density_weight if n_components == MAP_DIMENSIONS else 0.0,
        )

        def aligned(request: ProjectionRequest) -> tuple[ProjectionRequest, tuple[Record, ...]]:
            if fixed is not None:
                # Earlier versions did not align heights; their artifacts are reused unchanged.
                there = find_record(job.store, self.kind, artifact_id(self.kind, request.identity()))
                return (request, ()) if there else job.aligned(self.kind, request, part=HEIGHT_SLOT)
            # Only the visible map is aligned: the orientation of the layout for clustering does not matter.
            return job.aligned(self.kind, request) if n_components == MAP_DIMENSIONS else (request, ())

        if fixed is not None:
            request = replace(request, fixed=fixed.id, min_dist=config.min_dist)
        request, maps = with_earlier_start(job, request, slot, aligned)
        return Work(
            stage=self,
            slot=slot,
            title=f"project {n_components}-D",
            request=request,
            parents=(graph, *([fixed] if fixed else []), *maps),
            steps=True,
        )

    def make(self, context: StageContext, request: ProjectionRequest) -> Record:
        """Lay out the graph, align it if requested, and write the coordinates."""
        store = context.store
        neighbors = needed_record(store, "neighbors", request.neighbors)
        align = needed_record(store, "map", request.align) if request.align else None
        kept = needed_record(store, "projection", request.fixed) if request.fixed else None
        earlier = needed_record(store, "map", request.earlier) if request.earlier else None
        parents = [neighbors, *(record for record in (align, kept, earlier) if record is not None)]
        writer = ArtifactWriter(store, self.kind, request.identity(), parents, run=context.run)
        with measured() as cost:
            vectors = load_vectors(store, read_snapshot(store, request.snapshot), request.embedding)
            earlier_points = _points(store, align, ["z"] if kept else ["x", "y"]) if align else None

            def placed(coordinates: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, Any]]:
                if align is None or earlier_points is None:
                    return coordinates, {}
                turn = _heights_aligned if kept else _aligned
                return turn(align.id, earlier_points, vectors.row_ids, coordinates)

            def show(coordinates: NDArray[np.float32], done: int, total: int) -> None:
                assert context.preview is not None, "only a layout that is shown tells how far it is"
                context.preview.show(vectors.row_ids, placed(coordinates)[0], done, total)

            if context.preview is not None:
                context.preview.begin(context.notice)
            told = None if context.preview is None else show
            layout = compute_layout(context, request, neighbors, vectors, told)
            coordinates, alignment = placed(layout.coordinates)
            if context.preview is not None:
                context.preview.show(vectors.row_ids, coordinates, 1, 1)
            flat = pa.array(coordinates.reshape(-1))
            table = pa.table(
                {
                    "row_id": pa.array(vectors.row_ids),
                    "coordinates": pa.FixedSizeListArray.from_arrays(flat, request.n_components),
                }
            )
            writer.put_table("coordinates", table, byte_stream_split=["coordinates.list.element"])
        return writer.commit(
            counts={"documents": len(vectors), "n_components": request.n_components},
            cost=cost,
            choices={
                "backend": layout.backend,
                "mode": "exact" if layout.deterministic else "fast",
                **layout.details,
                **alignment,
            },
            notes=layout.notes,
        )

    def cost(self, size: JobSize, config: JobConfig) -> Cost:
        """Estimate by the measured rates of two layouts, a third one for heights, and the preview."""
        height = config.project.map_dimensions if config.project.map_dimensions > MAP_DIMENSIONS else 0
        epochs, shown = configured_epochs(config), preview_cost(size, config)
        seconds = sum(
            layout_seconds(
                size.documents,
                epochs=epochs,
                dimensions=dimensions,
                dense=dimensions == MAP_DIMENSIONS and config.project.density_weight > 0,
            )
            for dimensions in (MAP_DIMENSIONS, config.project.cluster_dimensions, height)
            if dimensions
        )
        # The peak is the symmetrization of the graph, before any preview.
        peak = peak_bytes(size, fixed=170e6, document=2_060.0)
        if shown is not None:
            peak = max(peak, peak_bytes(size, fixed=120e6, document=600.0) + shown.memory_bytes)
        peak = max(peak, _PCA_BYTES * size.dim**2)
        return Cost(
            cpu_seconds=seconds + (shown.cpu_seconds if shown else 0.0),
            parallel=True,
            memory_bytes=peak,
            disk_bytes=size.documents * (MAP_DIMENSIONS + config.project.cluster_dimensions + height) * 4.0
            + (shown.file_bytes if shown else 0.0),
            scratch_bytes=size.documents * size.dim * 4.0,
        )


STAGE = ProjectStage()


def _points(store: Store, record: Record, axes: list[str]) -> pa.Table:
    return pa.concat_tables([table for _, table in read_points(store, record, ["row_id", *axes])])


def _aligned(
    align: str, points: pa.Table, row_ids: NDArray[np.int64], coordinates: NDArray[np.float32]
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Align a layout to an earlier map by a similarity transform of the shared documents."""
    from latentscale.backends.alignment import procrustes

    _, here, there = np.intersect1d(row_ids, points["row_id"].to_numpy(), return_indices=True)
    if len(here) < LEAST_SHARED:
        return coordinates, {"aligned": f"not aligned: {len(here):,} documents are also in {align}"}
    fixed = np.column_stack([points["x"].to_numpy()[there], points["y"].to_numpy()[there]]).astype(np.float32)
    found = procrustes(coordinates[here], fixed)
    return found.apply(coordinates).astype(np.float32), {
        "aligned": f"to {align} by {len(here):,} documents that are in both",
        "residual": round(float(found.residual), 4),
    }


def _heights_aligned(
    align: str, points: pa.Table, row_ids: NDArray[np.int64], coordinates: NDArray[np.float32]
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Align the heights of a layout, whose x and y are aligned already, to an earlier map."""
    from latentscale.backends.alignment import align_heights

    _, here, there = np.intersect1d(row_ids, points["row_id"].to_numpy(), return_indices=True)
    if len(here) < LEAST_SHARED:
        return coordinates, {"aligned": f"not aligned: {len(here):,} documents are also in {align}"}
    heights, mirrored = align_heights(coordinates[:, 2], coordinates[here, 2], points["z"].to_numpy()[there])
    return np.column_stack([coordinates[:, :2], heights]).astype(np.float32), {
        "aligned": f"to {align} by {len(here):,} documents that are in both",
        "mirrored": mirrored,
    }


def compute_layout(
    context: StageContext,
    request: ProjectionRequest,
    neighbors: Record,
    vectors: Vectors,
    preview: PreviewCallback | None = None,
) -> Layout:
    """Lay out the graph ``neighbors``; duplicates share a position."""
    # Optional parameters, passed only where used: backends of other packages may lack them.
    kept: dict[str, Any] = {}
    said: dict[str, Any] = {}
    graph, epochs, rate = _graph(context.store, neighbors), request.n_epochs, request.learning_rate
    if request.fixed:
        kept["fixed"] = read_coordinates(context.store, needed_record(context.store, "projection", request.fixed))
    if request.earlier:
        kept["init"], said = earlier_start(context.store, request, graph.indices, vectors.row_ids)
        epochs, rate = epochs or EPOCHS, rate * RATE
    if request.density_weight > 0:
        kept["density_weight"] = request.density_weight
    backend = open_backend(request.backend)
    if preview is not None and takes_preview(backend):
        kept["preview"] = preview
    elif preview is not None:
        context.notice(f"the backend {request.backend} shows no layout before it is done: the preview comes then")
    layout = backend.layout(
        graph,
        vectors.matrix,
        n_components=request.n_components,
        n_neighbors=request.n_neighbors,
        min_dist=request.min_dist,
        spread=request.spread,
        n_epochs=epochs,
        negative_sample_rate=request.negative_sample_rate,
        learning_rate=rate,
        deterministic=request.deterministic,
        seed=request.seed,
        threads=context.threads,
        progress=context.progress,
        **kept,
    )
    return replace(
        layout,
        coordinates=shared_positions(layout.coordinates, first_occurrence(vectors.matrix)),
        details=layout.details | said,
    )


_last_graph: tuple[tuple[str, str], NeighborGraph] | None = None


def _graph(store: Store, neighbors: Record) -> NeighborGraph:
    """Read a graph, cached for all of its layouts in this process."""
    global _last_graph
    key = (store.url, neighbors.id + neighbors.content)
    if _last_graph is None or _last_graph[0] != key:
        _last_graph = (key, read_graph(store, neighbors))
    return _last_graph[1]


def read_coordinates(store: Store, record: Record) -> NDArray[np.float32]:
    """Coordinates of a layout, float32 of shape (n, n_components), in ``row_id`` order."""
    column = read_table(store, record, "coordinates", ["coordinates"])["coordinates"]
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
    return flat.reshape(-1, int(record.counts["n_components"]))
