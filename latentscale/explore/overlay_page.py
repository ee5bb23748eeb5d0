"""Copy of a map's page with placed documents added, in a separate folder; the map's page is not changed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import WorkspaceError
from latentscale.explore.export import export
from latentscale.explore.targets import check_new_page, new_folder
from latentscale.stages.cluster import Clusters
from latentscale.stages.publish import PAGE_FOLDER, page_title, published_columns, published_documents
from latentscale.stages.publish.about import about_map
from latentscale.stages.publish.noise import shown_clusters, shown_labels
from latentscale.storage.artifacts import Record, needed_record
from latentscale.storage.frames import scan_parts, scan_points
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace
from latentscale.viewer import MapQuality, ViewerData, continued, write_tiles
from latentscale.viewer.added_columns import AddedColumn, add_columns
from latentscale.viewer.density import map_density
from latentscale.viewer.height import Height
from latentscale.viewer.page import manifest_bytes, page_behind

# The page column that distinguishes the map's documents from the placed ones.
FROM = "from"
ORIGINS = ("map", "placed")


def map_of_overlay(store: Store, overlay: Record) -> Record:
    """The record of the map on which documents were placed, from the map's workspace.

    Raises
    ------
    WorkspaceError
        If that workspace no longer exists.
    """
    request = overlay.request
    where = Store(str(request["workspace"]), storage=dict(request.get("storage") or {}) or store.storage)
    read_workspace(where)
    return needed_record(where, "map", str(request["map"]))


def check_page(placed_on: Record, to: Path) -> None:
    """Check that the page can be written, before anything is computed.

    Raises
    ------
    RequestError
        If the next update of the map would read it as documents.
    WorkspaceError
        If the folder is not empty, or the map has no page.
    """
    check_new_page(placed_on.store, to)
    if not placed_on.counts.get("page") and not placed_on.counts.get("page_labels"):
        raise WorkspaceError(
            f"{placed_on.id} has no page, beneath which documents could be shown",
            hint="Publish it with --set publish.viewer=true, or place without --page.",
        )


def write_overlay_page(store: Store, overlay: Record, to: Path) -> Path:
    """Write the page of the map to a new folder, with the placed documents as an additional generation of tiles.

    They have the map's clusters, labels, colours and initial view; the column ``from`` distinguishes them. Since the
    row ids of the two workspaces overlap, those of placed documents are offset by a power of ten above the map's.

    Parameters
    ----------
    store : Store
        The workspace of the placed documents.
    overlay : Record
    to : Path

    Returns
    -------
    Path
        The page to open, ``index.html``.

    Raises
    ------
    WorkspaceError
        If the folder is not empty, the map or its page does not exist, or no document was placed.
    """
    placed_on = map_of_overlay(store, overlay)
    check_page(placed_on, to)
    points = _points(store, overlay)
    if not len(points):
        raise WorkspaceError(f"{overlay.id} has no documents to show: none was placed on {placed_on.id}")
    with new_folder(to) as made:
        _write_page(store, overlay, placed_on, points, made)
    return to / "index.html"


def _write_page(store: Store, overlay: Record, placed_on: Record, points: pl.DataFrame, to: Path) -> None:
    export(placed_on.store, placed_on, to, what="page")
    viewer = to / PAGE_FOLDER
    entries: list[dict[str, Any]] = json.loads((viewer / "manifest.json").read_bytes())["generations"]
    indexes = [json.loads((viewer / entry["url"] / "index.json").read_bytes()) for entry in entries]
    # The offset is a power of ten, so that the row id in the other workspace stays readable.
    first = 10 ** len(str(max(int(index["ids"]["last"]) for index in indexes)))
    name = read_workspace(store).name
    title = f"{name} on {page_title(placed_on)}"
    data = _data(store, overlay, placed_on, points, indexes[-1], first=first, title=title, name=name)
    data = continued(data, entries, lambda part: (viewer / entries[-1]["url"] / part).read_bytes())
    folder = to / "maps" / overlay.id / PAGE_FOLDER

    def put(part: str, content: bytes) -> None:
        target = folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    with tempfile.TemporaryDirectory(prefix="latentscale-page-") as scratch:
        entry = write_tiles(data, put, scratch=Path(scratch))
    entries.append(entry | {"url": f"../maps/{overlay.id}/{PAGE_FOLDER}/"})
    counts = overlay.counts
    said = f"{counts['documents']:,} documents of {name}, {counts['far']:,} far from the map; row ids from {first:,}"
    about = [("Placed", said), *about_map(placed_on.store, placed_on)]
    (viewer / "manifest.json").write_bytes(manifest_bytes(entries, title=title, about=about))
    origin = next(
        one for k in range(len(data.columns) + 1) if (one := f"{FROM} {k}" if k else FROM) not in data.columns
    )
    add_columns(to, [_origins(placed_on, data.row_ids, origin)])
    (to / "index.html").write_bytes(page_behind(title, f"{PAGE_FOLDER}/index.html#c=%40{quote(origin)}"))


def with_sizes(labels: pa.Table, cluster: NDArray[np.int32], nearest_cluster: NDArray[np.int32]) -> pa.Table:
    """The labels of a map with ``size`` and ``nearest_size`` increased by additional documents.

    Parameters
    ----------
    cluster, nearest_cluster : int32 ndarray, shape (m,)
        Clusters of the additional documents on layer 0; -1 is noise.
    """
    layers, ids = labels["layer"].to_numpy(), labels["cluster"].to_numpy()
    parents = labels["parent"].fill_null(-1).to_numpy()
    for name, members in (("size", cluster), ("nearest_size", nearest_cluster)):
        sizes = labels[name].to_numpy().astype(np.int64)
        for layer in range(int(layers.max(initial=-1)) + 1):
            here = layers == layer
            width = int(max(ids[here].max(initial=-1), members.max(initial=-1))) + 1
            sizes[here] += np.bincount(members[members >= 0], minlength=width)[ids[here]]
            above = np.full(width + 1, -1, np.int32)
            above[ids[here]] = parents[here]
            members = above[members]
        field = labels.schema.field(name)
        labels = labels.set_column(labels.schema.get_field_index(name), field, pa.array(sizes, field.type))
    return labels


def _origins(placed_on: Record, placed: NDArray[np.int64], name: str) -> AddedColumn:
    """The page column ``from``: whether a document is the map's or was placed."""
    ids = scan_points(placed_on.store, placed_on).select("row_id").collect()["row_id"].to_numpy()
    both = np.concatenate([np.sort(ids), np.sort(placed)])
    codes = np.repeat(np.arange(2), [len(ids), len(placed)])
    return AddedColumn(name=name, row_ids=both, values=codes, categories=ORIGINS)


def _points(store: Store, overlay: Record) -> pl.DataFrame:
    names = [f"{overlay.folder}/{part.name}" for part in overlay.parts if part.name.startswith("points/")]
    scanned = scan_parts(store, names)
    axes = [axis for axis in ("x", "y", "z") if axis in scanned.collect_schema().names()]
    return scanned.select("row_id", *axes, "cluster", "nearest_cluster", "probability").collect()


def _data(
    store: Store,
    overlay: Record,
    placed_on: Record,
    points: pl.DataFrame,
    index: Mapping[str, Any],
    *,
    first: int,
    title: str,
    name: str,
) -> ViewerData:
    """The placed documents as the next generation of the page after the one with ``index``."""
    settings = placed_on.request["publish"]
    snapshot = read_snapshot(store, str(overlay.request["snapshot"]))
    shown = _shown_columns(store, overlay, placed_on, index, snapshot)
    own = points["row_id"].to_numpy()
    row_ids = own + first
    clusters = Clusters(
        row_ids=row_ids,
        cluster=points["cluster"].to_numpy().astype(np.int32),
        nearest_cluster=points["nearest_cluster"].to_numpy().astype(np.int32),
        probability=points["probability"].to_numpy(),
        tree=pa.table({}),
    )
    labels = read_parquet(placed_on.store, f"{placed_on.folder}/labels.parquet")
    labels = with_sizes(labels, clusters.cluster, clusters.nearest_cluster)

    def documents() -> Iterator[pa.RecordBatch]:
        done = 0
        for table in published_documents(store, snapshot, own, shown.read, shown.schema):
            ids = pa.array(row_ids[done : done + table.num_rows])
            done += table.num_rows
            yield from shown.of_page(table).add_column(0, "row_id", ids).combine_chunks().to_batches()

    axes = [axis for axis in ("x", "y", "z") if axis in points.columns]
    before = scan_points(placed_on.store, placed_on).select(axes).collect()
    everything = pl.concat([before, points.select(axes)]).to_numpy().astype(np.float32)
    flat = np.ascontiguousarray(everything[:, :2])
    quality = json.loads(placed_on.store.read_bytes(f"{placed_on.folder}/quality.json"))
    id_column = read_workspace(placed_on.store).id_column
    return ViewerData(
        name=title,
        row_ids=row_ids,
        coordinates=flat[-len(points) :],
        clusters=shown_clusters(clusters, settings).cluster,
        nearest_clusters=clusters.nearest_cluster,
        labels=shown_labels(labels, settings).drop_columns(["centroid"]),
        documents=documents,
        text_column=index["text"],
        columns=[*shown.names],
        quality=MapQuality.parse(quality, map=placed_on.id),
        density=map_density(flat)[-len(points) :],
        height=Height.of(everything, last=len(points)) if len(axes) > 2 else None,
        search=settings.get("search", True),
        id_column=id_column if id_column in shown.names else None,
        placed=name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShownColumns:
    """Mapping of page columns to columns of the placed corpus.

    Attributes
    ----------
    names : dict of str to str or None
        Column of the placed corpus by name on the page; None if it has no such column.
    schema : pyarrow.Schema
        Schema of the placed documents.
    """

    names: dict[str, str | None]
    schema: pa.Schema

    @property
    def read(self) -> list[str]:
        """Names of the columns to read."""
        return [name for name in self.names.values() if name is not None]

    def of_page(self, table: pa.Table) -> pa.Table:
        """The documents with the columns of the page; missing columns are null."""
        rows = table.num_rows
        return pa.table({name: pa.nulls(rows) if own is None else table[own] for name, own in self.names.items()})


def _shown_columns(
    store: Store, overlay: Record, placed_on: Record, index: Mapping[str, Any], snapshot: Snapshot
) -> _ShownColumns:
    """The columns of the map's page, then those of only the placed documents.

    Text and id columns get the map's names. The text is left out if the map's page has none, and so are columns that
    either corpus does not publish.
    """
    request, publish = overlay.request, placed_on.request["publish"]
    mine, theirs = read_workspace(store), read_workspace(placed_on.store)
    chosen = request["columns"] if request["columns"] is not None else publish["columns"]
    settings = {"columns": chosen, "text": "none" if index["text"] is None else "page"}
    found = published_columns(store, snapshot.shards, settings, str(request["text"]), request["vectors"])
    names: dict[str, str | None] = dict.fromkeys(index["columns"])
    called = {str(request["text"]): index["text"], mine.id_column: theirs.id_column}
    for own in found.page:
        page = called.get(own) or own
        if names.get(page) is None:
            names[page] = own
    return _ShownColumns(names=names, schema=found.schema)
