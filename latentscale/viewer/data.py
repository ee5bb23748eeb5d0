"""What the viewer is made from: one map, its labels and a stream of its documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import ShapeError

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
    """One map, ready to be written as a generation of the viewer.

    Attributes
    ----------
    name : str
        The map's title.
    row_ids : int64 ndarray, shape (n,)
        In the order of every other array and of ``documents``; unique.
    coordinates : float32 ndarray, shape (n, 2)
        Unitless, finite.
    clusters : int32 ndarray, shape (n,)
        The algorithm's answer on layer 0; -1 is noise.
    nearest_clusters : int32 ndarray, shape (n,)
        As ``clusters``, noise given to its nearest cluster.
    labels : pyarrow.Table
        One row a cluster and layer: ``layer``, ``cluster``, ``label``, ``source``, ``keyphrases``, ``exemplars``
        (row ids), ``parent`` (a cluster of the next layer, null at the top), ``x``, ``y``, ``hull`` (flat x, y pairs,
        may be empty), ``size``, ``nearest_size``.
    documents : callable
        Streams all documents as record batches in the order of ``row_ids``: ``row_id`` and every one of ``columns``.
    text_column : str or None
        Which column holds the text; None if the text is not published.
    columns : sequence of str
        The published source columns, in order.
    stats : mapping
        Small JSON facts that the page shows: counts, quality, ids of records.
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
    stats: Mapping[str, Any]

    def check(self) -> None:
        """Raise if the parts do not belong together.

        Raises
        ------
        ShapeError
            If lengths differ, there is no document, a coordinate is not finite, a row id repeats or a column of
            ``labels`` is missing.
        """
        n = len(self.row_ids)
        if n == 0:
            raise ShapeError("a map of no documents has nothing to show", where=self.name)
        if self.coordinates.shape != (n, 2):
            raise ShapeError(
                f"the viewer got coordinates of shape {self.coordinates.shape} for {n:,} documents, and needs ({n}, 2)"
            )
        for name in ("clusters", "nearest_clusters"):
            if len(getattr(self, name)) != n:
                raise ShapeError(f"the viewer got {len(getattr(self, name)):,} {name} for {n:,} documents")
        bad = int((~np.isfinite(self.coordinates).all(axis=1)).sum())
        if bad:
            raise ShapeError(f"{bad:,} of {n:,} documents have coordinates that are not finite numbers")
        if len(np.unique(self.row_ids)) != n:
            raise ShapeError(f"row ids repeat: {n:,} documents, {len(np.unique(self.row_ids)):,} row ids")
        missing = [name for name in LABEL_COLUMNS if name not in self.labels.column_names]
        if missing:
            raise ShapeError(f"the table of labels has no column {', '.join(missing)}")
        if self.text_column is not None and self.text_column not in self.columns:
            raise ShapeError(f"the text column {self.text_column!r} is not among the published columns")
