"""Sample: some documents of a map with their texts, chosen evenly, by density or by cluster; the same for a seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from latentscale.errors import RequestError, WorkspaceError
from latentscale.explore.documents import read_texts
from latentscale.readers.conditions import parse_condition
from latentscale.stages.publish.columns import layer_number
from latentscale.storage.artifacts import Record
from latentscale.storage.frames import PointSegment, point_segments, scan_points
from latentscale.storage.objects import Store
from latentscale.storage.ordered import in_order
from latentscale.storage.snapshots import read_snapshot
from latentscale.storage.workspace_record import read_workspace

By = Literal["density", "cluster"]
BYS: tuple[str, ...] = get_args(By)
MOST_POWER = 50.0
# A cosine distance: documents with many copies are unlikely to be chosen, and not impossible.
_LEAST_DISTANCE = 0.01


def sample(
    store: Store,
    record: Record,
    n: int = 10,
    *,
    seed: int = 0,
    where: pl.Expr | str | None = None,
    by: By | None = None,
    layer: int = 0,
    power: float = 1.0,
) -> pl.DataFrame:
    """Choose ``n`` documents of a map at random.

    Parts are read one after the other, and first only the columns that the choice needs: memory does not grow with the
    map. The choice depends on the row ids and the seed alone, not on how the map is stored.

    Parameters
    ----------
    n : int
        Fewer are given where there are not so many.
    seed : int
    where : polars expression or str, optional
        Only documents for which it holds: ``pl.col("cluster") == 12``, or the same as SQL, ``"cluster = 12"``.
    by : {"density", "cluster"}, optional
        By default each document is as likely as any other. ``density``: density biased sampling (Palmer and Faloutsos
        2000) in the embedding: a document weighs its ``neighbor_distance``, at least 0.01, to the power of ``power``,
        so that sparse regions are not lost beside dense ones; without replacement (Efraimidis and Spirakis 2006).
        ``cluster``: from each cluster as many, or all where it has fewer, so that the others get more; noise counts as
        one more cluster.
    layer : int
        Of the clusters; 0 is the finest.
    power : float
        0 is as without ``by``; the larger, the more of the sparse regions.

    Returns
    -------
    polars.DataFrame
        The columns of ``points()`` and the text, by ``row_id``.

    Raises
    ------
    RequestError
        If ``n`` or ``power`` is negative, there is no such layer, or the condition is none on the columns of the
        points.
    WorkspaceError
        If documents of the map have no ``neighbor_distance``, as in maps of earlier versions.
    """
    schema = scan_points(store, record).collect_schema()
    column = _column_needed(record, schema, n, by=by, layer=layer, power=power)
    condition = point_condition(where, schema)
    candidates = _Candidates(store, record, schema, condition, column)
    if by == "cluster":
        sizes = np.zeros(1, dtype=np.int64)
        for _, _, strata in candidates:
            sizes = _added(sizes, np.bincount(strata.astype(np.int64) + 1))
        quotas = allotted(sizes, n)
    else:
        quotas = np.array([n], dtype=np.int64)
    none = np.empty(0, dtype=np.int64)
    kept: tuple[NDArray[Any], ...] = np.empty(0, dtype=np.uint64), none, none, none
    for number, ids, values in candidates:
        keys: NDArray[Any] = _drawn(ids, seed)
        if by == "density":
            keys = _weighted(keys, _weights(record, values, power))
        strata = values.astype(np.int64) + 1 if by == "cluster" else np.zeros(len(ids), dtype=np.int64)
        found = keys, ids, np.full(len(ids), number), strata
        kept = _least(tuple(np.concatenate(pair) for pair in zip(kept, found, strict=True)), quotas)
    _, chosen, owners, _ = kept
    frames = [
        segment.read(name, predicate=pl.col("row_id").is_in(chosen.tolist()))
        for number, (segment, name) in enumerate(candidates.parts)
        if number in owners
    ]
    frame = pl.concat([pl.DataFrame(schema=schema), *frames], how="diagonal_relaxed").sort("row_id")
    text = read_workspace(store).text_column
    if text in frame.columns:
        return frame
    snapshot = read_snapshot(store, str(record.request["snapshot"]))
    texts = read_texts(store, snapshot, frame["row_id"].to_numpy(), text)
    return frame.with_columns(pl.Series(text, texts, pl.String))


def _column_needed(
    record: Record, schema: pl.Schema, n: int, *, by: str | None, layer: int, power: float
) -> str | None:
    """The column of the points that the choice goes by."""
    if n < 0:
        raise RequestError(f"{n} documents were requested", hint="Request 1 or more.")
    if by is not None and by not in BYS:
        raise RequestError(f"a sample by {by!r} is not one of {', '.join(BYS)}")
    if layer and by != "cluster":
        raise RequestError(
            "a layer was given, and the sample is not by cluster", hint="Add by cluster, or leave it out."
        )
    if power != 1.0 and by != "density":
        raise RequestError(
            "a power was given, and the sample is not by density", hint="Add by density, or leave it out."
        )
    if by == "density":
        if not 0 <= power <= MOST_POWER:
            raise RequestError(f"a power of {power:g} is not between 0 and {MOST_POWER:g}")
        if "neighbor_distance" not in schema:
            raise _no_distances(record)
        return "neighbor_distance"
    if by is None:
        return None
    name = f"layer_{layer}" if layer else "cluster"
    if name not in schema:
        highest = max(layer_number(one) for one in schema)
        raise RequestError(f"{record.id} has no layer {layer}", hint=f"Its layers: 0 to {highest}; 0 is the finest.")
    return name


def _no_distances(record: Record) -> WorkspaceError:
    return WorkspaceError(
        f"documents of {record.id} have no neighbor_distance: an earlier version of LatentScale wrote them, or one was "
        "alone when the map was fitted",
        hint="latentscale update WORKSPACE --refit makes a map that has it.",
    )


class _Candidates:
    """Part after part of a map: its number, the row ids that the condition leaves, and the column that is needed."""

    def __init__(
        self, store: Store, record: Record, schema: pl.Schema, condition: pl.Expr | None, column: str | None
    ) -> None:
        self.parts = [(segment, name) for segment in point_segments(store, record) for name in segment.names]
        self._store, self._schema, self._condition, self._column = store, schema, condition, column

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[Any]]]:
        found = in_order(self._store, self._read, self.parts)
        yield from ((number, *pair) for number, pair in enumerate(found))

    def _read(self, part: tuple[PointSegment, str]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        segment, name = part
        condition, column = self._condition, self._column
        needed = {"row_id", *(condition.meta.root_names() if condition is not None else [])}
        if column is not None:
            needed.add(column)
        frame = segment.read(name, needed)
        lacking = [pl.lit(None, self._schema[key]).alias(key) for key in needed - set(frame.columns)]
        frame = frame.with_columns(lacking)
        frame = frame if condition is None else frame.filter(condition)
        ids = frame["row_id"].to_numpy()
        return ids, ids[:0] if column is None else frame[column].to_numpy()


def allotted(sizes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Share ``n`` among groups: each as many as any other, or all that it has where those are fewer.

    Parameters
    ----------
    sizes : int64 ndarray, shape (g,)
        What the groups have.

    Returns
    -------
    int64 ndarray, shape (g,)
        Their sum is ``n``, or that of ``sizes`` if it is smaller. What cannot be shared goes to the largest groups.
    """
    quotas = np.zeros(len(sizes), dtype=np.int64)
    left = n
    for done, group in enumerate(np.argsort(sizes, kind="stable").tolist()):
        quotas[group] = min(int(sizes[group]), left // (len(sizes) - done))
        left -= int(quotas[group])
    return quotas


def _added(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of two arrays, the shorter with zeros after it."""
    total = np.zeros(max(len(first), len(second)), dtype=np.int64)
    total[: len(first)] += first
    total[: len(second)] += second
    return total


def _least(kept: tuple[NDArray[Any], ...], quotas: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """Of (key, row id, part, group) the rows with the smallest keys: as many of each group as ``quotas`` says."""
    keys, ids, _, groups = kept
    order = np.lexsort((ids, keys, groups))
    grouped = groups[order]
    rank = np.arange(len(order)) - np.searchsorted(grouped, grouped)
    order = order[rank < quotas[grouped]]
    return tuple(column[order] for column in kept)


def _weights(record: Record, distances: NDArray[np.float32], power: float) -> NDArray[np.float64]:
    if np.isnan(distances).any():
        if int(record.counts["documents"]) == 1:
            return np.ones(len(distances))
        raise _no_distances(record)
    return np.maximum(distances.astype(np.float64), _LEAST_DISTANCE) ** power


def _weighted(drawn: NDArray[np.uint64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys of which the smallest are a sample by weight: exponentially distributed, at the rate of the weight."""
    uniform = ((drawn >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(uniform) / weights


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
