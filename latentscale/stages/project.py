"""Project: UMAP layouts of the neighbour graph, two-dimensional for the map and of a few dimensions for clustering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from latentscale.config import ProjectConfig
from latentscale.provenance import measured
from latentscale.stages.neighbors import read_graph
from latentscale.stages.vectors import Vectors, load_vectors
from latentscale.storage.artifacts import ArtifactWriter, Record, read_table
from latentscale.storage.objects import Store
from latentscale.storage.segments import read_points
from latentscale.storage.snapshots import read_snapshot

VERSION = 3
MAP_DIMENSIONS = 2
# Up to here a layout that is repeatable to the bit takes seconds; above, it is parallel unless asked otherwise.
EXACT_DOCUMENTS = 20_000
# Fewer documents say too little of how one layout lies on another.
LEAST_SHARED = 3


def resolve_mode(config: ProjectConfig, documents: int) -> Literal["exact", "fast"]:
    """``exact`` or ``fast``, where the settings leave it open by the number of documents."""
    if config.mode == "auto":
        return "exact" if documents <= EXACT_DOCUMENTS else "fast"
    return config.mode


def projection_request(
    config: ProjectConfig, neighbors: Record, *, n_components: int, mode: Literal["exact", "fast"], align: str | None
) -> dict[str, Any]:
    """Everything that alters a layout; the one for clustering packs its points as tightly as it can.

    ``align`` is the map on which the layout is laid by turning, mirroring and shifting it.
    """
    aligned = {"align": align} if align else {}
    return {
        **aligned,
        "version": VERSION,
        "neighbors": neighbors.id,
        "snapshot": neighbors.request["snapshot"],
        "embedding": neighbors.request["embedding"],
        "n_components": n_components,
        "n_neighbors": config.n_neighbors,
        "min_dist": config.min_dist if n_components == MAP_DIMENSIONS else 0.0,
        "spread": config.spread,
        "n_epochs": config.n_epochs,
        "negative_sample_rate": config.negative_sample_rate,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "mode": mode,
    }


def make_projection(
    store: Store,
    request: dict[str, Any],
    neighbors: Record,
    align: Record | None,
    threads: int,
    run: str | None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Record:
    """Lay out the graph of ``request``, lay it on the map ``align``, and write the coordinates."""
    writer = ArtifactWriter(store, "projection", request, [neighbors, *([align] if align else [])], run=run)
    alignment: dict[str, Any] = {}
    with measured() as cost:
        vectors = load_vectors(store, read_snapshot(store, request["snapshot"]), request["embedding"])
        coordinates = compute_layout(store, request, neighbors, vectors, threads=threads, progress=progress)
        if align is not None:
            coordinates, alignment = _laid_on(store, align, vectors.row_ids, coordinates)
        flat = pa.array(coordinates.reshape(-1))
        table = pa.table(
            {
                "row_id": pa.array(vectors.row_ids),
                "coordinates": pa.FixedSizeListArray.from_arrays(flat, request["n_components"]),
            }
        )
        writer.put_table("coordinates", table, byte_stream_split=["coordinates.list.element"])
    return writer.commit(
        counts={"documents": len(vectors), "n_components": request["n_components"]},
        cost=cost,
        choices={
            "backend": "cpu",
            "mode": request["mode"],
            "reason": f"{len(vectors):,} documents: exact is the default up to {EXACT_DOCUMENTS:,}",
            **alignment,
        },
    )


def _laid_on(
    store: Store, align: Record, row_ids: NDArray[np.int64], coordinates: NDArray[np.float32]
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Turn, mirror and shift a layout so that the documents that a map shows too lie as near to their places there."""
    from latentscale.backends.cpu.alignment import procrustes

    points = pa.concat_tables([table for _, table in read_points(store, align, ["row_id", "x", "y"])])
    _, here, there = np.intersect1d(row_ids, points["row_id"].to_numpy(), assume_unique=True, return_indices=True)
    if len(here) < LEAST_SHARED:
        return coordinates, {"aligned": f"not aligned: {len(here):,} documents are also in {align.id}"}
    fixed = np.column_stack([points["x"].to_numpy()[there], points["y"].to_numpy()[there]]).astype(np.float32)
    found = procrustes(coordinates[here], fixed)
    return found.apply(coordinates).astype(np.float32), {
        "aligned": f"to {align.id} by {len(here):,} documents that are in both",
        "residual": round(float(found.residual), 4),
    }


def compute_layout(
    store: Store,
    request: dict[str, Any],
    neighbors: Record,
    vectors: Vectors,
    *,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Lay out a graph as ``request`` says; float32 of shape (n, n_components)."""
    from latentscale.backends.cpu.layout import layout

    return layout(
        _fuzzy_graph(store, neighbors, request["n_neighbors"]),
        vectors.matrix,
        n_components=request["n_components"],
        min_dist=request["min_dist"],
        spread=request["spread"],
        n_epochs=request["n_epochs"],
        mode=request["mode"],
        seed=request["seed"],
        negative_sample_rate=request["negative_sample_rate"],
        learning_rate=request["learning_rate"],
        threads=threads,
        progress=progress,
    )


_fuzzy: tuple[tuple[str, str, int], csr_matrix] | None = None


def _fuzzy_graph(store: Store, neighbors: Record, n_neighbors: int) -> csr_matrix:
    """UMAP's fuzzy set of a graph, computed once for all layouts of it in this process."""
    global _fuzzy
    from latentscale.backends.cpu.layout import fuzzy_graph

    key = (store.url, neighbors.id + neighbors.content, n_neighbors)
    if _fuzzy is None or _fuzzy[0] != key:
        _fuzzy = (key, fuzzy_graph(read_graph(store, neighbors), n_neighbors=n_neighbors))
    return _fuzzy[1]


def read_coordinates(store: Store, record: Record) -> NDArray[np.float32]:
    """Coordinates of a layout, float32 of shape (n, n_components), in ``row_id`` order."""
    column = read_table(store, record, "coordinates", ["coordinates"])["coordinates"]
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks])
    return flat.reshape(-1, int(record.counts["n_components"]))
