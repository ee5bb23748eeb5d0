"""Write document and token vectors as small static files for semantic search on the page."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.embedders.token_table import TokenTable
from latentscale.viewer.inverted_lists import InvertedLists, inverted_lists
from latentscale.viewer.meaning import Meaning
from latentscale.viewer.rows import parquet_bytes
from latentscale.viewer.section import Put, Section

# Number of exact nearest neighbours against which recall is measured.
NEAREST = 10
TARGET_RECALL = 0.9
# Candidate numbers of lists that a query reads; its limit in bytes; mean bytes of an entropy-coded component.
_PROBES = (8, 16, 32, 64, 96, 128)
_QUERY_BYTES = 2_200_000
_CODE_BYTES = 0.55
TOKEN_ROWS = 128


def meaning_section(meaning: Meaning, positions: NDArray[np.int64]) -> Section:
    """The section ``meaning`` of a generation.

    Parameters
    ----------
    positions : int64 ndarray, shape (n,)
        The position of each row in the generation.
    """
    return Section(name="meaning", version=1, write=lambda _, put: _write(meaning, positions, put))


def _write(meaning: Meaning, positions: NDArray[np.int64], put: Put) -> dict[str, Any]:
    n, d = meaning.vectors.shape
    lists = inverted_lists(meaning.vectors)
    count = len(lists.centroids)
    probes, recall = _choose_probes(lists, meaning)
    _write_lists(lists, positions, put)
    if count > 1:
        put("centroids.parquet", parquet_bytes(pa.table({"code": _codes(lists.centroids)}), level=3))
    entry: dict[str, Any] = {
        "documents": n,
        "dim": d,
        "lists": count,
        "probes": probes,
        "step": lists.step,
        "centroid_step": lists.centroid_step,
        "recall": recall,
        "queries": len(meaning.queries),
    }
    if meaning.tokens is not None:
        entry["tokens"] = _write_tokens(meaning.tokens, put)
    return entry


def _choose_probes(lists: InvertedLists, meaning: Meaning) -> tuple[int, float | None]:
    """Choose the number of lists that a query reads; return it, and the recall of the ten nearest documents with it."""
    count, (n, d) = len(lists.centroids), meaning.vectors.shape
    max_probes = max(1, int((_QUERY_BYTES - count * d) / (_CODE_BYTES * d * n / count)))
    widths = sorted({min(probes, count, max_probes) for probes in _PROBES})
    queries, k = meaning.queries, min(NEAREST, n)
    if not len(queries):
        return widths[-1], None
    best = np.full((len(queries), k), -np.inf, np.float32)
    for start in range(0, n, 65_536):
        scores = np.concatenate([best, queries @ meaning.vectors[start : start + 65_536].T], axis=1)
        best = np.partition(scores, -k, axis=1)[:, -k:]
    thresholds = best.min(axis=1) - 1e-6
    results = lists.nearest(queries, k=k, widths=widths)
    hits = [
        [int((meaning.vectors[rows] @ query >= threshold).sum()) for rows in rows_by_width]
        for rows_by_width, query, threshold in zip(results, queries, thresholds, strict=True)
    ]
    recalls = np.mean(hits, axis=0) / k
    enough = np.flatnonzero(recalls >= TARGET_RECALL)
    chosen = int(enough[0]) if len(enough) else len(widths) - 1
    return widths[chosen], round(float(recalls[chosen]), 3)


def _write_lists(lists: InvertedLists, positions: NDArray[np.int64], put: Put) -> None:
    order = np.lexsort((positions, lists.list_of))
    bounds = np.searchsorted(lists.list_of[order], np.arange(len(lists.centroids) + 1)).tolist()
    for number, (start, end) in enumerate(itertools.pairwise(bounds)):
        rows = order[start:end]
        table = pa.table({"place": pa.array(positions[rows].astype(np.int32)), "code": _codes(lists.codes[rows])})
        put(f"lists/{number}.parquet", parquet_bytes(table, encoding={"place": "DELTA_BINARY_PACKED"}, level=1))


def _write_tokens(table: TokenTable, put: Put) -> dict[str, Any]:
    """Write the vocabulary and the token vectors, each quantised with its own step."""
    put("vocabulary.parquet", parquet_bytes(pa.table({"token": pa.array(list(table.tokens), pa.string())})))
    largest = np.abs(table.vectors).max(axis=1)
    # An integer table, such as that of the shipped model, is stored exactly.
    exact = bool((largest <= 127).all() and (table.vectors == np.rint(table.vectors)).all())
    steps = np.ones(len(largest), np.float32) if exact else np.where(largest > 0, largest / 127, 1).astype(np.float32)
    codes = np.rint(table.vectors / steps[:, None]).astype(np.int8)
    for shard, start in enumerate(range(0, len(codes), TOKEN_ROWS)):
        block = slice(start, start + TOKEN_ROWS)
        rows = pa.table({"step": pa.array(steps[block]), "code": _codes(codes[block])})
        put(f"tokens/{shard}.parquet", parquet_bytes(rows, level=1))
    return {"rows": TOKEN_ROWS, **table.rules}


def _codes(rows: NDArray[np.int8]) -> pa.Array:
    data = np.ascontiguousarray(rows)
    return pa.Array.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, pa.py_buffer(data)])
