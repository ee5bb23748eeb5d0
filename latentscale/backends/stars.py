"""Groups of vectors that are nearly the same: a representative each, and all others that are as similar to it.

Connected components of a neighbour graph chain: each document is like the next, and the first and the last are
strangers. Here a group is a star (Aslam et al. 2004): its representative is as similar to every member as the threshold
asks for, and no two representatives are so similar to each other. They are chosen greedily in a given order.

The neighbour graph has all the neighbours that count, but for two kinds of documents. One whose whole list is within
the threshold may have more of them: it is compared with all documents, if it is to be a representative. One that the
graph does not know, since an update brought it, is compared with all documents first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentscale.backends.identical import first_alike

if TYPE_CHECKING:
    from numpy.typing import NDArray

Prefer = Literal["central", "longest", "first"]

# What a product in single precision may be off by, and how a stored distance was rounded: candidates within it are
# computed again in double precision.
_ROUNDING = 1e-4
# By so much may a similarity be below the threshold: rows of single precision are of length 1 to about this.
TOLERANCE = 1e-6
_ROWS_AT_ONCE = 8192
_SEARCHED_AT_ONCE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Stars:
    """The star of each row.

    Attributes
    ----------
    representative : int64 ndarray, shape (n,)
        Position of the row that represents it; its own for a representative, and for a row that is in no group.
    similarity : float32 ndarray, shape (n,)
        Cosine to the representative; 1 for a row that is identical with it.
    searched : int
        Different vectors that were compared with all.
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
        Neighbours, nearest first; -1 for one that is not among the rows any more, and everywhere in a row that the
        graph does not have.
    distances : float32 ndarray, shape (n, k)
        Their cosine distances; NaN everywhere in a row that the graph does not have.
    lengths : int64 ndarray, shape (n,)
        Of the texts.
    prefer : {"central", "longest", "first"}
        The order of representatives: the most documents within the threshold (of equals the longest text), the longest
        text, or the first row. Equals by position.
    """
    first = first_alike(matrix)
    rows, vector = np.unique(first, return_inverse=True)
    known, complete = _what_the_graph_has(distances, vector, len(rows), threshold)
    edges = _edges_of_graph(matrix, indices, distances, vector, threshold)
    new = np.flatnonzero(~known)
    for start in range(0, len(new), _SEARCHED_AT_ONCE):
        unknown = new[start : start + _SEARCHED_AT_ONCE]
        lists = _within(matrix, rows[unknown], vector, threshold)
        for one, (near, similarity) in zip(unknown.tolist(), lists, strict=True):
            edges.append((np.full(len(near), one), near, similarity))
    begins, others, similarities = _adjacency(edges, len(rows))

    best = _best_rows(vector, lengths, prefer)
    degree = np.bincount(vector, minlength=len(rows)).astype(np.int64)
    copies = degree.copy()
    np.add.at(degree, np.repeat(np.arange(len(rows)), np.diff(begins)), copies[others])
    keys: tuple[NDArray[Any], ...] = (best,)
    if prefer != "first":
        keys = (best, -lengths[best])
    if prefer == "central":
        keys = (*keys, -degree)
    order = np.lexsort(keys)

    star = np.full(len(rows), -1, dtype=np.int64)
    to_star = np.ones(len(rows), dtype=np.float32)
    incomplete = known & ~complete
    waiting = order[incomplete[order]]
    found: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    next_waiting = 0
    searched = len(new)
    for one in order[(np.diff(begins) > 0)[order] | incomplete[order]].tolist():
        if star[one] >= 0:
            continue
        near, similarity = others[begins[one] : begins[one + 1]], similarities[begins[one] : begins[one + 1]]
        if incomplete[one]:
            if one not in found:
                some: list[int] = []
                while len(some) < _SEARCHED_AT_ONCE and next_waiting < len(waiting):
                    if star[waiting[next_waiting]] < 0:
                        some.append(int(waiting[next_waiting]))
                    next_waiting += 1
                found = dict(zip(some, _within(matrix, rows[some], vector, threshold), strict=True))
                searched += len(some)
            near, similarity = found.pop(one)
        free = star[near] < 0
        star[one] = one
        star[near[free]] = one
        to_star[near[free]] = similarity[free]
    alone = star < 0
    star[alone] = np.flatnonzero(alone)
    return Stars(representative=best[star][vector], similarity=to_star[vector], searched=searched)


def _what_the_graph_has(
    distances: NDArray[np.float32], vector: NDArray[np.int64], count: int, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a row of each vector is in the graph, and whether its list reaches beyond the threshold."""
    known, complete = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    if distances.shape[1] == 0:
        # A single document of the fit: a list of nothing is all there is, and later ones are searched.
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
    """Pairs of different vectors of the graph within the threshold, with their similarity in double precision."""
    edges: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for start in range(0, len(indices), _ROWS_AT_ONCE):
        lists = indices[start : start + _ROWS_AT_ONCE]
        near = (distances[start : start + _ROWS_AT_ONCE] <= 1.0 - threshold + _ROUNDING) & (lists >= 0)
        row, column = np.nonzero(near)
        here, there = row + start, lists[row, column].astype(np.int64)
        differ = vector[here] != vector[there]
        here, there = here[differ], there[differ]
        similarity = _similarity(matrix, here, there)
        kept = similarity >= threshold - TOLERANCE
        edges.append((vector[here[kept]], vector[there[kept]], similarity[kept]))
    return edges


def _similarity(matrix: NDArray[np.float32], here: NDArray[np.int64], there: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cosine of pairs of rows, in double precision."""
    found = np.empty(len(here))
    for start in range(0, len(here), _ROWS_AT_ONCE):
        one = matrix[here[start : start + _ROWS_AT_ONCE]].astype(np.float64)
        other = matrix[there[start : start + _ROWS_AT_ONCE]].astype(np.float64)
        found[start : start + len(one)] = np.einsum("ij,ij->i", one, other)
    return found


def _within(
    matrix: NDArray[np.float32], rows: NDArray[np.int64], vector: NDArray[np.int64], threshold: float
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """For each of some rows the other vectors within the threshold, and their similarity: by comparison with all."""
    some = matrix[rows]
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        scores = some @ matrix[start : start + _ROWS_AT_ONCE].T
        query, column = np.nonzero(scores >= threshold - _ROUNDING)
        pairs.append((query, column + start))
    query = np.concatenate([one for one, _ in pairs])
    there = np.concatenate([other for _, other in pairs])
    # Of identical rows the first.
    _, once = np.unique(query * np.int64(len(matrix)) + vector[there], return_index=True)
    query, there = query[once], there[once]
    differ = vector[there] != vector[rows[query]]
    query, there = query[differ], there[differ]
    similarity = _similarity(matrix, rows[query], there)
    kept = similarity >= threshold - TOLERANCE
    query, there, similarity = query[kept], there[kept], similarity[kept]
    cuts = np.searchsorted(query, np.arange(1, len(rows)))
    return list(zip(np.split(vector[there], cuts), np.split(similarity, cuts), strict=True))


def _adjacency(
    edges: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Both directions of all edges, each once: (begin of each vector's list, the lists, their similarities)."""
    none = np.empty(0, dtype=np.int64)
    here = np.concatenate([none, *[edge[0] for edge in edges]])
    there = np.concatenate([none, *[edge[1] for edge in edges]])
    similarity = np.concatenate([np.empty(0), *[edge[2] for edge in edges]])
    keys, once = np.unique(np.concatenate([here * count + there, there * count + here]), return_index=True)
    begins = np.searchsorted(keys, np.arange(count + 1) * count)
    return begins, keys % count, np.concatenate([similarity, similarity])[once]


def _best_rows(vector: NDArray[np.int64], lengths: NDArray[np.int64], prefer: Prefer) -> NDArray[np.int64]:
    """The row that represents each vector: the first of those that have it, or of those with the longest text."""
    positions = np.arange(len(vector))
    order = np.lexsort((positions, vector) if prefer == "first" else (positions, -lengths, vector))
    _, begins = np.unique(vector[order], return_index=True)
    return order[begins].astype(np.int64)
