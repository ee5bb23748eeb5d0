"""Filtered vector search: the documents most similar to a query, with all columns of the map."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from latentscale.errors import RequestError
from latentscale.explore.documents import read_texts
from latentscale.explore.sample import point_condition
from latentscale.explore.search import embedded, nearest
from latentscale.storage.artifacts import Record, needed_record
from latentscale.storage.frames import UPDATE, scan_points
from latentscale.storage.objects import Store
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace

_FIRST = ("score", "row_id", "cluster", "label")


def find(
    store: Store,
    record: Record,
    query: str | NDArray[np.float32],
    *,
    k: int = 10,
    where: pl.Expr | str | None = None,
    threshold: float | None = None,
) -> pl.DataFrame:
    """Find the documents of a map most similar to a text or vector, by exact search.

    Parameters
    ----------
    query : str or float32 ndarray, shape (d,)
        A text, or a unit vector of the map's model.
    k : int
        Maximum number of documents.
    where : polars expression or str, optional
        Filter, as in ``sample``.
    threshold : float, optional
        Minimum cosine similarity.

    Returns
    -------
    polars.DataFrame
        Best first: ``score`` (cosine similarity, float32), ``row_id``, ``cluster``, ``label``, the id column, the text,
        then the other columns of the points.

    Raises
    ------
    RequestError
        If the text cannot be embedded with the map's model, ``threshold`` is out of range, or the filter is not valid
        for the columns of the points.
    """
    if threshold is not None and not -1.0 <= threshold <= 1.0:
        raise RequestError(f"the threshold {threshold:g} is no cosine similarity", hint="Name one in [-1, 1], as 0.5.")
    points = scan_points(store, record)
    columns = [name for name in points.collect_schema().names() if name != UPDATE]
    among = None
    condition = point_condition(where, points.collect_schema())
    if condition is not None:
        among = np.sort(points.filter(condition).select("row_id").collect()["row_id"].to_numpy())
    embedding = needed_record(store, "embedding", str(record.request["embedding"]))
    vector = embedded(embedding, query) if isinstance(query, str) else query
    snapshot = read_snapshot(store, str(record.request["snapshot"]))
    row_ids, scores = nearest(store, snapshot, embedding.id, vector, k, among=among)
    if threshold is not None:
        row_ids, scores = row_ids[scores >= threshold], scores[scores >= threshold]
    workspace = read_workspace(store)
    found = points.filter(pl.col("row_id").is_in(row_ids.tolist())).select(columns).collect()
    frame = pl.DataFrame({"row_id": row_ids, "score": scores}).join(
        found, on="row_id", how="left", maintain_order="left"
    )
    if workspace.text_column not in frame.columns:
        texts = read_texts(store, snapshot, row_ids, workspace.text_column)
        frame = frame.with_columns(pl.Series(workspace.text_column, texts, pl.String))
    first = [*_FIRST, workspace.id_column, workspace.text_column]
    shown = [name for name in dict.fromkeys(first) if name is not None and name in frame.columns]
    return frame.select(*shown, pl.exclude(shown))
