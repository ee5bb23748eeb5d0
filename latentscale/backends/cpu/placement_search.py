"""Find the nearest fitted documents of new ones: brute force for small fits, a graph search for large ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentscale.backends.cpu.parallel import blocks, run_blocks
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Numbers in the matrix of fitted vectors (100,000 documents of 256 dimensions) up to which every new document is
# compared with every fitted one: an update of one hundredth costs the same there either way, 1 CPU-s.
EXACT_LIMIT = 100_000 * 256
# All tiles have one shape, the last ones padded: BLAS may sum in another order at the edges of a matrix, and the result
# for a document must not depend on the others in its batch.
_TILE_ROWS = 128
_TILE_COLUMNS = 4096
# Every _STRIDE-th fitted document is in a sample whose k-th nearest bounds the distance of the k-th of all.
_STRIDE = 8
# Candidates of a tile beyond which all but the best are dropped; reached with very many duplicates.
_MAX_CANDIDATES = _TILE_ROWS * 4096
# Candidates beyond k whose distances are recomputed in double precision.
_EXTRA_CANDIDATES = 4
_ZERO = 1e-6
_SCORE_STEP = 2.0**-20
_MAX_SCORE = int((1.0 - _ZERO) / _SCORE_STEP)
# Entry points and edges of the graph search. Without reverse edges its recall stays below 0.95.
_MAX_LANDMARKS = 16_384
_LANDMARK_SHARE = 16
_ENTRY_POINTS = 16
_FORWARD_EDGES = 15
_REVERSE_EDGES = 60
# Widths of the search (its candidate list, "ef" in HNSW), tried in turn.
_WIDTHS = (96, 128, 192, 256, 384)
# Neighbours listed as similar documents: half of the smallest width, so that they never widen a search.
LISTED = 48
_RECALL_K = 15
# Below this recall on fitted documents the graph is not navigable: it consists of groups of near duplicates.
_MIN_NAVIGABLE_RECALL = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborSearch:
    """The nearest fitted documents of each new one, by cosine distance.

    Attributes
    ----------
    indices : int32 ndarray, shape (m, k)
        Positions among the fitted, nearest first, ties by position. ``k = min(asked, n)``.
    distances : float32 ndarray, shape (m, k)
        Cosine distances in [0, 2]; exactly 0 for identical vectors.
    recall : float or None
        Share of the true 15 (or ``k``, if smaller) nearest that were found, on a sample of the new documents; 1.0 for
        an exact search, None without new documents.
    method : {"exact", "graph"}
        The search that was used.
    notes : list of str
        Notes for the user, in sentences.
    details : dict
        The reason for the method, and the settings of the search.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float32]
    recall: float | None
    method: str
    notes: list[str] = field(default_factory=list[str])
    details: dict[str, Any] = field(default_factory=dict[str, Any])

    def __len__(self) -> int:
        return int(self.indices.shape[0])

    @property
    def k(self) -> int:
        """Number of neighbours per document."""
        return int(self.indices.shape[1])


def neighbors_among(
    queries: NDArray[Any],
    fitted: NDArray[np.float32],
    *,
    k: int,
    graph_indices: NDArray[np.int32] | None,
    recall_target: float = 0.95,
    seed: int,
    threads: int,
    method: Literal["auto", "exact", "graph"] = "auto",
) -> NeighborSearch:
    """Find the ``k`` nearest fitted documents of each new one.

    The result for a document depends only on its own vector, the fitted ones and the seed, not on the other new
    documents or the number of threads: the method is chosen by the size of the fit, and the width of a graph search by
    its recall on fitted documents, each excluded from its own search.

    ``exact`` compares with every fitted document, in numpy. ``graph`` is a best-first search (Malkov and Yashunin 2018)
    of the fit's neighbour graph, from the nearest of evenly spaced landmarks; its recall on the new documents is
    measured on a sample.

    Parameters
    ----------
    queries : ndarray, shape (m, dim)
        Finite; need not be normalized.
    fitted : float32 ndarray, shape (n, dim)
        Rows of length 1, a mapped file included.
    k : int
        Lowered to ``n`` where it is larger.
    graph_indices : int32 ndarray, shape (n, any), or None
        Neighbours of each fitted document; None: the search is exact.
    recall_target : float
        In [0, 1], of the 15 nearest.
    method : {"auto", "exact", "graph"}
        ``auto``: exact up to 100,000 fitted documents of 256 dimensions (``n * dim``), without a graph, or where the
        graph is not navigable (where most documents have many near duplicates it is disconnected).

    Raises
    ------
    ShapeError
        If the arrays do not match, nothing was fitted, or ``graph`` is asked for without one.
    CorpusError
        If a query has a value that is NaN or infinite.
    """
    n = len(fitted)
    if fitted.ndim != 2 or queries.ndim != 2 or fitted.shape[1] != queries.shape[1]:
        raise ShapeError(f"the new documents are of shape {queries.shape}, the fitted ones of {fitted.shape}")
    if n == 0:
        raise ShapeError("there is no fitted document to place new ones by", hint="Fit a map first: latentscale run.")
    if graph_indices is not None and len(graph_indices) != n:
        raise ShapeError(
            f"the neighbour graph covers {len(graph_indices):,} documents, the fit {n:,}",
            hint="Use the graph that the map was built from.",
        )
    if method == "graph" and graph_indices is None:
        raise ShapeError("a search along the graph needs the graph")
    k = min(k, n)
    if len(queries) == 0 or k < 1:
        return NeighborSearch(
            indices=np.empty((len(queries), max(k, 0)), np.int32),
            distances=np.empty((len(queries), max(k, 0)), np.float32),
            recall=None,
            method="exact",
            details={"reason": "no documents to search for"},
        )
    unit = unit_rows(queries, what="the new documents")
    small = fitted.size <= EXACT_LIMIT
    if graph_indices is None or method == "exact" or (method == "auto" and small):
        indices, distances = _exact(unit, fitted, k=k, threads=threads)
        bound = EXACT_LIMIT // fitted.shape[1]
        reason = f"{n:,} fitted documents of {fitted.shape[1]} dimensions: exact is used up to {bound:,}"
        if method == "exact":
            reason = "asked for"
        elif graph_indices is None and not small:
            reason = "there is no graph to search"
        return NeighborSearch(
            indices=indices, distances=distances, recall=1.0, method="exact", details={"reason": reason}
        )
    found = _search_by_graph(
        unit,
        fitted,
        graph_indices,
        k=k,
        recall_target=recall_target,
        seed=seed,
        threads=threads,
        force=method == "graph",
    )
    if isinstance(found, NeighborSearch):
        return found
    indices, distances = _exact(unit, fitted, k=k, threads=threads)
    note = (
        f"The neighbour graph of the fit cannot be searched (recall {found:.1%} on fitted documents, as if most have "
        "many near copies): each new document was compared with every fitted one, which takes longer."
    )
    details = {"reason": f"along the graph, recall is {found:.3f} on fitted documents"}
    return NeighborSearch(
        indices=indices, distances=distances, recall=1.0, method="exact", notes=[note], details=details
    )


def _exact(
    unit: NDArray[np.float32], fitted: NDArray[np.float32], *, k: int, threads: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    m, n = len(unit), len(fitted)
    indices = np.empty((m, k), np.int32)
    distances = np.empty((m, k), np.float32)
    # A sample of at least k, so that its k-th best score bounds the k-th of all.
    sample = np.ascontiguousarray(fitted[:: max(1, min(_STRIDE, n // max(4 * k, 64)))])
    width = min(n, k + _EXTRA_CANDIDATES)
    last = _padded(fitted[n - n % _TILE_COLUMNS :], _TILE_COLUMNS)

    def search(start: int, stop: int) -> None:
        rows = _padded(unit[start:stop], _TILE_ROWS)
        bound = np.full((_TILE_ROWS, 1), np.inf, np.float32)
        bound[: stop - start, 0] = np.partition(rows @ sample.T, -k, axis=1)[: stop - start, -k] - np.float32(_ZERO)
        row, column = (np.empty(0, np.int64) for _ in range(2))
        score = np.empty(0, np.int32)
        candidate_blocks = [(row, column, score)]
        n_waiting = 0
        scores = np.empty((_TILE_ROWS, _TILE_COLUMNS), np.float32)
        for first, end in blocks(n, _TILE_COLUMNS):
            np.matmul(rows, (fitted[first:end] if end - first == _TILE_COLUMNS else last).T, out=scores)
            scores[:, end - first :] = -np.inf
            flat = np.flatnonzero(scores >= bound)
            # Quantized, as the last bits of a product depend on its position in the tile: duplicates get equal scores.
            steps = np.minimum(np.floor(scores.ravel()[flat] / _SCORE_STEP), _MAX_SCORE).astype(np.int32)
            candidate_blocks.append((flat // _TILE_COLUMNS, flat % _TILE_COLUMNS + first, steps))
            n_waiting += len(flat)
            if n_waiting > _MAX_CANDIDATES or end == n:
                row, column, score = _top_candidates(candidate_blocks, width=width)
                candidate_blocks, n_waiting = [(row, column, score)], len(row)
                if end < n:
                    # Ties go to the lower position: a later candidate must have a better score.
                    full = np.flatnonzero(_rank(row) == width - 1)
                    next_score = np.where(score[full] < _MAX_SCORE, (score[full] + 1) * _SCORE_STEP, np.inf)
                    bound[row[full], 0] = next_score.astype(np.float32)
        candidates = np.full((stop - start, width), -1, np.int64)
        candidates[row, _rank(row)] = column
        indices[start:stop], distances[start:stop] = _rescore(unit[start:stop], fitted, candidates, k=k)

    run_blocks(search, blocks(m, _TILE_ROWS), threads=threads)
    return indices, distances


def _padded(rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Pad with rows of zeros up to ``size``."""
    if len(rows) == size:
        return np.ascontiguousarray(rows)
    padded = np.zeros((size, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    return padded


def _top_candidates(
    candidate_blocks: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], *, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Sort candidates (row, column, score) by row and falling score, ties by column; keep ``width`` of each row."""
    row, column, score = (np.concatenate(arrays) for arrays in zip(*candidate_blocks, strict=True))
    order = np.lexsort((column, -score, row))
    order = order[_rank(row[order]) < width]
    return row[order], column[order], score[order]


def _rank(row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the entries of each row from 0; rows are sorted."""
    return np.arange(len(row)) - np.searchsorted(row, row)


def _rescore(
    unit: NDArray[np.float32], fitted: NDArray[np.float32], candidates: NDArray[Any], *, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Recompute distances of candidates (-1: none) in double precision and keep the nearest ``k``, ties by position."""
    distances = np.full(candidates.shape, np.inf)
    row, column = np.nonzero(candidates >= 0)
    for start, stop in blocks(len(row), 16384):
        one = unit[row[start:stop]].astype(np.float64)
        other = fitted[candidates[row[start:stop], column[start:stop]]].astype(np.float64)
        distances[row[start:stop], column[start:stop]] = 1.0 - np.einsum("ij,ij->i", one, other)
    # As in the graph of a fit: duplicates have distance 0, whatever the rounding.
    distances = np.where(distances < _ZERO, 0.0, np.minimum(distances, 2.0)).astype(np.float32)
    order = np.lexsort((candidates, distances), axis=1)[:, :k]
    rows = np.arange(len(unit))[:, None]
    return candidates[rows, order].astype(np.int32), distances[rows, order]


def _search_by_graph(
    unit: NDArray[np.float32],
    fitted: NDArray[np.float32],
    edges: NDArray[np.int32],
    *,
    k: int,
    recall_target: float,
    seed: int,
    threads: int,
    force: bool,
) -> NeighborSearch | float:
    """Search the graph; or return its recall on fitted documents where that is too low and ``force`` is not set."""
    n = len(fitted)
    edges = _with_reverse_edges(edges)
    find_entries = _landmarks(fitted)
    random = np.random.default_rng(seed)
    size = min(k, _RECALL_K)
    trials: list[dict[str, Any]] = []
    width, recall_on_fitted = 0, 0.0
    # The width is chosen by the recall on fitted documents, each excluded from its own search, so that results do not
    # depend on the batch. They are about as hard to find as new ones of the same kind (docs/decisions).
    sample_rows = np.sort(random.choice(n, min(n, _TILE_ROWS), replace=False)).astype(np.int64)
    sample = np.ascontiguousarray(fitted[sample_rows])
    limits = _exact(sample, fitted, k=min(n, size + 1), threads=threads)[1][:, -1:] + np.float32(_ZERO)
    entries = find_entries(sample, threads)
    for width in sorted({max(least, 2 * k) for least in _WIDTHS}):
        found = _search_graph(sample, sample_rows, fitted, edges, entries, width=width, threads=threads)
        recall_on_fitted = float((_rescore(sample, fitted, found, k=size)[1] <= limits).mean())
        trials.append({"width": width, "recall": round(recall_on_fitted, 4)})
        if recall_on_fitted >= recall_target:
            break
    if recall_on_fitted < _MIN_NAVIGABLE_RECALL and not force:
        return recall_on_fitted
    no_exclusion = np.full(len(unit), -1, np.int64)
    found = _search_graph(unit, no_exclusion, fitted, edges, find_entries(unit, threads), width=width, threads=threads)
    indices, distances = np.empty((len(unit), k), np.int32), np.empty((len(unit), k), np.float32)

    def measure(start: int, stop: int) -> None:
        indices[start:stop], distances[start:stop] = _rescore(unit[start:stop], fitted, found[start:stop], k=k)

    run_blocks(measure, blocks(len(unit), 1024), threads=threads)
    incomplete = np.flatnonzero(indices[:, -1] < 0)
    if len(incomplete):  # a connected component of the graph smaller than k
        indices[incomplete], distances[incomplete] = _exact(unit[incomplete], fitted, k=k, threads=threads)
    recall_rows = np.sort(random.choice(len(unit), min(len(unit), _TILE_ROWS), replace=False))
    recall_limits = _exact(unit[recall_rows], fitted, k=size, threads=threads)[1][:, -1] + np.float32(_ZERO)
    recall = float((distances[recall_rows, :size] <= recall_limits[:, None]).mean())
    notes = (
        [
            f"The search along the graph found {recall:.1%} of the true neighbours of the new documents, below the "
            f"target of {recall_target:.0%}."
        ]
        if recall < recall_target
        else []
    )
    return NeighborSearch(
        indices=indices,
        distances=distances,
        recall=recall,
        method="graph",
        notes=notes,
        details={
            "reason": f"{n:,} fitted documents of {fitted.shape[1]} dimensions",
            "width": width,
            "tried": trials,
            "recall_k": size,
            "recall_sample": len(recall_rows),
        },
    )


def _with_reverse_edges(edges: NDArray[np.int32]) -> NDArray[np.int32]:
    """Add reverse edges to a directed graph: int32, shape (n, forward + reverse), -1 where there are fewer."""
    from latentscale.backends.cpu.placement_kernels import add_reverse_edges

    forward = min(edges.shape[1], _FORWARD_EDGES)
    symmetric = np.empty((len(edges), forward + _REVERSE_EDGES), np.int32)
    add_reverse_edges(np.ascontiguousarray(edges, np.int32), forward, symmetric)
    return symmetric


def _landmarks(fitted: NDArray[np.float32]) -> Callable[[NDArray[np.float32], int], NDArray[np.int32]]:
    """Choose evenly spaced landmarks; the returned function finds the landmarks nearest to each row (entry points)."""
    from latentscale.backends.cpu.neighbor_kernels import merge_top_k

    n = len(fitted)
    positions = np.linspace(0, n - 1, min(n, min(_MAX_LANDMARKS, n // _LANDMARK_SHARE + 1))).astype(np.int64)
    landmarks = np.ascontiguousarray(fitted[positions])

    def find(rows: NDArray[np.float32], threads: int) -> NDArray[np.int32]:
        best_landmarks = np.empty((len(rows), min(_ENTRY_POINTS, len(landmarks))), np.int32)

        def search(start: int, stop: int) -> None:
            best = np.full((_TILE_ROWS, best_landmarks.shape[1]), -np.inf, np.float32)
            indices = np.zeros(best.shape, np.int32)
            tile = _padded(rows[start:stop], _TILE_ROWS)
            for first, end in blocks(len(landmarks), _TILE_COLUMNS):
                merge_top_k(tile @ landmarks[first:end].T, first, indices, best)
            best_landmarks[start:stop] = indices[: stop - start]

        run_blocks(search, blocks(len(rows), _TILE_ROWS), threads=threads)
        return positions[best_landmarks].astype(np.int32)

    return find


def _search_graph(
    unit: NDArray[np.float32],
    excluded: NDArray[np.int64],
    fitted: NDArray[np.float32],
    edges: NDArray[np.int32],
    entries: NDArray[np.int32],
    *,
    width: int,
    threads: int,
) -> NDArray[np.int32]:
    from latentscale.backends.cpu.placement_kernels import search_graph

    found = np.empty((len(unit), width), np.int32)
    squared = np.empty((len(unit), width), np.float32)

    def search(start: int, stop: int) -> None:
        visited = np.zeros(len(fitted), np.uint32)
        search_graph(
            unit, excluded, start, stop, fitted, edges, entries, visited, found, squared, np.zeros(width, np.bool_)
        )

    run_blocks(search, blocks(len(unit), max(64, -(-len(unit) // (4 * max(1, threads))))), threads=threads)
    return found
