"""Find the nearest fitted documents of new ones: a matrix product for small fits, a graph search for large ones."""

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
# Tiles of one shape, the last ones padded: a BLAS may add in another order at the edges of a matrix, and what is found
# for a document must not depend on the others of its batch.
_TILE_ROWS = 128
_TILE_COLUMNS = 4096
# The k-th nearest in a sample of the fitted, one in so many, bounds how far the k-th of all can be.
_STRIDE = 8
# Candidates of a tile of rows after which all but the best are dropped; reached where very many fitted are identical.
_MOST_CANDIDATES = _TILE_ROWS * 4096
# Candidates beyond k that are measured in double precision.
_SPARE = 4
_ZERO = 1e-6
_STEP = 2.0**-20
_HIGHEST = int((1.0 - _ZERO) / _STEP)
# Entry points and edges of the graph search. Without backward edges its recall stays below 0.95.
_MOST_LANDMARKS = 16_384
_LANDMARK_SHARE = 16
_ENTRIES = 16
_FORWARD = 15
_BACKWARD = 60
# How many of the best it keeps, each tried in turn.
_WIDTHS = (96, 128, 192, 256, 384)
# Neighbours that are found for lists of similar documents: half of the least width, so that no search is wider.
LISTED = 48
_RECALL_K = 15
# Below this recall on fitted documents the graph cannot be searched: it consists of groups of near copies.
_NAVIGABLE = 0.8


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
        Why this method, and the settings of the search.
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

    What is found for a document depends on its own vector, the fitted ones and the seed alone, never on the other new
    ones nor on the number of threads: the method is chosen by the size of the fit, and the width of an approximate
    search by trying it on fitted documents, each without itself, whose neighbours the graph knows.

    ``exact`` compares with every fitted document, with numpy alone. ``graph`` walks along the graph of the fit from
    the nearest of evenly spread landmarks (best-first search, Malkov and Yashunin 2018); its recall on the new
    documents themselves is measured against the exact answer for a sample.

    Parameters
    ----------
    queries : ndarray, shape (m, dim)
        Rows of any length but NaN.
    fitted : float32 ndarray, shape (n, dim)
        Rows of length 1, a mapped file included.
    k : int
        Lowered to ``n`` where it is larger.
    graph_indices : int32 ndarray, shape (n, any), or None
        The neighbours of each fitted document; without them the search is exact.
    recall_target : float
        In [0, 1], of the 15 nearest.
    method : {"auto", "exact", "graph"}
        ``auto``: exact up to 100,000 fitted documents of 256 dimensions (``n * dim``), without a graph, or where the
        graph cannot be walked: it falls into islands where most documents have many near copies.

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
    found = _along_graph(
        unit,
        fitted,
        graph_indices,
        k=k,
        recall_target=recall_target,
        seed=seed,
        threads=threads,
        anyway=method == "graph",
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
    # At least as many as are compared in full, so that the k-th of them bounds the k-th of all.
    sample = np.ascontiguousarray(fitted[:: max(1, min(_STRIDE, n // max(4 * k, 64)))])
    width = min(n, k + _SPARE)
    last = _padded(fitted[n - n % _TILE_COLUMNS :], _TILE_COLUMNS)

    def search(start: int, stop: int) -> None:
        rows = _padded(unit[start:stop], _TILE_ROWS)
        bound = np.full((_TILE_ROWS, 1), np.inf, np.float32)
        bound[: stop - start, 0] = np.partition(rows @ sample.T, -k, axis=1)[: stop - start, -k] - np.float32(_ZERO)
        row, column = (np.empty(0, np.int64) for _ in range(2))
        score = np.empty(0, np.int32)
        found = [(row, column, score)]
        waiting = 0
        scores = np.empty((_TILE_ROWS, _TILE_COLUMNS), np.float32)
        for first, end in blocks(n, _TILE_COLUMNS):
            np.matmul(rows, (fitted[first:end] if end - first == _TILE_COLUMNS else last).T, out=scores)
            scores[:, end - first :] = -np.inf
            flat = np.flatnonzero(scores >= bound)
            # In steps, as the last bits of a product depend on where in the tile it stands: identical ones stay equal.
            steps = np.minimum(np.floor(scores.ravel()[flat] / _STEP), _HIGHEST).astype(np.int32)
            found.append((flat // _TILE_COLUMNS, flat % _TILE_COLUMNS + first, steps))
            waiting += len(flat)
            if waiting > _MOST_CANDIDATES or end == n:
                row, column, score = _best_of_each(found, width=width)
                found, waiting = [(row, column, score)], len(row)
                if end < n:
                    # What comes later loses against an equal: only what is better may still enter.
                    full = np.flatnonzero(_rank(row) == width - 1)
                    better = np.where(score[full] < _HIGHEST, (score[full] + 1) * _STEP, np.inf)
                    bound[row[full], 0] = better.astype(np.float32)
        candidates = np.full((stop - start, width), -1, np.int64)
        candidates[row, _rank(row)] = column
        indices[start:stop], distances[start:stop] = _measured(unit[start:stop], fitted, candidates, k=k)

    run_blocks(search, blocks(m, _TILE_ROWS), threads=threads)
    return indices, distances


def _padded(rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Pad with rows of zeros up to ``size``."""
    if len(rows) == size:
        return np.ascontiguousarray(rows)
    filled = np.zeros((size, rows.shape[1]), np.float32)
    filled[: len(rows)] = rows
    return filled


def _best_of_each(
    found: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], *, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """Sort candidates (row, column, score) by row and falling score, ties by column; keep ``width`` of each row."""
    row, column, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((column, -score, row))
    order = order[_rank(row[order]) < width]
    return row[order], column[order], score[order]


def _rank(row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the entries of each row from 0; rows are sorted."""
    return np.arange(len(row)) - np.searchsorted(row, row)


def _measured(
    unit: NDArray[np.float32], fitted: NDArray[np.float32], candidates: NDArray[Any], *, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Measure candidates (-1: none) in double precision and keep the nearest ``k``, ties by position."""
    distances = np.full(candidates.shape, np.inf)
    row, column = np.nonzero(candidates >= 0)
    for start, stop in blocks(len(row), 16384):
        one = unit[row[start:stop]].astype(np.float64)
        other = fitted[candidates[row[start:stop], column[start:stop]]].astype(np.float64)
        distances[row[start:stop], column[start:stop]] = 1.0 - np.einsum("ij,ij->i", one, other)
    # As in the graph of a fit: rounding of identical vectors is no distance.
    distances = np.where(distances < _ZERO, 0.0, np.minimum(distances, 2.0)).astype(np.float32)
    order = np.lexsort((candidates, distances), axis=1)[:, :k]
    rows = np.arange(len(unit))[:, None]
    return candidates[rows, order].astype(np.int32), distances[rows, order]


def _along_graph(
    unit: NDArray[np.float32],
    fitted: NDArray[np.float32],
    edges: NDArray[np.int32],
    *,
    k: int,
    recall_target: float,
    seed: int,
    threads: int,
    anyway: bool,
) -> NeighborSearch | float:
    """Search the graph; or return the recall on fitted documents where it is too low and ``anyway`` is not set."""
    n = len(fitted)
    edges = _both_ways(edges)
    find_entries = _landmarks(fitted)
    random = np.random.default_rng(seed)
    size = min(k, _RECALL_K)
    tried: list[dict[str, Any]] = []
    width, share = 0, 0.0
    # The width is chosen by fitted documents, each looked for without itself: what is found for a new one then does not
    # depend on its batch. They are about as hard to find as new ones of the same kind (docs/decisions).
    rows = np.sort(random.choice(n, min(n, _TILE_ROWS), replace=False)).astype(np.int64)
    some = np.ascontiguousarray(fitted[rows])
    limit = _exact(some, fitted, k=min(n, size + 1), threads=threads)[1][:, -1:] + np.float32(_ZERO)
    entries = find_entries(some, threads)
    for width in sorted({max(least, 2 * k) for least in _WIDTHS}):
        found = _search_graph(some, rows, fitted, edges, entries, width=width, threads=threads)
        share = float((_measured(some, fitted, found, k=size)[1] <= limit).mean())
        tried.append({"width": width, "recall": round(share, 4)})
        if share >= recall_target:
            break
    if share < _NAVIGABLE and not anyway:
        return share
    everyone = np.full(len(unit), -1, np.int64)
    found = _search_graph(unit, everyone, fitted, edges, find_entries(unit, threads), width=width, threads=threads)
    indices, distances = np.empty((len(unit), k), np.int32), np.empty((len(unit), k), np.float32)

    def measure(start: int, stop: int) -> None:
        indices[start:stop], distances[start:stop] = _measured(unit[start:stop], fitted, found[start:stop], k=k)

    run_blocks(measure, blocks(len(unit), 1024), threads=threads)
    short = np.flatnonzero(indices[:, -1] < 0)
    if len(short):  # a part of the graph that is smaller than k
        indices[short], distances[short] = _exact(unit[short], fitted, k=k, threads=threads)
    checked = np.sort(random.choice(len(unit), min(len(unit), _TILE_ROWS), replace=False))
    truth = _exact(unit[checked], fitted, k=size, threads=threads)[1][:, -1] + np.float32(_ZERO)
    recall = float((distances[checked, :size] <= truth[:, None]).mean())
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
            "tried": tried,
            "recall_k": size,
            "recall_sample": len(checked),
        },
    )


def _both_ways(edges: NDArray[np.int32]) -> NDArray[np.int32]:
    from latentscale.backends.cpu.placement_kernels import add_backward

    forward = min(edges.shape[1], _FORWARD)
    both = np.empty((len(edges), forward + _BACKWARD), np.int32)
    add_backward(np.ascontiguousarray(edges, np.int32), forward, both)
    return both


def _landmarks(fitted: NDArray[np.float32]) -> Callable[[NDArray[np.float32], int], NDArray[np.int32]]:
    """Choose landmarks evenly among the fitted rows; the returned function gives each row's nearest landmarks."""
    from latentscale.backends.cpu.neighbor_kernels import merge_top_k

    n = len(fitted)
    positions = np.linspace(0, n - 1, min(n, min(_MOST_LANDMARKS, n // _LANDMARK_SHARE + 1))).astype(np.int64)
    landmarks = np.ascontiguousarray(fitted[positions])

    def find(rows: NDArray[np.float32], threads: int) -> NDArray[np.int32]:
        best_landmarks = np.empty((len(rows), min(_ENTRIES, len(landmarks))), np.int32)

        def search(start: int, stop: int) -> None:
            best = np.full((_TILE_ROWS, best_landmarks.shape[1]), -np.inf, np.float32)
            near = np.zeros(best.shape, np.int32)
            some = _padded(rows[start:stop], _TILE_ROWS)
            for first, end in blocks(len(landmarks), _TILE_COLUMNS):
                merge_top_k(some @ landmarks[first:end].T, first, near, best)
            best_landmarks[start:stop] = near[: stop - start]

        run_blocks(search, blocks(len(rows), _TILE_ROWS), threads=threads)
        return positions[best_landmarks].astype(np.int32)

    return find


def _search_graph(
    unit: NDArray[np.float32],
    own: NDArray[np.int64],
    fitted: NDArray[np.float32],
    edges: NDArray[np.int32],
    entries: NDArray[np.int32],
    *,
    width: int,
    threads: int,
) -> NDArray[np.int32]:
    from latentscale.backends.cpu.placement_kernels import search_graph

    found = np.empty((len(unit), width), np.int32)
    squares = np.empty((len(unit), width), np.float32)

    def search(start: int, stop: int) -> None:
        seen = np.zeros(len(fitted), np.uint32)
        search_graph(unit, own, start, stop, fitted, edges, entries, seen, found, squares, np.zeros(width, np.bool_))

    run_blocks(search, blocks(len(unit), max(64, -(-len(unit) // (4 * max(1, threads))))), threads=threads)
    return found
