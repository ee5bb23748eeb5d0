"""Duplicate vectors (bit for bit): they share a position and a cluster, whichever backend computed these.

A layout has random initial jitter and sampled edges, so duplicates end up around each other, and density-based
clustering would split such a heap arbitrarily.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 8192


def first_occurrence(matrix: NDArray[Any]) -> NDArray[np.int64]:
    """Find the position of the first row equal to each row (its own for a first occurrence): int64, shape (n,).

    Parameters
    ----------
    matrix : float ndarray, shape (n, dim)
        May be a mapped file: it is read once in blocks, and candidate duplicates a second time.
    """
    n, dim = matrix.shape
    word = np.dtype(f"u{matrix.dtype.itemsize}")
    # A multiplicative 64-bit hash with odd multipliers, the same in every process.
    factors = np.random.default_rng(0).integers(0, 2**63, dim, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = np.empty(n, dtype=np.uint64)
    for start in range(0, n, _ROWS_AT_ONCE):
        rows = np.ascontiguousarray(matrix[start : start + _ROWS_AT_ONCE])
        hashes[start : start + len(rows)] = rows.view(word).astype(np.uint64) @ factors
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    alike = first[inverse].astype(np.int64)
    copies = np.flatnonzero(alike != np.arange(n))
    for start in range(0, len(copies), _ROWS_AT_ONCE):
        some = copies[start : start + _ROWS_AT_ONCE]
        # A hash collision.
        differs = some[(matrix[some] != matrix[alike[some]]).any(axis=1)]
        alike[differs] = differs
    return alike


def shared_positions(coordinates: NDArray[np.float32], first: NDArray[np.int64]) -> NDArray[np.float32]:
    """Move all duplicates to the position of the one nearest to their mean.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, c)
    first : int64 ndarray, shape (n,)
        From :func:`first_occurrence`.
    """
    if (first == np.arange(len(first))).all():
        return coordinates
    sizes = np.bincount(first, minlength=len(first))
    away = np.zeros(len(first))
    for axis in range(coordinates.shape[1]):
        values = coordinates[:, axis].astype(np.float64)
        mean = np.bincount(first, weights=values, minlength=len(first)) / np.maximum(sizes, 1)
        away += (values - mean[first]) ** 2
    order = np.lexsort((away, first))
    chosen = np.empty(len(first), dtype=np.int64)
    begins = np.flatnonzero(np.r_[True, first[order][1:] != first[order][:-1]])
    chosen[first[order[begins]]] = order[begins]
    return coordinates[chosen[first]]


def shared_labels(
    labels: NDArray[np.int32], probabilities: NDArray[np.float32], first: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Give all duplicates their most frequent cluster (noise aside), and the highest probability in it.

    Parameters
    ----------
    labels : int32 ndarray, shape (n,)
        -1 is noise; a label may disappear from the result.
    probabilities : float32 ndarray, shape (n,)
    """
    copies = np.bincount(first, minlength=len(first))[first] > 1
    inside = np.flatnonzero(copies & (labels >= 0))
    if not len(inside):
        return labels, probabilities
    pairs, counts = np.unique(np.stack([first[inside], labels[inside]], axis=1), axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))
    groups, best = np.unique(pairs[order, 0], return_index=True)
    of_group = np.full(len(first), -1, dtype=np.int32)
    of_group[groups] = pairs[order[best], 1]
    highest = np.zeros(len(first), dtype=np.float32)
    np.maximum.at(highest, first[inside], np.where(labels[inside] == of_group[first[inside]], probabilities[inside], 0))
    return (
        np.where(copies, of_group[first], labels).astype(np.int32),
        np.where(copies, highest[first], probabilities).astype(np.float32),
    )
