"""Assign vectors to their nearest centroid by cosine, and compute mean directions of clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentscale.backends.cpu.parallel import blocks, run_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_AT_ONCE = 4096
# Scores of a block: with many centroids they stay in the cache, as page faults would double the cost.
_SCORES_AT_ONCE = 1 << 20
_FEWEST_ROWS = 256


def assign(
    unit: NDArray[np.float32],
    centroids: NDArray[np.float32],
    *,
    threads: int,
    rows: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the nearest centroid of each row, or of ``rows`` only, and the cosine to it.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file, of which blocks are read.
    centroids : float32 ndarray, shape (k, dim)

    Returns
    -------
    labels : int32 ndarray, shape (n,) or (len(rows),)
        Ties go to the lowest id.
    similarity : float32 ndarray of that shape
    """
    count = len(unit) if rows is None else len(rows)
    labels = np.empty(count, np.int32)
    similarity = np.empty(count, np.float32)

    def run(start: int, stop: int) -> None:
        scores = (unit[start:stop] if rows is None else unit[rows[start:stop]]) @ centroids.T
        labels[start:stop] = scores.argmax(axis=1)
        similarity[start:stop] = scores.max(axis=1)

    size = min(_ROWS_AT_ONCE, max(_FEWEST_ROWS, _SCORES_AT_ONCE // max(len(centroids), 1)))
    run_blocks(run, blocks(count, size), threads=threads)
    return labels, similarity


def means(
    unit: NDArray[np.float32],
    labels: NDArray[np.int32],
    k: int,
    *,
    threads: int,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Compute the mean direction of the rows (or of ``rows``) of each label, normalized; label -1 is ignored.

    Returns
    -------
    float32 ndarray, shape (k, dim)
        Zeros where a label has no row.
    """
    from scipy import sparse

    def run(start: int, stop: int) -> NDArray[np.float64]:
        block_labels = labels[start:stop]
        is_member = np.flatnonzero(block_labels >= 0)
        members = sparse.csr_array(
            (np.ones(len(is_member), np.float32), (block_labels[is_member], is_member)),
            shape=(k, stop - start),
            dtype=np.float32,
        )
        return np.asarray(members @ (unit[start:stop] if rows is None else unit[rows[start:stop]]), np.float64)

    # Summed in the order of the blocks, so that threads do not matter; a few at a time, since each sum is (k, dim).
    total = np.zeros((k, unit.shape[1]), np.float64)
    ranges = blocks(len(labels), 4 * _ROWS_AT_ONCE)
    for first, last in blocks(len(ranges), 2 * max(threads, 1)):
        for block_sum in run_blocks(run, ranges[first:last], threads=threads):
            total += block_sum
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)


def moved(
    unit: NDArray[np.float32],
    labels: NDArray[np.int32],
    centroids: NDArray[np.float32],
    *,
    threads: int,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Update centroids to the mean directions of their rows; a centroid without rows is unchanged."""
    updated = means(unit, labels, len(centroids), threads=threads, rows=rows)
    empty = ~updated.any(axis=1)
    updated[empty] = centroids[empty]
    return updated
