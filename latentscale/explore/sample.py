"""Random samples of the documents of a map: uniform, density biased or stratified by cluster; seeded."""

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
# Lower bound of the cosine distance used as a weight, so that documents with many copies keep a small probability.
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
    """Draw a random sample of ``n`` documents of a map.

    The part files are read one by one, at first only the required columns, in constant memory. The sample depends only
    on the row ids and the seed, not on how the map is stored.

    Parameters
    ----------
    n : int
        Sample size; if fewer documents match, all of them are returned.
    seed : int
        Random seed.
    where : polars expression or str, optional
        Filter: ``pl.col("cluster") == 12``, or a SQL condition, ``"cluster = 12"``.
    by : {"density", "cluster"}, optional
        By default the sample is uniform. ``density``: density biased sampling (Palmer and Faloutsos 2000) in the
        embedding, with the weight ``max(neighbor_distance, 0.01) ** power``, so that sparse regions are represented
        too; without replacement (Efraimidis and Spirakis 2006). ``cluster``: stratified, the same number from each
        cluster, or all documents of smaller clusters, whose remaining quota goes to the others; noise counts as a
        cluster.
    layer : int
        Cluster layer; 0 is the finest.
    power : float
        Exponent for ``density``; 0 is uniform, larger values favour sparse regions more.

    Returns
    -------
    polars.DataFrame
        The columns of ``points()`` and the text, sorted by ``row_id``.

    Raises
    ------
    RequestError
        If ``n`` or ``power`` is negative, there is no such layer, or the filter is not valid for the columns of the
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
            sizes = _padded_sum(sizes, np.bincount(strata.astype(np.int64) + 1))
        quotas = allocate_quotas(sizes, n)
    else:
        quotas = np.array([n], dtype=np.int64)
    none = np.empty(0, dtype=np.int64)
    kept: tuple[NDArray[Any], ...] = np.empty(0, dtype=np.uint64), none, none, none
    for number, ids, values in candidates:
        keys: NDArray[Any] = _random_keys(ids, seed)
        if by == "density":
            keys = _weighted_keys(keys, _weights(record, values, power))
        strata = values.astype(np.int64) + 1 if by == "cluster" else np.zeros(len(ids), dtype=np.int64)
        found = keys, ids, np.full(len(ids), number), strata
        kept = _smallest(tuple(np.concatenate(pair) for pair in zip(kept, found, strict=True)), quotas)
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
    """The points column that the sampling method requires, if any."""
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
    """Iterates over the part files of a map: part number, row ids that pass the filter, and the required column."""

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


def allocate_quotas(sizes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Allocate ``n`` equally among groups, limited by the group sizes.

    Parameters
    ----------
    sizes : int64 ndarray, shape (g,)
        Group sizes.

    Returns
    -------
    int64 ndarray, shape (g,)
        Quotas; their sum is ``n``, or that of ``sizes`` if smaller. A remainder goes to the largest groups.
    """
    quotas = np.zeros(len(sizes), dtype=np.int64)
    left = n
    for done, group in enumerate(np.argsort(sizes, kind="stable").tolist()):
        quotas[group] = min(int(sizes[group]), left // (len(sizes) - done))
        left -= int(quotas[group])
    return quotas


def _padded_sum(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of two arrays, the shorter one padded with zeros."""
    total = np.zeros(max(len(first), len(second)), dtype=np.int64)
    total[: len(first)] += first
    total[: len(second)] += second
    return total


def _smallest(kept: tuple[NDArray[Any], ...], quotas: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """Keep the rows of (key, row id, part, group) with the smallest keys, ``quotas[group]`` of each group."""
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


def _weighted_keys(drawn: NDArray[np.uint64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sampling keys: exponentially distributed with the weight as rate; the smallest keys are a weighted sample."""
    uniform = ((drawn >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(uniform) / weights


def point_condition(where: pl.Expr | str | None, schema: pl.Schema) -> pl.Expr | None:
    if where is None:
        return None
    try:
        condition = parse_condition(where, where="where").expression if isinstance(where, str) else where
        # The condition must apply to each document separately: an aggregate would be computed for each part.
        lengths = [pl.DataFrame(schema=schema).clear(rows).select(condition).height for rows in (0, 2)]
        kind = pl.DataFrame(schema=schema).select(condition).dtypes[0]
    except pl.exceptions.PolarsError as error:
        raise RequestError(
            f"where: {' '.join(str(error).split())[:300]}", hint=f"The columns are: {', '.join(schema.names())}."
        ) from None
    if kind != pl.Boolean or lengths != [0, 2]:
        raise RequestError("where: this is no condition on each document", hint='Write one: "cluster = 12".')
    return condition


def _random_keys(row_ids: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """A pseudorandom number for each document, a hash of row id and seed (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = row_ids.astype(np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        return mixed ^ (mixed >> np.uint64(31))
