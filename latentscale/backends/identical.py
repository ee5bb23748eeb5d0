"""Documents with the same vector, bit for bit: they share a position and a cluster, whatever computed these.

A layout starts from jittered positions and samples its moves, so that copies of one text end up around each other, and
clusters by density then cut such a heap at random.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 8192


def first_alike(matrix: NDArray[Any]) -> NDArray[np.int64]:
    """For each row the position of the first row that is identical with it; its own where none before it is.

    Parameters
    ----------
    matrix : float ndarray, shape (n, dim)
        May be a mapped file: it is read once, block by block, and the rows that seem to be copies a second time.
    """
    n, dim = matrix.shape
    word = np.dtype(f"u{matrix.dtype.itemsize}")
    # A polynomial hash of 64 bits, with odd factors that are the same in every process.
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
        # Two rows of one hash that differ after all are not copies of each other.
        differs = some[(matrix[some] != matrix[alike[some]]).any(axis=1)]
        alike[differs] = differs
    return alike


def shared_positions(coordinates: NDArray[np.float32], first: NDArray[np.int64]) -> NDArray[np.float32]:
    """Move all copies of a document to the position of the one that is nearest to their mean.

    Parameters
    ----------
    coordinates : float32 ndarray, shape (n, c)
    first : int64 ndarray, shape (n,)
        From :func:`first_alike`.
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
    """Give all copies of a document the cluster that most of those in any cluster are in, and the highest probability.

    Parameters
    ----------
    labels : int32 ndarray, shape (n,)
        -1 is noise; the result may lack a label of which every document was a copy.
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
