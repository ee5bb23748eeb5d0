"""Write one generation of the viewer: tiles, tile pages, colour columns, row packs and labels."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.viewer.columns import ColumnValues
from latentscale.viewer.data import ViewerData
from latentscale.viewer.density import map_density
from latentscale.viewer.frame import body_frame
from latentscale.viewer.labels import label_entries
from latentscale.viewer.meaning_files import meaning_section
from latentscale.viewer.pyramid import FINE_LEVELS, PAGE_LEVELS, Pyramid, Tile, build_pyramid
from latentscale.viewer.raster import RASTER_CELLS, RASTER_LEAST, density_raster
from latentscale.viewer.rows import IDS_ROWS, Pack, parquet_bytes, write_ids, write_rows
from latentscale.viewer.search.index import SearchIndex
from latentscale.viewer.section import Section, write_sections
from latentscale.viewer.sections import SECTIONS
from latentscale.viewer.similar_files import similar_section

SCHEMA = 1
# A generation of at most so many documents is one tile with all columns: a small update writes six objects.
INLINE_ROWS = 2_048
# With more clusters, labels.json is larger than the data of the first picture: colours have a file of their own.
MANY_CLUSTERS = 1_024


def write_tiles(
    data: ViewerData,
    put: Callable[[str, bytes], None],
    *,
    scratch: Path,
    sections: Iterable[Section] = SECTIONS,
) -> dict[str, Any]:
    """Write a generation through ``put``, with names relative to its folder, and return its manifest entry.

    The documents are read once, with bounded memory; ``scratch`` needs up to their size. The output is deterministic,
    and described in ``docs/viewer-format.md``.

    Parameters
    ----------
    data : ViewerData
    put : callable
        Writes an object: ``put(name, bytes)``.
    scratch : Path
        An existing folder on a local disk; temporary files are deleted.
    sections : iterable of Section
        Further data of the generation, each under its own name in ``index.json``.

    Returns
    -------
    dict
        Without ``url``, the folder of the generation relative to the public page, which the caller adds.

    Raises
    ------
    ShapeError
        If the parts of ``data`` do not match, or a section is invalid.
    """
    data.check()
    pyramid = build_pyramid(data.coordinates, row_ids=data.row_ids, clusters=data.clusters)
    positions = np.empty(len(pyramid.order), np.int64)
    positions[pyramid.order] = np.arange(len(pyramid.order))
    inline = len(pyramid.tiles) == 1 and len(data.row_ids) <= INLINE_ROWS

    earlier_colours = {entry["name"]: entry for entry in data.colours or ()}
    values = [
        ColumnValues(name, column_id=f"c{i}", rows=len(data.row_ids), scratch=scratch, like=earlier_colours.get(name))
        for i, name in enumerate(data.columns)
        if name != data.text_column
    ]
    fields = {"text": data.text_column, "title": data.title_column, "id": data.id_column}
    search_index = SearchIndex(fields if data.search else {}, positions=positions, scratch=scratch)
    try:
        packs = write_rows(
            data.documents(),
            put,
            row_ids=data.row_ids,
            positions=positions,
            columns=data.columns,
            values=values,
            scratch=scratch,
            follow=search_index.add,
        )
        entries = [column.finish() for column in values]
        columns = _point_columns(data, values, entries)
        sizes = _write_points(data, pyramid, columns if inline else {}, put)
        if not inline:
            _write_columns(pyramid, columns, put)
            _write_fine(pyramid, put)
    finally:
        for column in values:
            column.close()
        for leftover in scratch.glob("rows-*.arrows"):
            leftover.unlink()
    first_ids = write_ids(put, row_ids=data.row_ids, positions=positions)
    pages = _pages(pyramid, sizes, packs)
    if not inline:
        for name, page in pages.items():
            put(f"pages/{name}.json", _json(page))
    layers = write_labels(data.labels, put, side=data.side or pyramid.side)
    many_clusters = sum(layers) > MANY_CLUSTERS
    data_sections = [] if data.similar is None else [similar_section(data.similar, positions)]
    if data.meaning is not None:
        data_sections.append(meaning_section(data.meaning, positions))
    try:
        section_entries = write_sections([*sections, search_index.section(), *data_sections], data, put)
    finally:
        search_index.close()
    index = {
        "text": data.text_column,
        "columns": list(data.columns),
        "colours": [entry for entry in entries if entry is not None],
        "pages": [[name, page["tiles"][0][3]] for name, page in pages.items()],
        "ids": {"rows": IDS_ROWS, "first": first_ids, "last": int(data.row_ids.max())},
        "sections": section_entries,
    }
    put("index.json", _json(index | ({"page": pages["0-0-0"]} if inline else {})))
    entry: dict[str, Any] = {
        "schema": SCHEMA,
        "name": data.name,
        "documents": len(data.row_ids),
        "noise": int((data.clusters < 0).sum()),
        "layers": layers,
        "origin": list(pyramid.origin),
        "side": pyramid.side,
        "extent": _box(*data.coordinates.min(axis=0), *data.coordinates.max(axis=0)),
        "view": _box(*(data.view or body_frame(data.coordinates))),
        "tiles": len(pyramid.tiles),
        "packs": len(packs),
        "page_levels": PAGE_LEVELS,
        "fine": FINE_LEVELS,
        "root": [pyramid.tiles[0].count, sizes[0], pyramid.tiles[0].children],
    }
    if data.height is not None:
        entry["z"] = _box(*data.height.bounds)
    if inline:
        entry["inline"] = True
    if many_clusters:
        entry["hues"] = True
    if len(data.row_ids) >= RASTER_LEAST:
        put("density.parquet", density_raster(data.coordinates, origin=pyramid.origin, side=pyramid.side))
        entry["raster"] = RASTER_CELLS
    if data.added is not None:
        entry["added"] = data.added[:40]
    if data.placed is not None:
        entry["placed"] = data.placed[:80]
    dates = [column["name"] for column in entries if column is not None and "from" in column]
    if dates:
        entry["text_dates"] = dates
    return entry


def write_labels(labels: pa.Table, put: Callable[[str, bytes], None], *, side: float) -> list[int]:
    """Write ``labels.json``, ``clusters.json`` and, for many clusters, ``hues.json``; return the clusters per layer.

    ``write_tiles`` calls this for its generation. An update that only removes documents writes no generation: its
    labels are found by ``labels`` of the manifest.

    Parameters
    ----------
    labels : pyarrow.Table
        As ``ViewerData.labels``.
    put : callable
        Writes an object: ``put(name, bytes)``.
    side : float
        Edge of the whole map's square.
    """
    entries, details = label_entries(labels, side=side)
    put("labels.json", _json(entries))
    put("clusters.json", _json(details))
    if len(details) > MANY_CLUSTERS:
        finest = sorted((row for row in entries["clusters"] if not row["layer"]), key=lambda row: row["id"])
        put("hues.json", _json({name: [row[name] for row in finest] for name in ("id", "hue", "shade")}))
    layers = np.bincount([row["layer"] for row in entries["clusters"]], minlength=entries["layers"])
    return [int(count) for count in layers]


def _point_columns(
    data: ViewerData, values: list[ColumnValues], entries: list[dict[str, Any] | None]
) -> dict[str, Callable[[NDArray[np.int64]], pa.Array]]:
    """The columns that can colour points, by folder name, as functions from rows to values."""
    density = map_density(data.coordinates) if data.density is None else data.density
    if density.dtype != np.uint8:
        density = np.round(density * 255).astype(np.uint8)
    nearest = data.nearest_clusters.astype(np.int32)
    columns: dict[str, Callable[[NDArray[np.int64]], pa.Array]] = {
        "density": lambda rows: pa.array(density[rows], pa.uint8()),
        "nearest_cluster": lambda rows: pa.array(nearest[rows], pa.int32()),
    }
    height = data.height
    if height is not None:
        steps = height.steps()
        columns["z"] = lambda rows: pa.array(steps[rows], pa.uint16())
        columns["density_3d"] = lambda rows: pa.array(height.rank[rows], pa.uint8())
    for column, entry in zip(values, entries, strict=True):
        if entry is not None:
            columns[column.column_id] = column.take
    return columns


def _split_bytes(column: pa.Array) -> bool:
    """Whether a column compresses better with BYTE_STREAM_SPLIT than with a dictionary: numbers of many values."""
    return pa.types.is_floating(column.type) or pa.types.is_uint16(column.type)


def _write_points(
    data: ViewerData,
    pyramid: Pyramid,
    columns: Mapping[str, Callable[[NDArray[np.int64]], pa.Array]],
    put: Callable[[str, bytes], None],
) -> list[int]:
    clusters = data.clusters[pyramid.order].astype(np.int32)
    sizes: list[int] = []
    for tile in pyramid.tiles:
        part = slice(tile.first, tile.first + tile.count)
        rows = pyramid.order[part]
        extra = {name: values(rows) for name, values in columns.items()}
        if columns:
            extra["fine"] = pa.array(pyramid.fine[part])
        table = pa.table(
            {
                "place": pyramid.codes[part],
                "cluster": pa.array(clusters[part], pa.int32()),
                **extra,
            }
        )
        floats = [name for name, column in extra.items() if _split_bytes(column)]
        # Sorted codes, delta-encoded: 2.7 to 2.9 bytes per point with the cluster; separate x and y took 3.1 to 3.5.
        encoding = {"place": "DELTA_BINARY_PACKED", **dict.fromkeys(floats, "BYTE_STREAM_SPLIT")}
        dictionary = ["cluster", *(name for name in extra if name not in floats)]
        blob = parquet_bytes(table, encoding=encoding, dictionary=dictionary)
        put(f"tiles/{tile.key}.parquet", blob)
        sizes.append(len(blob))
    return sizes


def _write_columns(
    pyramid: Pyramid,
    columns: Mapping[str, Callable[[NDArray[np.int64]], pa.Array]],
    put: Callable[[str, bytes], None],
) -> None:
    """Write ``cols/``: the columns that can colour points."""
    for name, values in columns.items():
        for tile in pyramid.tiles:
            _write_column(name, tile, values(pyramid.order[tile.first : tile.first + tile.count]), put)


def _write_fine(pyramid: Pyramid, put: Callable[[str, bytes], None]) -> None:
    """Write ``cols/fine/``: additional position bits of points in coarse tiles, for close zooms."""
    for tile in pyramid.tiles:
        if tile.z < FINE_LEVELS:
            _write_column("fine", tile, pa.array(pyramid.fine[tile.first : tile.first + tile.count]), put)


def _write_column(name: str, tile: Tile, values: pa.Array, put: Callable[[str, bytes], None]) -> None:
    floats = _split_bytes(values)
    blob = parquet_bytes(
        pa.table({"value": values}),
        encoding={"value": "BYTE_STREAM_SPLIT"} if floats else None,
        dictionary=[] if floats else ["value"],
    )
    put(f"cols/{name}/{tile.key}.parquet", blob)


def _pages(pyramid: Pyramid, sizes: list[int], packs: list[Pack]) -> dict[str, dict[str, Any]]:
    """The tile pages by name, each for ``PAGE_LEVELS`` levels of a subtree.

    A page lists its tiles and the row packs with their documents.
    """
    starts = np.array([pack.first for pack in packs])
    points_below = _points_below(pyramid)
    pages: dict[str, dict[str, Any]] = {}
    for name, group in itertools.groupby(enumerate(pyramid.tiles), key=lambda item: item[1].page):
        members = list(group)
        first = members[0][1].first
        end = members[-1][1].first + members[-1][1].count
        low = int(np.searchsorted(starts, first, side="right")) - 1
        high = int(np.searchsorted(starts, end - 1, side="right"))
        pages[name] = {
            "tiles": [[t.z, t.x, t.y, t.first, t.count, t.children, sizes[i], points_below[i]] for i, t in members],
            "packs": [[p.index, p.first, p.bytes, p.footer] for p in packs[low:high]],
        }
    return pages


def _points_below(pyramid: Pyramid) -> list[int]:
    """Number of points in each tile's descendants, from which the page computes the share of points it draws."""
    index_of = {(tile.z, tile.x, tile.y): i for i, tile in enumerate(pyramid.tiles)}
    below = [0] * len(pyramid.tiles)
    for i in sorted(range(len(below)), key=lambda i: -pyramid.tiles[i].z):
        tile = pyramid.tiles[i]
        if tile.z:
            below[index_of[tile.z - 1, tile.x >> 1, tile.y >> 1]] += below[i] + tile.count
    return below


def _box(*sides: float) -> list[float]:
    return [float(f"{v:.7g}") for v in sides]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
