"""Which values of the source columns are more common in a cluster than elsewhere: evidence for its label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.labelers import ColumnShare
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_footer
from latentscale.storage.snapshot import Snapshot
from latentscale.storage.vectors import stream_documents

# A column with more values than that tells documents apart, not clusters.
MAX_VALUES = 200
# Columns that are looked at, and values that are kept for a cluster.
MAX_COLUMNS = 24
KEPT = 4
LEAST_SHARE = 0.15
LEAST_LIFT = 1.5

_OWN = ("row", "source", "source_row")


def column_shares(
    store: Store,
    snapshot: Snapshot,
    row_ids: NDArray[np.int64],
    memberships: Sequence[NDArray[np.int32]],
    *,
    text_column: str,
) -> dict[tuple[int, int], list[ColumnShare]]:
    """Compare the values of text, number and boolean columns in each cluster with all other documents.

    One pass over the documents; memory holds a count for each value and cluster.

    Parameters
    ----------
    row_ids : int64 ndarray, shape (n,)
    memberships : sequence of int32 ndarray, shape (n,)
        Cluster of each document, one array a layer; -1 for none.

    Returns
    -------
    dict of (layer, cluster) to list of ColumnShare
        The most telling values first, at most four; no entry for a cluster without any.
    """
    names = _columns(store, snapshot, text_column)
    if not names or not len(row_ids):
        return {}
    widths = [int(membership.max(initial=-1)) + 1 for membership in memberships]
    counts: dict[str, dict[str, list[NDArray[np.int64]]]] = {name: {} for name in names}
    for positions, batch in stream_documents(store, snapshot, row_ids, names):
        # One more than the highest cluster, for the documents in none.
        rows_of = [membership[positions].astype(np.int64) + 1 for membership in memberships]
        for name in [name for name in names if name in counts and name in batch.schema.names]:
            encoded: Any = batch.column(name).cast(pa.string()).dictionary_encode()
            values = encoded.dictionary.to_pylist()
            held = counts[name]
            if len({*held, *values}) > MAX_VALUES:
                del counts[name]
                continue
            codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            known = codes >= 0
            for layer, width in enumerate(widths):
                both = codes[known] * (width + 1) + rows_of[layer][known]
                tally = np.bincount(both, minlength=len(values) * (width + 1)).reshape(-1, width + 1)
                for code, value in enumerate(values):
                    of_value = held.setdefault(value, [np.zeros(one + 1, np.int64) for one in widths])
                    of_value[layer] += tally[code]
    shares: dict[tuple[int, int], list[ColumnShare]] = {}
    for layer, membership in enumerate(memberships):
        sizes = np.bincount(membership + 1, minlength=widths[layer] + 1)
        for name, held in counts.items():
            for value, tally in held.items():
                inside = tally[layer][1:] / np.maximum(sizes[1:], 1)
                outside = (tally[layer].sum() - tally[layer][1:]) / np.maximum(len(row_ids) - sizes[1:], 1)
                for cluster in np.flatnonzero((inside >= LEAST_SHARE) & (inside >= LEAST_LIFT * outside)).tolist():
                    one = ColumnShare(
                        column=name, value=value, share=float(inside[cluster]), elsewhere=float(outside[cluster])
                    )
                    shares.setdefault((layer, cluster), []).append(one)
    return {
        key: sorted(found, key=lambda one: (one.elsewhere - one.share, one.column, one.value))[:KEPT]
        for key, found in shares.items()
    }


def _columns(store: Store, snapshot: Snapshot, text_column: str) -> list[str]:
    """Source columns whose values can be counted, by the first shard."""
    if not len(snapshot.shards):
        return []
    schema = read_footer(store, snapshot.shards[0].name).schema
    countable = (pa.types.is_string, pa.types.is_large_string, pa.types.is_boolean, pa.types.is_integer)
    return [
        field.name
        for field in schema
        if field.name not in (*_OWN, text_column) and any(kind(field.type) for kind in countable)
    ][:MAX_COLUMNS]
