"""The input of the viewer: one map, its labels and a stream of its documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import ShapeError
from latentscale.viewer.height import Height
from latentscale.viewer.meaning import Meaning
from latentscale.viewer.quality import MapQuality
from latentscale.viewer.similar import Similar

TITLES = ("title", "name", "headline", "subject", "package")
LABEL_COLUMNS = (
    "layer",
    "cluster",
    "label",
    "source",
    "keyphrases",
    "exemplars",
    "parent",
    "x",
    "y",
    "hull",
    "size",
    "nearest_size",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerData:
    """The data of a map, or of an update, to write as a generation of the viewer.

    Attributes
    ----------
    name : str
        The map's title.
    row_ids : int64 ndarray, shape (n,)
        Unique; all other arrays and ``documents`` have the same order.
    coordinates : float32 ndarray, shape (n, 2)
        Unitless, finite.
    clusters : int32 ndarray, shape (n,)
        Clusters of layer 0; -1 is noise.
    nearest_clusters : int32 ndarray, shape (n,)
        As ``clusters``, with noise assigned to its nearest cluster.
    labels : pyarrow.Table
        One row per cluster and layer: ``layer``, ``cluster``, ``label``, ``source``, ``keyphrases``, ``exemplars``
        (row ids), ``parent`` (a cluster of the next layer, null at the top), ``x``, ``y``, ``hull`` (flat x, y pairs,
        may be empty), ``size``, ``nearest_size``.
    documents : callable
        Streams all documents as record batches in the order of ``row_ids``: ``row_id`` and every one of ``columns``.
    text_column : str or None
        The text column; None if the text is not published.
    columns : sequence of str
        The published source columns, in order.
    quality : MapQuality or None
        The quality figures for the page; None if there are none.
    density : uint8 or floating ndarray, shape (n,), optional
        Density of the *whole* map at each document: bytes as from ``map_density``, or numbers from 0 to 1. By default
        it is computed from ``coordinates``, which is right for a map with a single generation.
    height : Height, optional
        The third dimension of a 3-D map.
    colours : sequence of mapping, optional
        ``colours`` of the previous generation's ``index.json``: categories keep their codes and columns their kinds, so
        that a colour has the same meaning in all generations.
    view : tuple of float, optional
        The initial view (x0, y0, x1, y1); by default computed from ``coordinates``.
    side : float, optional
        Side length of the whole map's bounding square, for label placement; by default that of ``coordinates``.
    search : bool
        Whether to build the full-text index.
    id_column : str or None
        The column with the documents' own ids, by which the page finds them.
    similar : Similar, optional
        The nearest neighbours of each document, if known.
    meaning : Meaning, optional
        The vectors of the documents, for semantic search.
    added : str or None
        When an update added these documents to the map, as the page shows it; None for the first generation.
    placed : str or None
        The corpus of documents that were placed on the map without becoming part of it.

    ``continued`` fills in ``colours``, ``view`` and ``side`` of an update.
    """

    name: str
    row_ids: NDArray[np.int64]
    coordinates: NDArray[np.float32]
    clusters: NDArray[np.int32]
    nearest_clusters: NDArray[np.int32]
    labels: pa.Table
    documents: Callable[[], Iterator[pa.RecordBatch]]
    text_column: str | None
    columns: Sequence[str]
    quality: MapQuality | None = None
    density: NDArray[Any] | None = None
    height: Height | None = None
    colours: Sequence[Mapping[str, Any]] | None = None
    view: tuple[float, float, float, float] | None = None
    side: float | None = None
    search: bool = True
    id_column: str | None = None
    similar: Similar | None = None
    meaning: Meaning | None = None
    added: str | None = None
    placed: str | None = None

    @property
    def title_column(self) -> str | None:
        """The column that looks like a document title by its name; the page shows it above the text."""
        return next((name for name in self.columns if name.lower() in TITLES and name != self.text_column), None)

    def check(self) -> None:
        """Raise if the parts do not match.

        Raises
        ------
        ShapeError
            If lengths differ, there is no document, a coordinate is not finite, a row id repeats, a column of
            ``labels`` is missing, ``density`` holds neither bytes nor numbers from 0 to 1, or a figure of ``quality``
            is out of its range.
        """
        n = len(self.row_ids)
        if n == 0:
            raise ShapeError("a map needs at least one document", where=self.name)
        if self.coordinates.shape != (n, 2):
            raise ShapeError(
                f"the viewer got coordinates of shape {self.coordinates.shape} for {n:,} documents, but needs ({n}, 2)"
            )
        for name in ("clusters", "nearest_clusters"):
            if len(getattr(self, name)) != n:
                raise ShapeError(f"the viewer got {len(getattr(self, name)):,} {name} for {n:,} documents")
        not_finite = int((~np.isfinite(self.coordinates).all(axis=1)).sum())
        if not_finite:
            raise ShapeError(f"{not_finite:,} of {n:,} documents have coordinates that are not finite numbers")
        if len(np.unique(self.row_ids)) != n:
            raise ShapeError(f"row ids repeat: {n:,} documents, {len(np.unique(self.row_ids)):,} row ids")
        if self.density is not None:
            self._check_density(self.density)
        if self.height is not None:
            self.height.check(n)
        if self.similar is not None:
            self.similar.check(n)
        if self.meaning is not None:
            self.meaning.check(n)
        missing = [name for name in LABEL_COLUMNS if name not in self.labels.column_names]
        if missing:
            raise ShapeError(f"the table of labels has no column {', '.join(missing)}")
        if self.text_column is not None and self.text_column not in self.columns:
            raise ShapeError(f"the text column {self.text_column!r} is not among the published columns")
        if self.quality is not None:
            self.quality.check()

    def _check_density(self, density: NDArray[Any]) -> None:
        if density.shape != (len(self.row_ids),):
            raise ShapeError(f"the viewer got a density of shape {density.shape} for {len(self.row_ids):,} documents")
        if density.dtype == np.uint8:
            return
        if not np.issubdtype(density.dtype, np.floating) or not ((density >= 0) & (density <= 1)).all():
            raise ShapeError(
                f"a density is uint8, or floating from 0 to 1, but this is {density.dtype}",
                hint="latentscale.viewer.map_density(coordinates of the whole map)[rows of this generation]",
            )


def continued(data: ViewerData, generations: Sequence[Mapping[str, Any]], read: Callable[[str], bytes]) -> ViewerData:
    """Complete the ``data`` of an update with what earlier generations determine: category codes, view and square.

    Parameters
    ----------
    data : ViewerData
        The documents of the update.
    generations : sequence of mapping
        Entries of the grown map's manifest, oldest first.
    read : callable
        Reads a whole object of the *last* of ``generations``: ``read(name) -> bytes``, names relative to its folder.
    """
    index = json.loads(read("index.json"))
    entries = [*generations]
    low = np.min([[entry["extent"][0], entry["extent"][1]] for entry in entries], axis=0)
    high = np.max([[entry["extent"][2], entry["extent"][3]] for entry in entries], axis=0)
    x0, y0, x1, y1 = entries[-1]["view"]
    return replace(data, colours=index["colours"], view=(x0, y0, x1, y1), side=float((high - low).max()) or 1.0)
