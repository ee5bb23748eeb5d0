"""Export a map: points, texts or clusters to a file, or the page to a folder or a single HTML file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args

import polars as pl
import pyarrow.parquet as pq

from latentscale.errors import ConfigError, RequestError, WorkspaceError, refuse_stream
from latentscale.explore.documents import read_texts
from latentscale.explore.plain import plain_frame
from latentscale.explore.tables import columns_with_values
from latentscale.explore.targets import check_new_file, check_new_page, check_outside_corpus, new_folder
from latentscale.stages.publish import PAGE_FOLDER, page_objects, page_title, write_public_page
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import UPDATE, point_segments, read_parts, scan_points
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace
from latentscale.viewer.page import PICTURE, SINGLE_PAGE_DOCUMENTS, page_files, single_page

What = Literal["points", "text", "clusters", "labels", "page"]
WHATS: tuple[str, ...] = get_args(What)
SUFFIXES = (".parquet", ".csv", ".jsonl", ".xlsx")
PAGE_SUFFIXES = (".html", ".htm")
# File stems that select what is exported.
_NAMES = {"labels": "labels", "clusters": "clusters", "text": "text", "texts": "text", "documents": "text"}
_CLUSTER_COLUMNS = (
    "layer",
    "cluster",
    "label",
    "description",
    "size",
    "nearest_size",
    "parent",
    "keyphrases",
    "exemplars",
)


def export(
    store: Store, record: Record, to: Path, *, what: What | None = None, text: bool = False, updates: bool = False
) -> Path:
    """Write the points, texts or clusters of a map to one file, or its page to a new folder.

    Points and texts are read and written in batches of about 131,072 rows, in constant memory.

    Parameters
    ----------
    record : Record
        The map.
    to : Path
        A ``.parquet``, ``.csv``, ``.jsonl`` or ``.xlsx`` file (the last with the extra ``excel``); a path without a
        suffix is a folder for the page, and an ``.html`` file is a self-contained page. Values that a format cannot
        represent become text: see ``explore.plain``.
    what : {"points", "text", "clusters", "labels", "page"}, optional
        ``points``: one row per document, with the label of its cluster in each layer; ``text``: ``row_id``, the id
        column, the clusters and the text; ``clusters``: one row per cluster of each layer; ``labels``: the same with
        positions and hulls, and in parquet centroids. By default taken from the file name (``labels.csv``), otherwise
        the points.
    text : bool
        Add the text of the documents to the points.
    updates : bool
        Add the column ``update`` to the points: the snapshot in which each document was added.

    Returns
    -------
    Path
        The written file or folder.

    Raises
    ------
    ConfigError
        If the suffix is unknown or does not match ``what``.
    RequestError
        If the map exceeds the limits of an ``.xlsx`` or ``.html`` file, or the next update would read the file as
        documents.
    MissingPackageError
        If the extra ``excel`` is needed and not installed.
    WorkspaceError
        If the folder is not empty, or the map has no page.
    DamagedObjectError
        If a part file is damaged.
    """
    refuse_stream(to)
    chosen = what_of(to, what)
    if chosen == "page" and to.suffix not in PAGE_SUFFIXES:
        check_new_page(store, to)
    else:
        check_outside_corpus(store, to)
    if chosen == "page":
        return export_single_page(store, record, to) if to.suffix in PAGE_SUFFIXES else _export_page(store, record, to)
    frames = {
        "points": lambda: _points(store, record, text=text, updates=updates),
        "text": lambda: _texts(store, record),
        "clusters": lambda: iter([_clusters(store, record, for_people=to.suffix in (".csv", ".xlsx"))]),
        "labels": lambda: iter([_labels(store, record, vectors=to.suffix == ".parquet")]),
    }[chosen]()
    return write_frames(frames, to, rows=int(record.counts["documents"]) if chosen in ("points", "text") else 0)


def check_file(to: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Check that frames can be written to this file, before anything is computed.

    Raises
    ------
    ConfigError
        If the suffix is not one of ``suffixes``.
    RequestError
        If no file can be created at this path.
    """
    refuse_stream(to)
    if to.suffix not in suffixes:
        raise ConfigError(
            f"{to.name}: {to.suffix or 'a name without a suffix'} is not written", hint=f"Use {', '.join(suffixes)}."
        )
    check_new_file(to)


def write_frames(frames: Iterable[pl.DataFrame], to: Path, *, rows: int = 0) -> Path:
    """Write frames with the same schema to one file, and return its path.

    Parameters
    ----------
    rows : int
        Total number of rows, checked against the limit of an Excel sheet before any is written.
    """
    check_file(to)
    if to.suffix == ".xlsx":
        from latentscale.explore.excel import ExcelWriter, check_rows

        check_rows(rows, to)
        writers: Any = ExcelWriter
    else:
        writers = _WRITERS[to.suffix]
    to.parent.mkdir(parents=True, exist_ok=True)
    # Written to a temporary file and renamed, so that a killed export leaves no partial file of that name.
    unfinished = to.with_name(f".unfinished-{to.name}")
    try:
        with cast("_Writer", writers(unfinished)) as writer:
            for frame in frames:
                writer.write(plain_frame(frame, to.suffix))
        unfinished.replace(to)
    finally:
        unfinished.unlink(missing_ok=True)
    return to


def what_of(to: Path, what: str | None) -> str:
    """The kind of export: ``what`` if given, else the one that the file name implies, else points or page.

    Raises
    ------
    ConfigError
        If ``what`` or the suffix is unknown, or they do not match.
    """
    if what is not None and what not in WHATS:
        raise ConfigError(f"--what {what!r} is not one of {', '.join(WHATS)}")
    if to.suffix in PAGE_SUFFIXES and what in (None, "page"):
        return "page"
    if what == "page" or (what is None and not to.suffix):
        if to.suffix in SUFFIXES:
            raise ConfigError(
                f"{to.name}: a page is a folder, or one .html file", hint="Name a folder without a suffix, or map.html."
            )
        if what is None and to.stem.lower() in _NAMES:
            name = _NAMES[to.stem.lower()]
            raise ConfigError(
                f"{to.name} would be a folder with the page of the map",
                hint=f"Name a file, {name}.csv, or add --what page.",
            )
        return "page"
    if to.suffix not in SUFFIXES:
        raise ConfigError(
            f"{to.name}: {to.suffix or 'a name without a suffix'} is not written",
            hint=f"Use {', '.join(SUFFIXES)}, or a folder or an .html file for the page.",
        )
    return what or _NAMES.get(to.stem.lower(), "points")


def _points(store: Store, record: Record, *, text: bool, updates: bool) -> Iterator[pl.DataFrame]:
    names = layer_labels(store, record)
    for frame in _frames(store, record, text=text):
        kept = frame if updates else frame.drop(UPDATE, strict=False)
        yield _with_layer_labels(kept, names)


def _texts(store: Store, record: Record) -> Iterator[pl.DataFrame]:
    workspace = read_workspace(store)
    names = layer_labels(store, record)
    for frame in _frames(store, record, text=True):
        layers = [name for name in frame.columns if name.startswith("layer_") and name in names]
        wanted = ["row_id", workspace.id_column, "cluster", "label", *layers, "source", "source_row"]
        kept = [name for name in wanted if name in frame.columns]
        yield _with_layer_labels(frame.select(*kept, workspace.text_column), names)


def _labels(store: Store, record: Record, *, vectors: bool) -> pl.DataFrame:
    labels = read_parts(store, [f"{record.folder}/labels.parquet"])
    return labels if vectors else labels.drop("centroid", strict=False)


def _clusters(store: Store, record: Record, *, for_people: bool) -> pl.DataFrame:
    labels = read_parts(store, [f"{record.folder}/labels.parquet"])
    frame = labels.select(columns_with_values(labels, _CLUSTER_COLUMNS))
    frame = frame.sort("layer", "size", "cluster", descending=[False, True, False])
    return frame.with_columns(pl.col("keyphrases").list.join(", ")) if for_people else frame


def layer_labels(store: Store, record: Record) -> dict[str, pl.DataFrame]:
    """The labels of the coarser layers: for each ``layer_<n>`` column of the points, a frame of cluster and label."""
    labels = read_parts(store, [f"{record.folder}/labels.parquet"])
    found: dict[str, pl.DataFrame] = {}
    for layer in labels["layer"].unique().sort().to_list():
        if layer:
            of_layer = labels.filter(pl.col("layer") == layer)
            found[f"layer_{layer}"] = of_layer.select(
                pl.col("cluster").alias(f"layer_{layer}"), pl.col("label").alias(f"layer_{layer}_label")
            )
    return found


def _with_layer_labels(frame: pl.DataFrame, names: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Add the label of each layer's cluster next to its column; a source column with that name is kept instead."""
    for column, labels in names.items():
        added = f"{column}_label"
        if column not in frame.columns or added in frame.columns:
            continue
        ids = labels.with_columns(pl.col(column).cast(frame.schema[column]))
        joined = frame.join(ids, on=column, how="left", maintain_order="left")
        at = frame.columns.index(column) + 1
        frame = joined.select([*frame.columns[:at], added, *frame.columns[at:]])
    return frame


def _frames(store: Store, record: Record, *, text: bool) -> Iterator[pl.DataFrame]:
    """The points as frames with the same schema, one per part; partitions of a part are concatenated."""
    schema = scan_points(store, record).collect_schema()
    column = read_workspace(store).text_column
    add_text = text and column not in schema.names()
    snapshot = read_snapshot(store, str(record.request["snapshot"])) if add_text else None
    empty = pl.DataFrame(schema=schema)
    yield empty.with_columns(pl.lit(None, pl.String).alias(column)) if add_text else empty
    for segment in point_segments(store, record):
        read = in_order(store, lambda name, segment=segment: (name, segment.read(name)), segment.names)
        for _, parts in groupby(read, key=lambda pair: pair[0].rsplit("/", 1)[1]):
            frame = pl.concat([part for _, part in parts], how="vertical")
            frame = pl.concat([empty, frame], how="diagonal_relaxed").select(schema.names()).cast(schema)
            if snapshot is not None:
                texts = read_texts(store, snapshot, frame["row_id"].to_numpy(), column)
                frame = frame.with_columns(pl.Series(column, texts, pl.String))
            yield frame


class _Writer(Protocol):
    """Writes frames with the same schema; the first is empty."""

    def write(self, frame: pl.DataFrame) -> None: ...
    def __enter__(self) -> _Writer: ...
    def __exit__(self, *error: object) -> None: ...


class _TextWriter:
    """Writes CSV with a header, or JSON Lines."""

    def __init__(self, path: Path) -> None:
        self._csv = ".csv" in path.suffixes[-1:]
        self._file = path.open("wb")
        self._header = True

    def write(self, frame: pl.DataFrame) -> None:
        if self._csv:
            frame.write_csv(self._file, include_header=self._header)
            self._header = False
        elif len(frame):
            frame.write_ndjson(self._file)

    def __enter__(self) -> _TextWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class _ParquetWriter:
    """Writes parquet with one row group per frame."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: pq.ParquetWriter | None = None

    def write(self, frame: pl.DataFrame) -> None:
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._file.write_table(table.cast(self._file.schema))

    def __enter__(self) -> _ParquetWriter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


_WRITERS: dict[str, type[_TextWriter] | type[_ParquetWriter]] = {
    ".parquet": _ParquetWriter,
    ".csv": _TextWriter,
    ".jsonl": _TextWriter,
}


def _export_page(store: Store, record: Record, folder: Path) -> Path:
    names = page_objects(store, record)
    if not names:
        raise WorkspaceError(f"{record.id} has no page", hint="Publish it with --set publish.viewer=true.")
    with new_folder(folder) as made:
        target = Store(str(made))
        for name in names:
            copy_object(store, target, name)
        write_public_page(target, record)
    return folder / PAGE_FOLDER / "index.html"


def export_single_page(store: Store, record: Record, to: Path) -> Path:
    """Write the page of a map with all its data to one HTML file, which opens from disk without a server.

    Raises
    ------
    RequestError
        If the map has too many documents for such a page, or no file can be created at this path.
    WorkspaceError
        If the map has no page.
    """
    check_new_file(to)
    documents = int(record.counts["documents"])
    if documents > SINGLE_PAGE_DOCUMENTS:
        raise RequestError(
            f"{record.id} has {documents:,} documents, and a page in one file holds at most {SINGLE_PAGE_DOCUMENTS:,}",
            where=str(to),
            hint="Export it as a folder (--what page and a name without a suffix), which any web server shows.",
        )
    with tempfile.TemporaryDirectory(prefix="latentscale-page-") as scratch:
        page = Path(scratch, "page")
        _export_page(store, record, page)
        site = {f"{PAGE_FOLDER}/{name}" for name, _ in page_files()}
        # The preview image for links is useless in a local file.
        site.add(f"{PAGE_FOLDER}/{PICTURE}")
        found = sorted(path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file())
        files = {name: (page / name).read_bytes() for name in found if name not in site}
        to.parent.mkdir(parents=True, exist_ok=True)
        unfinished = to.with_name(f".unfinished-{to.name}")
        try:
            with unfinished.open("wb") as file:
                file.writelines(single_page(page_title(record), files))
            unfinished.replace(to)
        finally:
            unfinished.unlink(missing_ok=True)
    return to


def copy_object(source: Store, target: Store, name: str) -> None:
    """Copy an object to another store under the same name."""
    if source.is_local:
        target.put_file(name, Path(source.path(name)))
    else:
        target.put_bytes(name, source.read_bytes(name))
