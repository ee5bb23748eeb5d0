"""k nearest neighbours of every document, exact or by NN-descent with a measured recall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentscale.backends.cpu.compiled import cache_note
from latentscale.backends.cpu.descent import nn_descent
from latentscale.backends.cpu.parallel import blocks, run_blocks
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.backends.results import NeighborGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Up to this many multiply-adds (30,000 documents of 256 dimensions, 2.5 s on two cores) the exact search costs no more
# than importing pynndescent, searching and measuring the recall.
EXACT_LIMIT = 30_000**2 * 256
_TILE_ROWS = 256
_TILE_COLUMNS = 2048
_RECALL_K = 15
_RECALL_SAMPLE = 1000
# float32 rounding of 1 - x·x for a unit vector of some hundred dimensions stays below this.
_ZERO = np.float32(1e-6)
# Each widening of the approximate search: neighbours searched for (times k), trees (times the default), delta.
_SEARCHES = ((1.0, 1.0, 0.001), (1.5, 1.5, 0.0005), (2.5, 2.0, 0.0001))
_MIN_SEARCH_WIDTH = 20


def nearest_neighbors(
    vectors: NDArray[Any],
    *,
    k: int,
    method: Literal["auto", "exact", "pynndescent"],
    recall_target: float,
    seed: int,
    threads: int,
) -> NeighborGraph:
    """Find the ``k`` nearest other documents of each, by cosine distance.

    ``exact`` is a blocked matrix product, with the same bits for any number of threads. ``pynndescent`` (NN-descent,
    Dong et al. 2011) is approximate: its recall is measured against the exact neighbours of a sample, and the search
    is widened until ``recall_target`` is reached; a note reports where it was not.

    Parameters
    ----------
    vectors : float32 or float16 ndarray, shape (n, dim)
        May be a mapped file. Float32 unit rows are used without a copy; others are copied and normalized.
    k : int
        Lowered to ``n - 1`` where it is larger.
    method : {"auto", "exact", "pynndescent"}
        ``auto``: exact up to 30,000 documents of 256 dimensions, fewer of more (by ``n * n * dim``).
    recall_target : float
        In [0, 1], of the 15 nearest.

    Raises
    ------
    ShapeError
        If ``vectors`` is not a matrix.
    CorpusError
        If a value is NaN or infinite.
    """
    unit = unit_rows(vectors)
    n = len(unit)
    k = max(0, min(k, n - 1))
    if n < 2 or k == 0:
        return without_neighbors(n)
    if (
        method == "exact"
        or (method == "auto" and n * n * unit.shape[1] <= EXACT_LIMIT)
        or k >= n - 2
        or n <= 4 * _MIN_SEARCH_WIDTH
    ):
        graph = _exact(unit, k=k, threads=threads)
        reason = "asked for" if method == "exact" else _reason(unit)
        if method == "pynndescent":
            reason = f"{n:,} documents are too few for an approximate search"
        indices, distances = graph
        return _graph(indices, distances, recall=1.0, method="exact", details={"reason": reason})
    return _approximate(unit, k=k, recall_target=recall_target, seed=seed, threads=threads, method=method)


def without_neighbors(n: int, *, backend: str = "cpu") -> NeighborGraph:
    """Build the graph of ``n`` documents without neighbours."""
    return NeighborGraph(
        indices=np.empty((n, 0), np.int32),
        distances=np.empty((n, 0), np.float32),
        recall=None,
        method="exact",
        details={"reason": "fewer than two documents have no neighbours"},
        backend=backend,
    )


def exact_neighbors(
    unit: NDArray[np.float32], rows: NDArray[np.int64], *, k: int, threads: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the ``k`` nearest of some rows among all, themselves excluded.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Rows of length 1 (or 0).
    rows : int64 ndarray, shape (m,)

    Returns
    -------
    indices : int32 ndarray, shape (m, k)
    similarities : float32 ndarray, shape (m, k)
        Descending; ties by position.
    """
    from latentscale.backends.cpu.neighbor_kernels import merge_top_k

    # One more than k: a row is its own nearest, but not always the first among duplicates.
    indices = np.full((len(rows), k + 1), -1, np.int32)
    best = np.full((len(rows), k + 1), -np.inf, np.float32)
    consecutive = bool(len(rows) == len(unit))

    def search(start: int, stop: int) -> None:
        block_rows = unit[start:stop] if consecutive else unit[rows[start:stop]]
        scores = np.empty((stop - start, _TILE_COLUMNS), np.float32)
        for first, last in blocks(len(unit), _TILE_COLUMNS):
            tile = (
                scores[:, : last - first] if last - first == _TILE_COLUMNS else np.empty_like(scores[:, : last - first])
            )
            np.matmul(block_rows, unit[first:last].T, out=tile)
            for row in range(start, stop):
                self_column = int(rows[row]) - first
                if 0 <= self_column < last - first:
                    tile[row - start, self_column] = -np.inf
            merge_top_k(tile, first, indices[start:stop], best[start:stop])

    run_blocks(search, blocks(len(rows), _TILE_ROWS), threads=threads)
    return indices[:, :k], best[:, :k]


def _exact(unit: NDArray[np.float32], *, k: int, threads: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    candidates, _ = exact_neighbors(unit, np.arange(len(unit)), k=k, threads=threads)
    indices, distances, _ = _rescore(unit, candidates, k=k, threads=threads)
    return indices, distances


def _approximate(
    unit: NDArray[np.float32], *, k: int, recall_target: float, seed: int, threads: int, method: str
) -> NeighborGraph:
    n = len(unit)
    size = min(k, _RECALL_K)
    sample = np.sort(np.random.default_rng(seed).choice(n, min(n, _RECALL_SAMPLE), replace=False)).astype(np.int64)
    _, truth = exact_neighbors(unit, sample, k=size, threads=threads)
    duplicates = first_copies(unit, k=k)
    searches: list[dict[str, Any]] = []
    indices, distances, recall = np.empty((0, 0), np.int32), np.empty((0, 0), np.float32), 0.0
    for width_factor, trees, delta in _SEARCHES:
        width = min(n - 1, max(_MIN_SEARCH_WIDTH, round(width_factor * k) + 1))
        candidates = nn_descent(unit, width=width, trees=trees, delta=delta, seed=seed, threads=threads)
        if duplicates is not None:
            candidates = np.hstack([duplicates, candidates])
        indices, distances, recall = _completed(unit, candidates, k=k, sample=sample, truth=truth, threads=threads)
        del candidates
        searches.append({"searched": width, "trees": trees, "delta": delta, "recall": round(recall, 4)})
        if recall >= recall_target:
            break
    notes = (
        [
            f"The neighbour search found {recall:.1%} of the true neighbours, below the target of {recall_target:.0%}; "
            "method 'exact' finds all of them."
        ]
        if recall < recall_target
        else []
    )
    reason = "asked for" if method == "pynndescent" else _reason(unit)
    details = {"reason": reason, "recall_k": size, "recall_sample": len(sample), "searches": searches}
    return _graph(indices, distances, recall=recall, method="pynndescent", details=details, notes=notes)


def first_copies(unit: NDArray[np.float32], *, k: int) -> NDArray[np.int32] | None:
    """Find the first ``k + 1`` duplicates of each row (int32, -1 where there are fewer); None if all rows are distinct.

    An approximate search gives each of many duplicates a random subset of the others, which disconnects them in the
    graph; with these as candidates all of them get the first ones, as in the exact search.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
    k : int
    """
    random = np.random.default_rng(0)
    multipliers = random.integers(1, 2**63, unit.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(unit), np.uint64)
    # 16 MB of products at once.
    for start, stop in blocks(len(unit), max(1, (1 << 21) // unit.shape[1])):
        hashes[start:stop] = (unit[start:stop].view(np.uint32) * multipliers).sum(axis=1, dtype=np.uint64)
    order = np.argsort(hashes, kind="stable")
    borders = np.flatnonzero(np.diff(hashes[order])) + 1
    starts, ends = np.append(0, borders), np.append(borders, len(hashes))
    if len(starts) == len(hashes):
        return None
    first = np.full((len(unit), k + 1), -1, np.int32)
    for start, end in zip(starts[ends - starts > 1].tolist(), ends[ends - starts > 1].tolist(), strict=True):
        group = order[start:end]
        kept = group[: k + 1]
        first[group, : len(kept)] = kept
    return first


def _completed(
    unit: NDArray[np.float32],
    candidates: NDArray[np.int32],
    *,
    k: int,
    sample: NDArray[np.int64],
    truth: NDArray[np.float32],
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
    """Rescore candidates, complete rows that have too few by an exact search, and measure recall on the sample.

    A neighbour counts as found if it is as near as the last true one: duplicates are interchangeable.
    """
    indices, distances, incomplete = _rescore(unit, candidates, k=k, threads=threads)
    if len(incomplete):
        exact_indices, _ = exact_neighbors(unit, incomplete, k=k, threads=threads)
        candidates_of_incomplete = np.full((len(unit), k), -1, np.int32)
        candidates_of_incomplete[incomplete] = exact_indices
        filled_indices, filled_distances, _ = _rescore(
            unit, candidates_of_incomplete, k=k, threads=threads, rows=incomplete
        )
        indices[incomplete], distances[incomplete] = filled_indices[incomplete], filled_distances[incomplete]
    k_recall = truth.shape[1]
    limits = np.maximum(np.float32(1.0) - truth[:, -1], 0.0) + _ZERO
    return indices, distances, float((distances[sample, :k_recall] <= limits[:, None]).mean())


def _rescore(
    unit: NDArray[np.float32],
    candidates: NDArray[np.int32],
    *,
    k: int,
    threads: int,
    rows: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]:
    """Indices and cosine distances of the ``k`` nearest candidates, and the rows that have fewer than ``k``."""
    from latentscale.backends.cpu.neighbor_kernels import rescore_rows

    indices = np.full((len(unit), k), -1, np.int32)
    distances = np.zeros((len(unit), k), np.float32)
    candidates = np.ascontiguousarray(candidates, np.int32)

    def measure(start: int, stop: int) -> None:
        rescore_rows(unit, start, stop, candidates, indices, distances, _ZERO)

    ranges = blocks(len(unit), 4096) if rows is None else [(int(row), int(row) + 1) for row in rows]
    run_blocks(measure, ranges, threads=threads)
    return indices, distances, np.flatnonzero(indices[:, -1] < 0)


def _reason(unit: NDArray[np.float32]) -> str:
    bound = int((EXACT_LIMIT / unit.shape[1]) ** 0.5)
    return f"{len(unit):,} documents of {unit.shape[1]} dimensions: exact is used up to {bound:,}"


def _graph(
    indices: NDArray[np.int32],
    distances: NDArray[np.float32],
    *,
    recall: float,
    method: str,
    details: dict[str, Any],
    notes: list[str] | None = None,
) -> NeighborGraph:
    all_notes = [*(notes or []), *([note] if (note := cache_note()) else [])]
    return NeighborGraph(
        indices=indices, distances=distances, recall=recall, method=method, notes=all_notes, details=details
    )
