"""Write the page of a map: its generation of tiles, and the public page at a stable address."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import LatentScaleError
from latentscale.stages.cluster import Clusters
from latentscale.stages.publish.about import about_map
from latentscale.stages.publish.columns import Published, published_documents
from latentscale.stages.publish.link_picture import draw_link_picture, link_picture_address
from latentscale.stages.publish.noise import shown_clusters, shown_labels
from latentscale.storage.artifacts import ArtifactWriter, Record
from latentscale.storage.objects import Store
from latentscale.storage.segments import segments_of
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.workspace_record import read_workspace
from latentscale.viewer import MapQuality, ViewerData, continued, write_page, write_tiles
from latentscale.viewer.height import Height
from latentscale.viewer.meaning import Meaning
from latentscale.viewer.page import PICTURE, manifest_bytes
from latentscale.viewer.similar import Similar

PAGE_FOLDER = "viewer"


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
    height: Height | None = None,
    similar: Similar | None = None,
    meaning: Meaning | None = None,
) -> dict[str, Any]:
    """Write a generation of tiles; returns its entry in the page's manifest.

    Parameters
    ----------
    quality : mapping
        Content of the map's ``quality.json``.
    density : uint8 ndarray, shape (n,), optional
        Density of the whole map at each document; by default computed from ``coordinates``.
    grown : Record, optional
        The map that these documents are added to: the initial view and the legends do not change.
    height : Height, optional
        Set for three-dimensional maps.
    similar : Similar, optional
        Nearest documents of each document.
    meaning : Meaning, optional
        Semantic search data, if enabled.
    """

    def documents() -> Iterator[pa.RecordBatch]:
        start = 0
        for table in published_documents(store, snapshot, clusters.row_ids, columns.page, columns.schema):
            ids = pa.array(clusters.row_ids[start : start + table.num_rows])
            start += table.num_rows
            yield from table.add_column(0, "row_id", ids).combine_chunks().to_batches()

    data = ViewerData(
        name=str(settings["title"] or writer.id),
        row_ids=clusters.row_ids,
        coordinates=coordinates,
        clusters=shown_clusters(clusters, settings).cluster,
        nearest_clusters=clusters.nearest_cluster,
        labels=shown_labels(labels, settings).drop_columns(["centroid"]),
        documents=documents,
        text_column=columns.text if settings["text"] != "none" else None,
        columns=columns.page,
        quality=MapQuality.parse(quality, map=writer.id),
        density=density,
        height=height,
        search=settings.get("search", True),
        id_column=_id_column(store, columns),
        similar=similar,
        meaning=meaning,
        added=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC" if grown else None,
    )
    before = [segment for segment in segments_of(grown) if segment.page is not None] if grown else []
    if before:
        folder = f"maps/{before[-1].map}/viewer"
        pages = [dict(segment.page or {}) for segment in before]
        data = continued(data, pages, lambda name: store.read_bytes(f"{folder}/{name}"))
    with tempfile.TemporaryDirectory(prefix="latentscale-page-") as scratch:
        return write_tiles(data, lambda name, content: writer.put(f"viewer/{name}", content), scratch=Path(scratch))


def generations(record: Record) -> list[dict[str, Any]]:
    """Return the manifest's entries of the map's generations of tiles, oldest first."""
    entries: list[dict[str, Any]] = []
    for segment in segments_of(record):
        if segment.page is None or (not segment.documents and len(record.segments) > 1):
            continue
        entry = dict(segment.page) | {"url": f"../maps/{segment.map}/viewer/"}
        if segment.removed_positions is not None:
            entry["removed"] = dict(segment.removed_positions) | {
                "url": f"../{record.folder}/{segment.removed_positions['url']}"
            }
        entries.append(entry)
    return entries


def page_objects(store: Store, record: Record) -> list[str]:
    """List all objects that the page of a map reads, except for the site itself."""
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
        label_files = ("/labels.json", "/clusters.json", "/hues.json")
        names.extend(name for name in store.list(f"{record.folder}/viewer") if name.endswith(label_files))
    return names


def page_title(record: Record) -> str:
    """Title of a map's page: as configured, or the name of the workspace."""
    title: str | None = record.request["publish"]["title"]
    return title or read_workspace(record.store).name


def page_images(record: Record) -> dict[str, Any] | None:
    """Return the manifest's entry for images: their column, and allowed origins."""
    settings = record.request["publish"]
    if settings.get("images") is None:
        return None
    return {"column": settings["images"], "origins": list(settings["image_origins"])}


def write_public_page(store: Store, record: Record, *, again: bool = False, folder: str = PAGE_FOLDER) -> None:
    """Write ``viewer/``, the page at a stable address, for the map of ``record``; its manifest last.

    With ``again``, existing objects are read and compared, as an asset may have been modified. ``folder`` is an
    alternative to ``viewer/``, next to ``maps/``.
    """
    entries = generations(record)
    if not entries:
        return
    existing = store.list(folder)
    labels, title = _labels_folder(record), page_title(record)

    def put(name: str, content: bytes) -> None:
        target = f"{folder}/{name}"
        # The site rarely changes, and its assets' names contain a hash of their content.
        same_size = target in existing and existing[target].size == len(content)
        is_immutable = name.startswith("assets/") and not again
        if not (same_size and (is_immutable or store.read_bytes(target) == content)):
            store.put_bytes(target, content)

    about = about_map(record.store, record)
    picture = link_picture_address(record, title)
    if picture is not None:
        # The configured address is that of the page in viewer/ only.
        url = record.request["publish"].get("url") if folder == PAGE_FOLDER else None
        picture = f"{url or './'}{picture}"
        if again or f"{folder}/{PICTURE}" not in existing or _published_picture(store, folder) != picture:
            put(PICTURE, draw_link_picture(record, title))
    write_page(entries, put, title=title, labels=labels, about=about, images=page_images(record), picture=picture)


def _published_picture(store: Store, folder: str) -> str | None:
    """Return the address of the picture in the existing manifest, which identifies its content; None if unknown."""
    try:
        return json.loads(store.read_bytes(f"{folder}/manifest.json")).get("picture")
    except (ValueError, AttributeError, LatentScaleError):
        return None


def public_manifest(record: Record) -> bytes | None:
    """Build the manifest of the public page for the map of ``record``; None for a map without a page.

    Without the description of how the map was made and the link preview image, which older pages lack.
    """
    entries = generations(record)
    if not entries:
        return None
    labels = _labels_folder(record)
    return manifest_bytes(entries, title=page_title(record), labels=labels, images=page_images(record))


def _labels_folder(record: Record) -> str | None:
    return f"../{record.folder}/viewer/" if record.counts.get("page_labels") else None


def _id_column(store: Store, columns: Published) -> str | None:
    """Return the corpus's id column, if the page shows it."""
    name = read_workspace(store).id_column
    return name if name in columns.page else None
