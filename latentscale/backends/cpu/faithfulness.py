"""Compare the neighbourhoods of an embedding with those of its layout."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.parallel import blocks, run_blocks
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.backends.results import Faithfulness
from latentscale.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS_AT_ONCE = 64
# Scores of a thread (32 MB). Up to 131,072 documents they are those of a few rows with all documents; beyond, those of
# all rows with a tile of documents, so that the vectors are read once instead of once every few rows.
_SCORES_AT_ONCE = 1 << 23
_TILE_ROWS = 4_096


def faithfulness(
    vectors: NDArray[Any], coordinates: NDArray[Any], *, k: int, sample: int, seed: int, threads: int
) -> Faithfulness:
    """Compare neighbourhoods of an embedding (cosine) with those of its layout (Euclidean).

    Sampled documents are compared exactly with all documents in both spaces. Ties in the embedding (duplicates) count
    in favour of the layout: any of the tied documents is a true neighbour.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
    coordinates : ndarray, shape (n, 2 or more)
    k : int
        Lowered to ``n - 1`` where it is larger.
    sample : int
        Largest number of sampled documents, drawn with ``seed``.

    Raises
    ------
    ShapeError
        If the two are of different numbers of documents.
    """
    n = len(vectors)
    if len(coordinates) != n:
        raise ShapeError(f"the embedding has {n:,} documents, the layout {len(coordinates):,}")
    k = min(k, n - 1)
    if k < 1:
        return Faithfulness(trustworthiness=None, preservation=None, k=0, sample=0)
    from latentscale.backends.cpu.neighbor_kernels import knn_in_layout

    unit = unit_rows(vectors)
    points = np.ascontiguousarray(coordinates, np.float32)
    rows = fixed_sample(n, sample, seed=seed)

    neighbors = np.empty((len(rows), k), np.int64)

    def search(start: int, stop: int) -> None:
        knn_in_layout(points, rows[start:stop], neighbors[start:stop], np.empty((stop - start, k), np.float32))

    run_blocks(search, blocks(len(rows), _ROWS_AT_ONCE), threads=threads)
    closer = _count_closer(unit, rows, neighbors, threads=threads)
    return score(closer, n=n, k=k)


def score(closer: NDArray[np.int64], *, n: int, k: int) -> Faithfulness:
    """Compute both figures from the rank in the embedding of each of the ``k`` nearest in the layout.

    Parameters
    ----------
    closer : int64 ndarray, shape (rows, k)
        Number of documents more similar to the row than that neighbour.
    n : int
        Number of all documents.
    """
    rows = len(closer)
    penalty = int(np.maximum(closer + 1 - k, 0).sum())
    kept = int((closer < k).sum())
    scale = k * (2 * n - 3 * k - 1)
    return Faithfulness(
        trustworthiness=1.0 - 2.0 * penalty / (rows * scale) if scale > 0 and 2 * k < n else None,
        preservation=kept / (rows * k),
        k=k,
        sample=rows,
    )


def _count_closer(
    unit: NDArray[np.float32], rows: NDArray[np.int64], neighbors: NDArray[np.int64], *, threads: int
) -> NDArray[np.int64]:
    """Count, for each of the ``neighbors`` of a row on the map, the documents more similar to the row (same shape)."""
    from latentscale.backends.cpu.neighbor_kernels import count_closer

    closer = np.zeros(neighbors.shape, np.int64)
    if len(unit) * _ROWS_AT_ONCE <= _SCORES_AT_ONCE:

        def compare(start: int, stop: int) -> None:
            scores = unit[rows[start:stop]] @ unit.T
            limits = np.take_along_axis(scores, neighbors[start:stop], axis=1)
            count_closer(scores, 0, rows[start:stop], limits, closer[start:stop])

        run_blocks(compare, blocks(len(rows), _ROWS_AT_ONCE), threads=threads)
        return closer
    queries = unit[rows]
    columns = np.unique(neighbors)
    column_of = np.searchsorted(columns, neighbors)
    limits = np.empty(neighbors.shape, np.float32)
    lock = threading.Lock()

    def scores_with(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        # BLAS may round the last columns of an odd width differently, and duplicates would not tie.
        missing = np.zeros((_TILE_ROWS - len(tile), unit.shape[1]), np.float32)
        padded = np.concatenate([tile, missing]) if len(missing) else tile
        return np.ascontiguousarray((queries @ padded.T)[:, : len(tile)])

    def collect_limits(first: int, last: int) -> None:
        scores = scores_with(unit[columns[first:last]])
        row, column = np.nonzero((column_of >= first) & (column_of < last))
        limits[row, column] = scores[row, column_of[row, column] - first]

    def count(first: int, last: int) -> None:
        counts = np.zeros(neighbors.shape, np.int64)
        count_closer(scores_with(unit[first:last]), first, rows, limits, counts)
        with lock:
            np.add(closer, counts, out=closer)

    run_blocks(collect_limits, blocks(len(columns), _TILE_ROWS), threads=threads)
    run_blocks(count, blocks(len(unit), _TILE_ROWS), threads=threads)
    return closer


def fixed_sample(n: int, size: int, *, seed: int) -> NDArray[np.int64]:
    """Draw at most ``size`` of ``n`` positions, sorted; deterministic for a seed."""
    if n <= size:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False)).astype(np.int64)
