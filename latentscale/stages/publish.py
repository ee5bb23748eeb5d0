"""Publish: tie a layout, clusters and labels together as points, tables, quality figures and a page."""

from __future__ import annotations

import difflib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.config import ClusterConfig, JobConfig, PublishConfig, QualityConfig
from latentscale.errors import ConfigError, CorpusError
from latentscale.provenance import measured
from latentscale.readers.columns import conform, stored_name, unify_columns
from latentscale.stages.cluster import Clusters, read_clusters
from latentscale.stages.measure import measure_map
from latentscale.stages.neighbors import read_graph
from latentscale.stages.project import read_coordinates
from latentscale.stages.thumbnail import draw_thumbnail
from latentscale.stages.vectors import load_vectors, stream_documents
from latentscale.storage.artifacts import ArtifactWriter, Record, read_table
from latentscale.storage.objects import Store
from latentscale.storage.parquet import encode_table, read_parquet
from latentscale.storage.segments import segments_of
from latentscale.storage.snapshots import Shard, Snapshot, read_footers, read_snapshot
from latentscale.storage.workspace_record import WorkspaceRecord
from latentscale.viewer import ViewerData, continued, write_page, write_tiles
from latentscale.viewer.labels import with_hues

VERSION = 2
POINTS_ROWS = 131_072
MAX_PARTITIONS = 1_000
PAGE_FOLDER = "viewer"
_LAYER = re.compile(r"layer_([1-9]\d*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class MapParents:
    """The artifacts that a map ties together."""

    neighbors: Record
    projection: Record
    clusters: Record
    labels: Record

    def records(self) -> list[Record]:
        """All of them, in the order of the stages."""
        return [self.neighbors, self.projection, self.clusters, self.labels]


def map_request(
    publish: PublishConfig,
    quality: QualityConfig,
    parents: MapParents,
    *,
    title: str,
    workspace: WorkspaceRecord,
    vectors_column: str | None,
    align: str | None,
) -> dict[str, Any]:
    """Everything that alters a map; ``align`` is the map from which clusters have their ids and colours."""
    aligned = {"align": align} if align else {}
    return {
        **aligned,
        "version": VERSION,
        "snapshot": parents.neighbors.request["snapshot"],
        "embedding": parents.neighbors.request["embedding"],
        "neighbors": parents.neighbors.id,
        "projection": parents.projection.id,
        "clusters": parents.clusters.id,
        "labels": parents.labels.id,
        "publish": publish.model_dump(mode="json") | {"title": title},
        "quality": quality.model_dump(mode="json"),
        "text": workspace.text_column,
        "vectors": vectors_column,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What leaves the workspace, from the settings and the schemas of the shards."""

    schema: pa.Schema
    text: str
    page: list[str]
    points: list[str]

    def sentence(self, where: str) -> str:
        others = [name for name in self.page if name != self.text]
        text = {"page": "the text and ", "points": "the text and ", "none": ""}[where]
        number = f"{len(others)} column{'' if len(others) == 1 else 's'}"
        return f"{text}{number}" + (f": {', '.join(others)}" if others else "")


def check_columns(config: JobConfig, columns: Sequence[str]) -> None:
    """Find a wrong column name before the corpus is read; ``columns`` are those of its one file.

    Raises
    ------
    ConfigError
        If a setting names a column that the corpus does not have, with the nearest that it has.
    """
    _resolve(config, [stored_name(name, config.corpus) for name in columns])


def resolve_columns(
    store: Store, snapshot: Snapshot, config: JobConfig, text: str, vectors: str | None
) -> tuple[ClusterConfig, QualityConfig, PublishConfig]:
    """Turn the source columns that settings name into those that are stored, before anything is computed.

    Raises
    ------
    ConfigError
        If a column is not in the corpus, with the nearest that is.
    """
    cluster, quality, publish = _resolve(config, _source_columns(store, snapshot.shards, vectors).names)
    if publish.columns is not None:
        publish = publish.model_copy(update={"columns": tuple(name for name in publish.columns if name != text)})
    return cluster, quality, publish


def _resolve(config: JobConfig, columns: Sequence[str]) -> tuple[ClusterConfig, QualityConfig, PublishConfig]:
    def stored(setting: str, name: str) -> str:
        for known in (stored_name(name, config.corpus), name):
            if known in columns:
                return known
        near = difflib.get_close_matches(name, columns, n=1)
        raise ConfigError(
            f"{setting}: the corpus has no column {name!r}",
            hint=(f"Did you mean {near[0]!r}? " if near else "") + f"Its columns: {', '.join(columns)}.",
        )

    cluster, quality, publish = config.cluster, config.quality, config.publish
    if cluster.column is not None:
        cluster = cluster.model_copy(update={"column": stored("cluster.column", cluster.column)})
    if quality.against is not None:
        quality = quality.model_copy(update={"against": stored("quality.against", quality.against)})
    if publish.columns is not None:
        names = tuple(dict.fromkeys(stored("publish.columns", name) for name in publish.columns))
        publish = publish.model_copy(update={"columns": names})
    if publish.partition_by is not None:
        layer = _LAYER.match(publish.partition_by)
        if layer is None:
            name = stored("publish.partition_by", publish.partition_by)
            publish = publish.model_copy(update={"partition_by": name})
        elif int(layer[1]) >= cluster.max_layers:
            raise ConfigError(
                f"publish.partition_by: there is no {publish.partition_by}, since cluster.max_layers is "
                f"{cluster.max_layers}",
                hint="The finest layer is the column cluster; layer_1 is the next.",
            )
    return cluster, quality, publish


def _source_columns(store: Store, shards: Sequence[Shard], vectors: str | None) -> pa.Schema:
    """All source columns of some shards, of one type each, without the vectors."""
    footers = read_footers(store, [shard.name for shard in shards])
    unified = unify_columns([(footer.schema, footer.facts) for footer in footers])
    return pa.schema([field for field in unified if field.name != vectors])


def published_columns(
    store: Store, shards: Sequence[Shard], settings: Mapping[str, Any], text: str, vectors: str | None
) -> Published:
    """What of the columns of these shards leaves the workspace; a chosen column that they do not have is left out."""
    schema = _source_columns(store, shards, vectors)
    chosen = schema.names if settings["columns"] is None else [n for n in settings["columns"] if n in schema.names]
    others = [name for name in chosen if name != text]
    return Published(
        schema=schema,
        text=text,
        page=([text] if settings["text"] != "none" else []) + others,
        points=others + ([text] if settings["text"] == "points" else []),
    )


def make_map(
    store: Store,
    request: dict[str, Any],
    parents: MapParents,
    align: Record | None,
    threads: int,
    run: str | None,
) -> Record:
    """Write everything of the map of ``request``; its record last."""
    from latentscale.backends.cpu.shapes import density

    writer = ArtifactWriter(store, "map", request, [*parents.records(), *([align] if align else [])], run=run)
    settings = request["publish"]
    with measured() as cost:
        snapshot = read_snapshot(store, request["snapshot"])
        vectors = load_vectors(store, snapshot, request["embedding"])
        clusters = read_clusters(store, parents.clusters)
        coordinates = read_coordinates(store, parents.projection)
        columns = published_columns(store, snapshot.shards, settings, request["text"], request["vectors"])
        before = read_parquet(store, f"{align.folder}/labels.parquet") if align else None
        labels = with_hues(_map_labels(read_table(store, parents.labels, "labels"), clusters, coordinates), before)
        quality = measure_map(
            store,
            snapshot,
            vectors,
            read_graph(store, parents.neighbors),
            coordinates,
            clusters,
            made_by=parents.clusters,
            n_neighbors=parents.projection.request["n_neighbors"],
            settings=request["quality"],
            threads=threads,
        )
        thickness = density(coordinates)
        partitions = write_points(
            writer, store, snapshot, clusters, coordinates, thickness, labels, columns, settings["partition_by"]
        )
        writer.put("labels.parquet", memoryview(encode_table(labels, facts={"map": writer.id})), rows=labels.num_rows)
        writer.put("thumbnail.png", draw_thumbnail(coordinates, clusters, labels))
        writer.put("quality.json", json.dumps(quality, indent=1, ensure_ascii=False).encode())
        counts = dict(parents.clusters.counts) | {
            "published": columns.sentence(settings["text"]) + (f", in {partitions:,} partitions" if partitions else "")
        }
        if settings["viewer"]:
            counts["page"] = write_viewer(
                writer, store, snapshot, clusters, coordinates, labels, columns, settings, quality
            )
    return writer.commit(counts=counts, cost=cost, choices={"backend": "cpu"})


def _map_labels(table: pa.Table, clusters: Clusters, coordinates: NDArray[np.float32]) -> pa.Table:
    """Add to the labels what depends on the layout, the centre and hull of each cluster, and its centroid."""
    from latentscale.backends.cpu.shapes import hulls

    memberships = clusters.memberships()
    layers, ids = table["layer"].to_numpy(), table["cluster"].to_numpy()
    outlines = [hulls(coordinates, membership) for membership in memberships]
    centroids = np.concatenate([chunk.flatten().to_numpy() for chunk in clusters.tree["centroid"].chunks] or [[]])
    dim = clusters.tree.schema.field("centroid").type.list_size
    centroids = centroids.reshape(-1, dim).astype(np.float32)
    weights = clusters.tree["size"].to_numpy().astype(np.float32)
    coarser = clusters.coarser()
    xs, ys, polygons, means = [], [], [], []
    for layer, cluster in zip(layers.tolist(), ids.tolist(), strict=True):
        places = coordinates[memberships[layer] == cluster]
        middle = np.median(places, axis=0)
        xs.append(float(middle[0]))
        ys.append(float(middle[1]))
        polygons.append(np.asarray(outlines[layer][cluster], dtype=np.float32).reshape(-1))
        inside = np.array([cluster]) if layer == 0 else np.flatnonzero(coarser[layer - 1] == cluster)
        mean = (centroids[inside] * weights[inside, None]).sum(axis=0)
        means.append(mean / max(float(np.linalg.norm(mean)), 1e-12))
    flat = np.concatenate(means) if means else np.empty(0, dtype=np.float32)
    return (
        table.append_column("x", pa.array(xs, pa.float32()))
        .append_column("y", pa.array(ys, pa.float32()))
        .append_column("hull", pa.array(polygons, pa.list_(pa.float32())))
        .append_column("centroid", pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32)), dim))
    )


# ------------------------------------------------------------------------------------------------------------ points


def _point_columns(
    clusters: Clusters, coordinates: NDArray[np.float32], thickness: NDArray[np.float32], labels: pa.Table
) -> dict[str, pa.Array]:
    finest = [row for row in labels.select(["layer", "cluster", "label"]).to_pylist() if row["layer"] == 0]
    names = {row["cluster"]: row["label"] for row in finest}
    # After a refit, ids that no cluster has any more are left out.
    dictionary = pa.array([names.get(i, "") for i in range(max(names, default=-1) + 1)], pa.string())
    noise = clusters.cluster < 0
    columns = {
        "row_id": pa.array(clusters.row_ids),
        "x": pa.array(coordinates[:, 0]),
        "y": pa.array(coordinates[:, 1]),
        "cluster": pa.array(clusters.cluster),
        "nearest_cluster": pa.array(clusters.nearest_cluster),
        "probability": pa.array(clusters.probability),
        "density": pa.array(thickness.astype(np.float32)),
    }
    for depth, membership in enumerate(clusters.memberships()[1:], start=1):
        columns[f"layer_{depth}"] = pa.array(membership)
    columns["label"] = pa.DictionaryArray.from_arrays(
        pa.array(np.where(noise, 0, clusters.cluster), mask=noise), dictionary
    )
    return columns


def write_points(
    writer: ArtifactWriter,
    store: Store,
    snapshot: Snapshot,
    clusters: Clusters,
    coordinates: NDArray[np.float32],
    thickness: NDArray[np.float32],
    labels: pa.Table,
    columns: Published,
    partition_by: str | None,
    *,
    more: Mapping[str, pa.Array] | None = None,
) -> int:
    """Write ``points/update=<snapshot>/`` part by part; return the number of partitions, 0 without any.

    Parameters
    ----------
    more : mapping of str to pyarrow.Array, optional
        Further columns of the points.
    """
    fixed = _point_columns(clusters, coordinates, thickness, labels) | dict(more or {})
    folder = f"points/update={snapshot.id}"
    read = ["source", "source_row", *columns.points]
    if partition_by is not None and partition_by in columns.schema.names and partition_by not in read:
        read.append(partition_by)
    schema = pa.schema([pa.field("source", pa.string()), pa.field("source_row", pa.int64()), *columns.schema])
    partitions: set[str] = set()
    pieces: list[pa.Table] = []
    part = start = 0

    def flush() -> None:
        nonlocal part, start
        if not pieces:
            return
        documents = pa.concat_tables(pieces)
        stop = start + documents.num_rows
        table = pa.table({name: column.slice(start, stop - start) for name, column in fixed.items()})
        for name in documents.column_names:
            table = table.append_column(name, documents[name])
        for value, piece in _split(table, partition_by):
            inner = f"{folder}/{value}" if value else folder
            if value and value not in partitions:
                partitions.add(value)
                if len(partitions) > MAX_PARTITIONS:
                    raise CorpusError(
                        f"publish.partition_by: {partition_by!r} has more than {MAX_PARTITIONS:,} values",
                        hint="Partition by a column with fewer values.",
                    )
            data = memoryview(
                encode_table(piece, facts={"map": writer.id}, byte_stream_split=["x", "y", "probability", "density"])
            )
            writer.put(f"{inner}/part-{part:05d}.parquet", data, rows=piece.num_rows)
        part, start = part + 1, stop
        pieces.clear()

    for table in _documents(store, snapshot, clusters.row_ids, read, schema):
        pieces.append(table)
        if sum(piece.num_rows for piece in pieces) >= POINTS_ROWS:
            flush()
    flush()
    return len(partitions)


def _split(table: pa.Table, partition_by: str | None) -> Iterator[tuple[str, pa.Table]]:
    """Yield (hive folder, rows) for each value of the column, which the folder then holds instead of the rows."""
    if partition_by is None:
        yield "", table
        return
    if partition_by not in table.column_names:
        raise ConfigError(
            f"publish.partition_by: there is no column {partition_by!r}",
            hint=f"There are: {', '.join(table.column_names)}.",
        )
    codes = table[partition_by].combine_chunks().dictionary_encode(null_encoding="encode")
    rest = table.drop_columns([partition_by])
    for code, value in enumerate(codes.dictionary.to_pylist()):
        chosen = np.flatnonzero(codes.indices.to_numpy(zero_copy_only=False) == code)
        spelled = "__HIVE_DEFAULT_PARTITION__" if value is None else quote(str(value), safe="")
        yield f"{quote(partition_by, safe='')}={spelled}", rest.take(pa.array(chosen))


def _documents(
    store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], names: list[str], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Stream columns of the map's documents, all of one type each."""
    wanted = pa.schema([schema.field(name) for name in names])
    for _, batch in stream_documents(store, snapshot, row_ids, names):
        yield conform(pa.Table.from_batches([batch]), wanted)


# -------------------------------------------------------------------------------------------------------------- page


def write_viewer(
    writer: ArtifactWriter,
    store: Store,
    snapshot: Snapshot,
    clusters: Clusters,
    coordinates: NDArray[np.float32],
    labels: pa.Table,
    columns: Published,
    settings: Mapping[str, Any],
    quality: Mapping[str, Any],
    *,
    density: NDArray[np.uint8] | None = None,
    grown: Record | None = None,
) -> dict[str, Any]:
    """Write a generation of tiles; return what the page's manifest says of it.

    Parameters
    ----------
    density : uint8 ndarray, shape (n,), optional
        Of the whole map around each document; by default that of ``coordinates``.
    grown : Record, optional
        The map that grows by these documents: the page's first view and its legends stay those that it had.
    """

    def documents() -> Iterator[pa.RecordBatch]:
        done = 0
        for table in _documents(store, snapshot, clusters.row_ids, columns.page, columns.schema):
            ids = pa.array(clusters.row_ids[done : done + table.num_rows])
            done += table.num_rows
            yield from table.add_column(0, "row_id", ids).combine_chunks().to_batches()

    data = ViewerData(
        name=str(settings["title"]),
        row_ids=clusters.row_ids,
        coordinates=coordinates,
        clusters=clusters.cluster,
        nearest_clusters=clusters.nearest_cluster,
        labels=labels.drop_columns(["centroid"]),
        documents=documents,
        text_column=columns.text if settings["text"] != "none" else None,
        columns=columns.page,
        stats={"map": writer.id, "quality": dict(quality)},
        density=density,
    )
    before = [segment for segment in segments_of(grown) if segment.page is not None] if grown else []
    if before:
        folder = f"maps/{before[-1].map}/viewer"
        pages = [dict(segment.page or {}) for segment in before]
        data = continued(data, pages, lambda name: store.read_bytes(f"{folder}/{name}"))
    with tempfile.TemporaryDirectory(prefix="latentscale-page-") as scratch:
        return write_tiles(data, lambda name, content: writer.put(f"viewer/{name}", content), scratch=Path(scratch))


def generations(record: Record) -> list[dict[str, Any]]:
    """What the page's manifest says of the generations of tiles that a map shows, the oldest first."""
    found: list[dict[str, Any]] = []
    for segment in segments_of(record):
        if segment.page is None or (not segment.documents and len(record.segments) > 1):
            continue
        entry = dict(segment.page) | {"url": f"../maps/{segment.map}/viewer/"}
        if segment.removed_positions is not None:
            entry["removed"] = dict(segment.removed_positions) | {
                "url": f"../{record.folder}/{segment.removed_positions['url']}"
            }
        found.append(entry)
    return found


def page_objects(store: Store, record: Record) -> list[str]:
    """All objects that the page of a map reads, but the site itself."""
    names: list[str] = []
    for segment in segments_of(record):
        if segment.page is None:
            continue
        folder = f"maps/{segment.map}/viewer"
        removed = f"{folder}/removed-"
        names.extend(name for name in store.list(folder) if not name.startswith(removed))
        if segment.removed_positions is not None:
            names.append(f"{record.folder}/{segment.removed_positions['url']}")
    if record.counts.get("page_labels"):
        names.extend(f"{record.folder}/viewer/{name}" for name in ("labels.json", "clusters.json"))
    return names


def write_public_page(store: Store, record: Record) -> None:
    """Write ``viewer/``, the page at a stable address, so that it shows the map of ``record``; its manifest last."""
    shown = generations(record)
    if not shown:
        return
    there = store.list(PAGE_FOLDER)

    def put(name: str, content: bytes) -> None:
        target = f"{PAGE_FOLDER}/{name}"
        # The site itself rarely changes, and its assets' names carry a hash of their content.
        alike = target in there and there[target].size == len(content)
        if not (alike and (name.startswith("assets/") or store.read_bytes(target) == content)):
            store.put_bytes(target, content)

    labels = f"../{record.folder}/viewer/" if record.counts.get("page_labels") else None
    write_page(shown, put, title=str(record.request["publish"]["title"]), labels=labels)
