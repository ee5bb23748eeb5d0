"""Export a map: its points, texts or clusters as one file, or its page as a folder or one HTML file of its own."""

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
# What a person means by the name of a file.
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

    Points and texts are read, and written, some 131,072 at a time: memory does not grow with the map.

    Parameters
    ----------
    record : Record
        Of the map.
    to : Path
        A ``.parquet``, ``.csv``, ``.jsonl`` or ``.xlsx`` file (the last with the extra ``excel``); anything without a
        suffix is a folder for the page, and an ``.html`` file the page itself. What a format has no form for is text
        there: see ``explore.plain``.
    what : {"points", "text", "clusters", "labels", "page"}, optional
        ``points``: one row a document, with the label of its cluster in each layer; ``text``: ``row_id``, the id
        column, the clusters and the text; ``clusters``: one row a cluster of each layer; ``labels``: the same with
        positions and hulls, and in parquet their centroids. By default what the file is called, ``labels.csv``, and
        else points.
    text : bool
        Add the text of the documents to the points.
    updates : bool
        Add the column ``update`` to the points: the snapshot with which each came.

    Raises
    ------
    ConfigError
        For another suffix, or one that does not fit ``what``.
    RequestError
        If an ``.xlsx`` or ``.html`` file cannot hold it, or the next update would read it as documents.
    MissingPackageError
        If the extra ``excel`` is needed and not installed.
    WorkspaceError
        If the folder is not empty, or the map has no page.
    DamagedObjectError
        If a part is not what was written.
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
    """Find out before anything is computed whether frames can be written to a file of this name.

    Raises
    ------
    ConfigError
        If the suffix is not one of ``suffixes``.
    RequestError
        If no file can be there.
    """
    refuse_stream(to)
    if to.suffix not in suffixes:
        raise ConfigError(
            f"{to.name}: {to.suffix or 'a name without a suffix'} is not written", hint=f"Use {', '.join(suffixes)}."
        )
    check_new_file(to)


def write_frames(frames: Iterable[pl.DataFrame], to: Path, *, rows: int = 0) -> Path:
    """Write frames of one schema to one file.

    Parameters
    ----------
    rows : int
        How many there will be: more than a sheet holds are refused before any is written.
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
    """What is written to ``to``: ``what`` where it is given, else what the name says, else the points or the page.

    Raises
    ------
    ConfigError
        If there is no such thing, the suffix is not written, or the two do not fit.
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
    """The labels of the coarser layers: by column of the points, a frame of cluster and label."""
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
    """Put the label of each layer's cluster next to it; a corpus's own column of that name stays what it is."""
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
    """The points, of one schema each, part by part; the parts of all partitions that were written together as one."""
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
    """Writes frames of one schema, the first of them empty."""

    def write(self, frame: pl.DataFrame) -> None: ...
    def __enter__(self) -> _Writer: ...
    def __exit__(self, *error: object) -> None: ...


class _Lines:
    """CSV with a header, or JSON lines."""

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

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class _Parquet:
    """Parquet, a row group for each frame."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: pq.ParquetWriter | None = None

    def write(self, frame: pl.DataFrame) -> None:
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._file is None:
            self._file = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._file.write_table(table.cast(self._file.schema))

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


_WRITERS: dict[str, type[_Lines] | type[_Parquet]] = {".parquet": _Parquet, ".csv": _Lines, ".jsonl": _Lines}


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
    """Write the page of a map with all that it reads into one HTML file, which opens from a disk without a server.

    Raises
    ------
    RequestError
        If the map has more documents than such a page holds, or no file can be there.
    WorkspaceError
        If it has no page.
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
        # Nobody asks a file for its picture.
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
    """Copy one object, under its name, to a local folder."""
    if source.is_local:
        target.put_file(name, Path(source.path(name)))
    else:
        target.put_bytes(name, source.read_bytes(name))
