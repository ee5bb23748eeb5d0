"""The preview of a map: a file that shows the layout while it is optimised, and its replacement when a run ends."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.backends.shown import next_shown
from latentscale.file_names import argument
from latentscale.stages.context import ignore_notice
from latentscale.stages.previewed import CHARACTERS
from latentscale.stages.publish.columns import published_columns, published_documents
from latentscale.stages.publish.page import PAGE_FOLDER
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot
from latentscale.viewer import ViewerData, manifest_bytes, write_tiles
from latentscale.viewer.data import LABEL_COLUMNS
from latentscale.viewer.height import Height
from latentscale.viewer.page import SINGLE_PAGE_DOCUMENTS, page_instead, single_page

NAME = "preview.html"
SEED = 0
# Smallest refresh interval in seconds: each refresh reads the whole file.
MIN_REFRESH = 5.0
MAP_AXES = 2
_INSIDE = "maps/preview/viewer"


class Preview:
    """Writes ``preview.html`` of a workspace atomically, each time that a layout is shown.

    It has the columns of the map's page, for a uniform sample of large corpora.

    Parameters
    ----------
    store : Store
        The workspace.
    snapshot : str
        Id of the documents' snapshot.
    title : str
        Title of the map.
    columns : sequence of str, optional
        As in ``publish.columns``, by stored names.
    text : {"page", "points", "none"}
        As in ``publish.text``.
    text_column : str
    vectors : str, optional
        Stored name of the column with the corpus's own vectors, which is not shown.
    dimensions : int
        Dimensions of the final map: a flat layout may precede a three-dimensional one.
    """

    def __init__(
        self,
        store: Store,
        *,
        snapshot: str,
        title: str,
        columns: Sequence[str] | None,
        text: str,
        text_column: str,
        vectors: str | None,
        dimensions: int,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._title = title
        self._settings = {"columns": columns, "text": text}
        self._text = text_column
        self._vectors = vectors
        self._dimensions = dimensions
        self._notice: Callable[[str], None] = ignore_notice
        self._began = 0.0
        self._documents: pa.Table | None = None

    def begin(self, notice: Callable[[str], None]) -> None:
        """Start timing a layout; ``notice`` receives the address of the preview, or why there is none."""
        self._notice = notice
        self._began = time.monotonic()

    def show(self, row_ids: NDArray[np.int64], coordinates: NDArray[np.float32], done: int, total: int) -> None:
        """Write the page of a layout after ``done`` of ``total`` steps; errors are reported and never end a run."""
        axes = coordinates.shape[1]
        state = "the layout" if axes == MAP_AXES else "the heights"
        seconds = time.monotonic() - self._began
        if done < total:
            state += f" after {done:,} of {total:,} steps ({done / total:.0%})"
            due = seconds / done * (next_shown(done, total) - done)
        else:
            state += ", done"
            due = seconds
        remaining = "heights, clusters and labels" if MAP_AXES == axes < self._dimensions else "clusters and labels"
        try:
            self._write(row_ids, coordinates, state, remaining, max(due, MIN_REFRESH))
        except Exception as error:  # noqa: BLE001 - a failed preview must not end a run of hours
            self._notice(f"no preview of {state}: {error}")
        else:
            self._notice(f"preview of {state}: {address_of(self._store)}")

    def _write(
        self, row_ids: NDArray[np.int64], coordinates: NDArray[np.float32], state: str, remaining: str, due: float
    ) -> None:
        rows = sample_rows(len(row_ids))
        documents = self._read(row_ids[rows]) if self._documents is None else self._documents
        self._documents = documents
        sample = coordinates[rows]
        coverage = f"all {len(row_ids):,} documents"
        if len(sample) < len(row_ids):
            coverage = f"{len(sample):,} of the {len(row_ids):,} documents, chosen at random"
        names = [name for name in documents.column_names if name != "row_id"]
        no_clusters = np.full(len(sample), -1, np.int32)
        data = ViewerData(
            name=self._title,
            row_ids=row_ids[rows],
            coordinates=np.ascontiguousarray(sample[:, :2]),
            clusters=no_clusters,
            nearest_clusters=no_clusters,
            labels=pa.table({name: pa.array([], pa.int64()) for name in LABEL_COLUMNS}),
            documents=lambda: iter(documents.to_batches(max_chunksize=4_096)),
            text_column=self._text if self._text in names else None,
            columns=names,
            height=Height.of(sample) if sample.shape[1] > 2 else None,
            search=False,
        )
        files: dict[str, bytes] = {}
        with tempfile.TemporaryDirectory(prefix="latentscale-preview-") as scratch:
            entry = write_tiles(
                data, lambda name, content: files.update({f"{_INSIDE}/{name}": content}), scratch=Path(scratch)
            )
        files["viewer/manifest.json"] = manifest_bytes(
            [entry | {"url": f"../{_INSIDE}/"}],
            title=self._title,
            preview={
                "said": f"{state[0].upper()}{state[1:]}, of {coverage}. Still to come: {remaining}.",
                "written": round(time.time(), 1),
                "due": round(due, 1),
            },
        )
        self._store.put_bytes(NAME, b"".join(single_page(f"Preview: {self._title}", files)))

    def _read(self, row_ids: NDArray[np.int64]) -> pa.Table:
        """Read the published columns of documents: texts, truncated, and numbers."""
        store, snapshot = self._store, read_snapshot(self._store, self._snapshot)
        columns = published_columns(store, snapshot.shards, self._settings, self._text, self._vectors)
        names = [name for name in columns.page if not _is_bulky(columns.schema.field(name).type)]
        parts: list[pa.Table] = []
        start = 0
        for table in published_documents(store, snapshot, row_ids, names, columns.schema):
            ids = pa.array(row_ids[start : start + table.num_rows])
            start += table.num_rows
            parts.append(_cut(table).add_column(0, "row_id", ids))
        return pa.concat_tables(parts).combine_chunks()


def end_preview(store: Store, *, published: bool, failed: bool) -> None:
    """Replace a preview, if there is one, by a page that says how its run ended.

    Parameters
    ----------
    published : bool
        Whether the run published a map, whose page is linked.
    failed : bool
        Whether the run failed.
    """
    if not store.exists(NAME):
        return
    workspace = argument(store.url)
    if published:
        explanation = "The map that was shown here while it was computed is done."
        explanation += f" Open it from a local disk with: latentscale view {workspace}" if store.is_local else ""
    elif failed:
        explanation = "The run whose map was shown here ended before the map was done. Repeat its command to resume it."
    else:
        explanation = "The run whose map was shown here is done; it did not publish the map to this workspace."
    page = page_instead("The preview has ended", explanation, f"{PAGE_FOLDER}/index.html" if published else None)
    store.put_bytes(NAME, page)


def address_of(store: Store) -> str:
    """Address of the preview of a workspace: a path or a URL."""
    return store.path(NAME) if store.is_local else f"{store.url.rstrip('/')}/{NAME}"


def sample_rows(documents: int) -> NDArray[np.int64]:
    """Rows of the documents that are shown, int64, ascending: all, or a deterministic uniform sample."""
    if documents <= SINGLE_PAGE_DOCUMENTS:
        return np.arange(documents)
    return np.sort(np.random.default_rng(SEED).choice(documents, SINGLE_PAGE_DOCUMENTS, replace=False, shuffle=False))


def _is_bulky(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _cut(table: pa.Table) -> pa.Table:
    """Truncate texts to ``CHARACTERS`` characters and an ellipsis."""
    compute = cast(Any, pc)
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = table.column(i)
            short = compute.binary_join_element_wise(
                compute.utf8_slice_codeunits(column, 0, CHARACTERS),
                pa.scalar("…", field.type),
                pa.scalar("", field.type),
            )
            long = compute.greater(compute.utf8_length(column), CHARACTERS)
            table = table.set_column(i, field, compute.if_else(long, short, column))
    return table
