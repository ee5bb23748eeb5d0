"""Values and numbers of source columns that are distinctive of a cluster: evidence for its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.labelers import ColumnShare, NumberShift
from latentscale.stages.column_numbers import Z, number_shifts
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.vectors import stream_documents

# A column with more distinct values identifies documents, not clusters.
MAX_VALUES = 200
# Numeric columns with fewer distinct values are treated as categories only: a few years, class codes.
LEAST_NUMBERS = 20
# Largest number of columns, and of values and numbers per cluster.
MAX_COLUMNS = 24
KEPT, KEPT_NUMBERS = 4, 2
LEAST_SHARE = 0.15
LEAST_LIFT = 1.5
# Size of the sample by which columns with too many values are skipped before all documents are read.
_FIRST = 8_192

_OWN = ("row", "source", "source_row")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Distinctive values and numbers by (layer, cluster); clusters without any are absent.

    Attributes
    ----------
    values : dict to list of ColumnShare
        The most distinctive first, at most four.
    numbers : dict to list of NumberShift
        The most distinctive first, at most two.
    """

    values: dict[tuple[int, int], list[ColumnShare]] = field(default_factory=dict[tuple[int, int], list[ColumnShare]])
    numbers: dict[tuple[int, int], list[NumberShift]] = field(default_factory=dict[tuple[int, int], list[NumberShift]])


@dataclass(slots=True)
class _Read:
    """A column of all documents: category codes while there are few, and numbers where it is numeric."""

    kind: pa.DataType
    codes: NDArray[np.int16]
    numbers: NDArray[np.float64] | None
    known: dict[str, int] | None = field(default_factory=dict[str, int])

    @property
    def used(self) -> bool:
        return self.known is not None or self.numbers is not None

    def take(self, positions: NDArray[np.int64], column: Any) -> None:
        if self.numbers is not None and not _has_numbers(column.type):
            # Text in another file: then it is not numeric.
            self.numbers = None
        elif self.numbers is not None:
            self.numbers[positions] = _as_numbers(column)
        if self.known is None:
            return
        encoded: Any = column.cast(pa.string()).dictionary_encode()
        values = encoded.dictionary.to_pylist()
        if len(self.known.keys() | set(values)) > MAX_VALUES:
            self.known = None
            return
        code = np.array([*(self.known.setdefault(value, len(self.known)) for value in values), -1], np.int16)
        self.codes[positions] = code[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]


def distinctive_columns(
    store: Store,
    snapshot: Snapshot,
    row_ids: NDArray[np.int64],
    memberships: Sequence[NDArray[np.int32]],
    *,
    text_column: str,
) -> Columns:
    """Compare the values and numbers of source columns in each cluster with all other documents.

    One pass over the documents, after reading a sample; memory is 2 bytes per document and column, and 8 more for
    numeric ones.

    Parameters
    ----------
    row_ids : int64 ndarray, shape (n,)
    memberships : sequence of int32 ndarray, shape (n,)
        Cluster of each document, one array per layer; -1 for none.
    """
    found = Columns()
    kinds = _columns(store, snapshot, text_column)
    if not kinds or not len(row_ids):
        return found
    look = _read(store, snapshot, row_ids[:_FIRST], kinds)
    columns = _read(store, snapshot, row_ids, {name: kinds[name] for name in look})
    for layer, membership in enumerate(memberships):
        width = int(membership.max(initial=-1)) + 1
        sizes = np.bincount(membership + 1, minlength=width + 1)[1:]
        for name, column in columns.items():
            if column.known is not None:
                for cluster, share in _shares(name, column, membership, sizes):
                    found.values.setdefault((layer, cluster), []).append(share)
            if column.numbers is not None and (column.known is None or len(column.known) >= LEAST_NUMBERS):
                for cluster, shift in number_shifts(name, column.kind, column.numbers, membership):
                    found.numbers.setdefault((layer, cluster), []).append(shift)
    for key, shares in found.values.items():
        found.values[key] = sorted(shares, key=lambda one: (one.elsewhere - one.share, one.column, one.value))[:KEPT]
    for key, shifts in found.numbers.items():
        found.numbers[key] = sorted(shifts, key=lambda one: (-abs(one.above - 0.5), one.column))[:KEPT_NUMBERS]
    return found


def _read(
    store: Store, snapshot: Snapshot, row_ids: NDArray[np.int64], kinds: dict[str, pa.DataType]
) -> dict[str, _Read]:
    """Read the columns that have few values, or are numeric."""
    count = len(row_ids)
    columns = {
        name: _Read(
            kind=kind,
            codes=np.full(count, -1, np.int16),
            numbers=np.full(count, np.nan) if _has_numbers(kind) else None,
            known=None if pa.types.is_floating(kind) or pa.types.is_temporal(kind) else {},
        )
        for name, kind in kinds.items()
    }
    for positions, batch in stream_documents(store, snapshot, row_ids, list(kinds)) if kinds else ():
        for name in batch.schema.names:
            if columns[name].used:
                columns[name].take(positions, batch.column(name))
    return {name: column for name, column in columns.items() if column.used}


def _shares(
    name: str, column: _Read, membership: NDArray[np.int32], sizes: NDArray[np.int64]
) -> list[tuple[int, ColumnShare]]:
    """Find values that are significantly more common in a cluster than elsewhere.

    The lift is the ratio of the shares inside and outside, with half a document added to each count (Walter 1975); its
    confidence interval is that of a log ratio (Katz et al. 1978).
    """
    width = len(sizes)
    names = list(column.known or ())
    coded = column.codes >= 0
    both = column.codes[coded].astype(np.int64) * (width + 1) + membership[coded] + 1
    tally = np.bincount(both, minlength=len(names) * (width + 1)).reshape(len(names), width + 1)
    inside, outside = tally[:, 1:], tally.sum(axis=1, keepdims=True) - tally[:, 1:]
    n, m = np.maximum(sizes, 1), np.maximum(len(membership) - sizes, 1)
    share, elsewhere = inside / n, outside / m
    lift = ((inside + 0.5) / (n + 0.5)) / ((outside + 0.5) / (m + 0.5))
    error = np.exp(Z * np.sqrt(1 / (inside + 0.5) - 1 / (n + 0.5) + 1 / (outside + 0.5) - 1 / (m + 0.5)))
    telling = (share >= LEAST_SHARE) & (share >= LEAST_LIFT * elsewhere) & (lift / error > 1)
    return [
        (
            cluster,
            ColumnShare(
                column=name,
                value=names[code],
                share=float(share[code, cluster]),
                elsewhere=float(elsewhere[code, cluster]),
                lift=float(lift[code, cluster]),
                low=float(lift[code, cluster] / error[code, cluster]),
                high=float(lift[code, cluster] * error[code, cluster]),
            ),
        )
        for code, cluster in zip(*(one.tolist() for one in np.nonzero(telling)), strict=True)
    ]


def _as_numbers(column: Any) -> NDArray[np.float64]:
    """Convert to float64: null is NaN, dates are microseconds since 1970."""
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def _has_numbers(kind: pa.DataType) -> bool:
    is_date = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or is_date


def _columns(store: Store, snapshot: Snapshot, text_column: str) -> dict[str, pa.DataType]:
    """List categorical and numeric source columns, by the first shard."""
    if not len(snapshot.shards):
        return {}
    schema = read_footer(store, snapshot.shards[0].name).schema
    countable = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, _has_numbers)
    kinds = {
        field.name: field.type
        for field in schema
        if field.name not in (*_OWN, text_column) and any(kind(field.type) for kind in countable)
    }
    return dict(list(kinds.items())[:MAX_COLUMNS])
