"""Groups of near-duplicate vectors: each has a representative that all its members are similar to.

Connected components of a neighbour graph chain: each document is similar to the next, but not the first to the last. A
group here is a star (Aslam et al. 2004): its representative has at least the threshold's similarity to every member,
and no two representatives are that similar to each other. Representatives are chosen greedily in a given order.

The neighbour graph lists all relevant neighbours, with two exceptions, which are searched by brute force: a document
whose whole list is within the threshold may have more such neighbours (searched if it is to be a representative), and
documents added by an update are not in the graph at all (searched first).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentscale.backends.identical import first_occurrence

if TYPE_CHECKING:
    from numpy.typing import NDArray

Prefer = Literal["central", "longest", "first"]

# Bounds the rounding of products in single precision and of stored distances: candidates within it of the threshold are
# recomputed in double precision.
_ROUNDING = 1e-4
# A similarity may be below the threshold by this: float32 rows have length 1 within about as much.
TOLERANCE = 1e-6
_ROWS_AT_ONCE = 8192
_QUERIES_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Stars:
    """The star of each row.

    Attributes
    ----------
    representative : int64 ndarray, shape (n,)
        Position of its representative; its own for representatives and for rows in no group.
    similarity : float32 ndarray, shape (n,)
        Cosine to the representative; 1 for duplicates of it.
    searched : int
        Number of distinct vectors that were compared with all others.
    """

    representative: NDArray[np.int64]
    similarity: NDArray[np.float32]
    searched: int


def find_stars(
    matrix: NDArray[np.float32],
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    *,
    threshold: float,
    lengths: NDArray[np.int64],
    prefer: Prefer,
) -> Stars:
    """Group rows whose cosine to a representative is at least ``threshold``.

    Parameters
    ----------
    matrix : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file.
    indices : int32 ndarray, shape (n, k)
        Neighbours, nearest first; -1 for removed rows, and everywhere in a row that is not in the graph.
    distances : float32 ndarray, shape (n, k)
        Their cosine distances; NaN everywhere in a row that is not in the graph.
    lengths : int64 ndarray, shape (n,)
        Lengths of the texts.
    prefer : {"central", "longest", "first"}
        The order of representatives: by the number of documents within the threshold (ties: the longest text), by the
        length of the text, or by position. Ties by position.
    """
    first = first_occurrence(matrix)
    rows, vector = np.unique(first, return_inverse=True)
    known, complete = _graph_coverage(distances, vector, len(rows), threshold)
    edges = _edges_of_graph(matrix, indices, distances, vector, threshold)
    unlisted = np.flatnonzero(~known)
    for start in range(0, len(unlisted), _QUERIES_AT_ONCE):
        chunk = unlisted[start : start + _QUERIES_AT_ONCE]
        lists = _within(matrix, rows[chunk], vector, threshold)
        for node, (neighbors, similarity) in zip(chunk.tolist(), lists, strict=True):
            edges.append((np.full(len(neighbors), node), neighbors, similarity))
    starts, others, similarities = _adjacency(edges, len(rows))

    best = _best_rows(vector, lengths, prefer)
    degree = np.bincount(vector, minlength=len(rows)).astype(np.int64)
    duplicates = degree.copy()
    np.add.at(degree, np.repeat(np.arange(len(rows)), np.diff(starts)), duplicates[others])
    keys: tuple[NDArray[Any], ...] = (best,)
    if prefer != "first":
        keys = (best, -lengths[best])
    if prefer == "central":
        keys = (*keys, -degree)
    order = np.lexsort(keys)

    star = np.full(len(rows), -1, dtype=np.int64)
    to_star = np.ones(len(rows), dtype=np.float32)
    incomplete = known & ~complete
    pending = order[incomplete[order]]
    searched_lists: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    next_pending = 0
    searched = len(unlisted)
    for node in order[(np.diff(starts) > 0)[order] | incomplete[order]].tolist():
        if star[node] >= 0:
            continue
        neighbors, similarity = others[starts[node] : starts[node + 1]], similarities[starts[node] : starts[node + 1]]
        if incomplete[node]:
            if node not in searched_lists:
                batch: list[int] = []
                while len(batch) < _QUERIES_AT_ONCE and next_pending < len(pending):
                    if star[pending[next_pending]] < 0:
                        batch.append(int(pending[next_pending]))
                    next_pending += 1
                searched_lists = dict(zip(batch, _within(matrix, rows[batch], vector, threshold), strict=True))
                searched += len(batch)
            neighbors, similarity = searched_lists.pop(node)
        is_free = star[neighbors] < 0
        star[node] = node
        star[neighbors[is_free]] = node
        to_star[neighbors[is_free]] = similarity[is_free]
    is_ungrouped = star < 0
    star[is_ungrouped] = np.flatnonzero(is_ungrouped)
    return Stars(representative=best[star][vector], similarity=to_star[vector], searched=searched)


def _graph_coverage(
    distances: NDArray[np.float32], vector: NDArray[np.int64], count: int, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each distinct vector: is it in the graph, and does its list reach beyond the threshold?"""
    known, complete = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    if distances.shape[1] == 0:
        # The fit has a single document, with an empty list: later ones are searched.
        return known, complete
    last = distances[:, -1]
    known[vector[~np.isnan(last)]] = True
    complete[vector[last > 1.0 - threshold + _ROUNDING]] = True
    if distances.shape[1] >= len(distances) - 1:
        complete[:] = known
    return known, complete


def _edges_of_graph(
    matrix: NDArray[np.float32],
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    vector: NDArray[np.int64],
    threshold: float,
) -> list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Edges of the graph between distinct vectors within the threshold, with their similarity in double precision."""
    edges: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for start in range(0, len(indices), _ROWS_AT_ONCE):
        lists = indices[start : start + _ROWS_AT_ONCE]
        is_near = (distances[start : start + _ROWS_AT_ONCE] <= 1.0 - threshold + _ROUNDING) & (lists >= 0)
        row, column = np.nonzero(is_near)
        start_rows, end_rows = row + start, lists[row, column].astype(np.int64)
        is_distinct = vector[start_rows] != vector[end_rows]
        start_rows, end_rows = start_rows[is_distinct], end_rows[is_distinct]
        similarity = _similarity(matrix, start_rows, end_rows)
        kept = similarity >= threshold - TOLERANCE
        edges.append((vector[start_rows[kept]], vector[end_rows[kept]], similarity[kept]))
    return edges


def _similarity(matrix: NDArray[np.float32], rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the cosine of pairs of rows in double precision."""
    similarity = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        one = matrix[rows[start : start + _ROWS_AT_ONCE]].astype(np.float64)
        other = matrix[others[start : start + _ROWS_AT_ONCE]].astype(np.float64)
        similarity[start : start + len(one)] = np.einsum("ij,ij->i", one, other)
    return similarity


def _within(
    matrix: NDArray[np.float32], rows: NDArray[np.int64], vector: NDArray[np.int64], threshold: float
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Find by brute force, for each of ``rows``, the other vectors within the threshold, and their similarity."""
    queries = matrix[rows]
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        scores = queries @ matrix[start : start + _ROWS_AT_ONCE].T
        query, column = np.nonzero(scores >= threshold - _ROUNDING)
        pairs.append((query, column + start))
    query = np.concatenate([one for one, _ in pairs])
    others = np.concatenate([other for _, other in pairs])
    # Of duplicates, the first row.
    _, first = np.unique(query * np.int64(len(matrix)) + vector[others], return_index=True)
    query, others = query[first], others[first]
    is_distinct = vector[others] != vector[rows[query]]
    query, others = query[is_distinct], others[is_distinct]
    similarity = _similarity(matrix, rows[query], others)
    kept = similarity >= threshold - TOLERANCE
    query, others, similarity = query[kept], others[kept], similarity[kept]
    cuts = np.searchsorted(query, np.arange(1, len(rows)))
    return list(zip(np.split(vector[others], cuts), np.split(similarity, cuts), strict=True))


def _adjacency(
    edges: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Symmetrize edges and drop repetitions: CSR arrays (starts of the lists, neighbours, similarities)."""
    none = np.empty(0, dtype=np.int64)
    tails = np.concatenate([none, *[edge[0] for edge in edges]])
    heads = np.concatenate([none, *[edge[1] for edge in edges]])
    similarity = np.concatenate([np.empty(0), *[edge[2] for edge in edges]])
    keys, first = np.unique(np.concatenate([tails * count + heads, heads * count + tails]), return_index=True)
    starts = np.searchsorted(keys, np.arange(count + 1) * count)
    return starts, keys % count, np.concatenate([similarity, similarity])[first]


def _best_rows(vector: NDArray[np.int64], lengths: NDArray[np.int64], prefer: Prefer) -> NDArray[np.int64]:
    """Choose the row of each distinct vector: the first, or the first of those with the longest text."""
    positions = np.arange(len(vector))
    order = np.lexsort((positions, vector) if prefer == "first" else (positions, -lengths, vector))
    _, starts = np.unique(vector[order], return_index=True)
    return order[starts].astype(np.int64)
