"""Numeric and date columns whose values are shifted in a cluster: evidence for its label."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.labelers import NumberShift

# Smallest effect: distance of the confidence bound from one half.
_CLEARLY = 0.1
_LEAST_DOCUMENTS = 10
# Two-sided 95 % quantile of the standard normal.
Z = 1.96


def number_shifts(
    column: str, kind: pa.DataType, values: NDArray[np.float64], membership: NDArray[np.int32]
) -> Iterator[tuple[int, NumberShift]]:
    """Compare the numbers of each cluster with those of all other documents.

    The effect is the probability that a document of the cluster has the larger number (Mann and Whitney's U over the
    number of pairs), with the confidence interval of Hanley and McNeil (1982).

    Parameters
    ----------
    kind : pyarrow.DataType
        Type of the column, which determines how numbers are formatted.
    values : float64 ndarray, shape (n,)
        NaN where a document has none.
    membership : int32 ndarray, shape (n,)
        Cluster of each document, -1 for none.

    Yields
    ------
    cluster : int
    shift : NumberShift
        For clusters whose interval excludes one half. Columns of distinct integers yield nothing: they are ids.
    """
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    ordered, clusters = values[order], membership[order]
    total = len(ordered)
    # Ties get the mean of their ranks.
    _, inverse, counts = np.unique(ordered, return_inverse=True, return_counts=True)
    if total < 2 * _LEAST_DOCUMENTS or (pa.types.is_integer(kind) and len(counts) == total):
        return
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    width = int(clusters.max(initial=-1)) + 1
    inside = np.bincount(clusters + 1, minlength=width + 1)[1:]
    sums = np.bincount(clusters + 1, weights=ranks, minlength=width + 1)[1:]
    outside = total - inside
    usable = np.flatnonzero((inside >= _LEAST_DOCUMENTS) & (outside >= _LEAST_DOCUMENTS))
    n, m = inside[usable].astype(np.float64), outside[usable].astype(np.float64)
    above = (sums[usable] / n - (n + 1) / 2) / m
    first, second = above / (2 - above), 2 * above**2 / (1 + above)
    variance = above * (1 - above) + (n - 1) * (first - above**2) + (m - 1) * (second - above**2)
    error = Z * np.sqrt(np.maximum(variance, 0) / (n * m))
    low, high = np.clip(above - error, 0, 1), np.clip(above + error, 0, 1)
    clear = (low >= 0.5 + _CLEARLY) | (high <= 0.5 - _CLEARLY)
    by_cluster = np.argsort(clusters, kind="stable")
    starts = np.searchsorted(clusters, np.arange(width + 1), sorter=by_cluster)
    for at in np.flatnonzero(clear).tolist():
        cluster = int(usable[at])
        own = ordered[by_cluster[starts[cluster] : starts[cluster + 1]]]
        yield (
            cluster,
            NumberShift(
                column=column,
                median=written(float(own[(len(own) - 1) // 2]), kind),
                elsewhere=written(_median_without(ordered, own), kind),
                above=float(above[at]),
                low=float(low[at]),
                high=float(high[at]),
            ),
        )


def written(value: float, kind: pa.DataType) -> str:
    """Format a number for display: dates as dates, others with four significant digits."""
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return str(np.datetime64(round(value), "us").astype("datetime64[D]"))
    if value == round(value) and abs(value) < 1e15:
        return str(round(value))
    return f"{value:.4g}"


def _median_without(ordered: NDArray[np.float64], own: NDArray[np.float64]) -> float:
    """The lower median of the numbers that are not in ``own``; both are sorted."""
    wanted = (len(ordered) - len(own) + 1) // 2
    low, high = 0, len(ordered) - 1
    while low < high:
        middle = (low + high) // 2
        value = ordered[middle]
        if np.searchsorted(ordered, value, "right") - np.searchsorted(own, value, "right") >= wanted:
            high = middle
        else:
            low = middle + 1
    return float(ordered[low])
