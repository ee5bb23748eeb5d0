"""Sample: some documents of a map with their texts, the same for the same seed."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from latentscale.errors import RequestError
from latentscale.explore.documents import read_texts
from latentscale.readers.conditions import parse_condition
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import PointSegment, point_segments, scan_points
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace


def sample(
    store: Store, record: Record, n: int = 10, *, seed: int = 0, where: pl.Expr | str | None = None
) -> pl.DataFrame:
    """Choose ``n`` documents of a map at random, each as likely as any other.

    Parts are read one after the other, and first only the columns that the condition names: memory does not grow with
    the map. The choice depends on the row ids and the seed alone, not on how the map is stored.

    Parameters
    ----------
    n : int
        Fewer are given where there are not so many.
    seed : int
    where : polars expression or str, optional
        Only documents for which it holds: ``pl.col("cluster") == 12``, or the same as SQL, ``"cluster = 12"``.

    Returns
    -------
    polars.DataFrame
        The columns of ``points()`` and the text, by ``row_id``.

    Raises
    ------
    RequestError
        If ``n`` is negative, or the condition is none on the columns of the points.
    """
    if n < 0:
        raise RequestError(f"{n} documents were requested", hint="Request 1 or more.")
    schema = scan_points(store, record).collect_schema()
    condition = point_condition(where, schema)
    needed = {"row_id", *(condition.meta.root_names() if condition is not None else [])}
    kept = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    parts = [(segment, name) for segment in point_segments(store, record) for name in segment.names]

    def row_ids(part: tuple[PointSegment, str]) -> NDArray[np.int64]:
        segment, name = part
        frame = segment.read(name, needed)
        lacking = [pl.lit(None, schema[key]).alias(key) for key in needed - set(frame.columns)]
        frame = frame.with_columns(lacking)
        return (frame if condition is None else frame.filter(condition))["row_id"].to_numpy()

    for number, ids in enumerate(in_order(store, row_ids, parts)):
        found = _drawn(ids, seed), ids, np.full(len(ids), number)
        kept = tuple(np.concatenate(pair) for pair in zip(kept, found, strict=True))
        first = np.lexsort((kept[1], kept[0]))[:n]
        kept = tuple(column[first] for column in kept)
    _, chosen, owners = kept
    frames = [
        segment.read(name, predicate=pl.col("row_id").is_in(chosen.tolist()))
        for number, (segment, name) in enumerate(parts)
        if number in owners
    ]
    frame = pl.concat([pl.DataFrame(schema=schema), *frames], how="diagonal_relaxed").sort("row_id")
    column = read_workspace(store).text_column
    if column in frame.columns:
        return frame
    snapshot = read_snapshot(store, str(record.request["snapshot"]))
    texts = read_texts(store, snapshot, frame["row_id"].to_numpy(), column)
    return frame.with_columns(pl.Series(column, texts, pl.String))


def point_condition(where: pl.Expr | str | None, schema: pl.Schema) -> pl.Expr | None:
    if where is None:
        return None
    try:
        condition = parse_condition(where, where="where").expression if isinstance(where, str) else where
        # A condition on each document by itself: an aggregate would be that of a part.
        lengths = [pl.DataFrame(schema=schema).clear(rows).select(condition).height for rows in (0, 2)]
        kind = pl.DataFrame(schema=schema).select(condition).dtypes[0]
    except pl.exceptions.PolarsError as error:
        raise RequestError(
            f"where: {' '.join(str(error).split())[:300]}", hint=f"The columns are: {', '.join(schema.names())}."
        ) from None
    if kind != pl.Boolean or lengths != [0, 2]:
        raise RequestError("where: this is no condition on each document", hint='Write one: "cluster = 12".')
    return condition


def _drawn(row_ids: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A number for each document, as if drawn at random (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = row_ids.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        return mixed ^ (mixed >> np.uint64(31))
