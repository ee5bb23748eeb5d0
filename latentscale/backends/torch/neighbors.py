"""Nearest neighbours of every document, by matrix products of blocks of the matrix with itself.

A ``topk`` over many columns takes a GPU many times longer than to compute them. So only the largest product of each
group of 32 columns is kept. The k-th largest maximum over groups of such groups is a threshold that at least k columns
reach, and hardly more: the products of the few groups that reach it are computed again, and the columns that reach it
are the candidates.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.neighbors import first_copies, without_neighbors
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.backends.results import NeighborGraph
from latentscale.backends.torch.device import device_memory, exact_products, free_bytes, widest_float

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

# Query rows of a block, and the query rows and columns of one product.
_BLOCK_ROWS = 65_536
_ROWS = 8_192
_COLUMNS = 16_384
# Query rows of one product where all columns are searched.
_ROWS_SEARCHED = 2_048
# Columns per group, and the largest size of the array of maxima: in bytes, and as a share of the free memory.
_GROUP = 32
_MAXIMA_BYTES = 1 << 30
_MAXIMA_SHARE = 0.1
# Size of the gathered vectors of groups whose products are computed again at once.
_RECOMPUTED_BYTES = 1 << 28
# A threshold is the k-th largest of about this many times k maxima: hardly more than k columns reach it.
_MAXIMA_PER_K = 16
# Largest number of groups and columns above a threshold, per candidate; rows with more get a search of all columns.
_OVERFLOW_FACTOR = 4
# Memory of a candidate: the products and positions of its group, and its entries in the table of candidates.
_BYTES_PER_CANDIDATE = _GROUP * 12 + _OVERFLOW_FACTOR * 12
# Bounds of how far a product differs when it is computed again, in half and in single precision.
_HALF_TOLERANCE, _TOLERANCE = 1e-3, 1e-5
# Device types on which a search of all columns is faster: a CPU keeps them in its cache and reads each once.
_SEARCHED_ON = ("cpu",)
# Size in float64 of the candidate vectors whose distances are recomputed at once.
_RESCORED_BYTES = 1 << 28
# Candidates beyond k: products in half precision are inexact, and break ties arbitrarily.
_SPARE = 8
# Share of the free memory that the matrix and its copy in half precision may take.
_RESIDENT_SHARE = 0.6
_RECALL_K = 15
_RECALL_SAMPLE = 1_000
# float32 rounding of 1 - x·x for a unit vector of some hundred dimensions stays below this.
_ZERO = 1e-6


def nearest_neighbors(
    vectors: NDArray[Any], *, k: int, recall_target: float, seed: int, devices: Sequence[torch.device]
) -> NeighborGraph:
    """Find the ``k`` nearest other documents of each, by cosine distance.

    On a GPU, products in float16 select ``k + 8`` candidates, whose distances are recomputed in float64. Recall is
    measured against products in float32 on a sample; where it is below the target the search is repeated in float32.
    On CPUs and on Metal all products are in float32. A matrix that does not fit in the device's memory stays on the
    host and is copied block by block.

    Several devices share the blocks of 65,536 query rows; each holds the whole matrix or reads its blocks. The graph is
    the same as that of one device of their kind.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
        As for the backend cpu; a mapped file is fine.
    k : int
        Lowered to ``n - 1`` where it is larger.
    recall_target : float
    devices : sequence of torch.device
        At least one, of one kind.

    Raises
    ------
    ShapeError, CorpusError
        As for the backend cpu.
    EnvironmentFailure
        If even a few blocks do not fit in the device's memory.
    """
    import torch

    unit = unit_rows(vectors)
    n = len(unit)
    k = max(0, min(k, n - 1))
    if n < 2 or k == 0:
        return without_neighbors(n, backend="torch")
    device = devices[0]
    half = device.type == "cuda"
    details: dict[str, Any] = {"reason": "products of blocks", "device": _device_name(device)}
    if len(devices) > 1:
        details["devices"] = len(devices)
    with torch.inference_mode(), exact_products(), device_memory("the neighbour search", device):
        copies = first_copies(unit, k=k)
        matrices = [Matrix(unit, one, copies=copies, half=half) for one in devices]
        details["on_device"] = all(matrix.resident for matrix in matrices)
        indices, distances = _search(matrices, k, half=half)
        recall = 1.0
        if half:
            recall = _recall(matrices[0], distances, k=k, seed=seed)
            details |= {"candidates": "float16", "recall_sample": min(n, _RECALL_SAMPLE), "recall_k": min(k, _RECALL_K)}
            if recall < recall_target:
                details["searched_again"] = f"in float32: candidates in float16 gave a recall of {recall:.4f}"
                indices, distances = _search(matrices, k, half=False)
                recall = 1.0
    return NeighborGraph(
        indices=indices, distances=distances, recall=recall, method="exact", details=details, backend="torch"
    )


class Matrix:
    """The matrix that is searched: on the device where it fits, else on the host.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file.
    device : torch.device
    copies : int32 ndarray, shape (n, c), or None
        The first duplicates of each row (-1 for none), from ``first_copies``; None if all rows differ.
    half : bool
        Whether rows are needed in float16 too.
    """

    def __init__(
        self, unit: NDArray[np.float32], device: torch.device, *, copies: NDArray[np.int32] | None, half: bool
    ) -> None:
        self.unit = unit
        self.device = device
        self.copies = copies
        n_bytes = unit.size * (6 if half else 4)
        self.resident = n_bytes <= _RESIDENT_SHARE * free_bytes(device)
        self._rows = self._moved(0, len(unit)) if self.resident else None
        self._half = self._rows.half() if self._rows is not None and half else None

    def __len__(self) -> int:
        return len(self.unit)

    def rows(self, start: int, stop: int, *, half: bool = False) -> torch.Tensor:
        """Rows from ``start`` to ``stop``, on the device."""
        matrix = self._half if half else self._rows
        if matrix is not None:
            return matrix[start:stop]
        moved = self._moved(start, stop)
        return moved.half() if half else moved

    def chosen(self, positions: torch.Tensor) -> torch.Tensor:
        """Rows at ``positions``, of any shape, on the device."""
        if self._rows is not None:
            return self._rows[positions]
        import torch

        return torch.from_numpy(self.unit[positions.cpu().numpy()]).to(self.device)

    def _moved(self, start: int, stop: int) -> torch.Tensor:
        import torch

        # A mapped file is read-only, and torch wants to be able to write what it shares.
        return torch.from_numpy(np.array(self.unit[start:stop])).to(self.device)


def _search(matrices: Sequence[Matrix], k: int, *, half: bool) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Search all rows; blocks of query rows are distributed round-robin over the devices."""
    import torch

    n = len(matrices[0])
    indices = np.empty((n, k), np.int32)
    distances = np.empty((n, k), np.float32)
    starts = range(0, n, _BLOCK_ROWS)
    stopped = threading.Event()

    def run(number: int) -> None:
        matrix = matrices[number]
        # Inference mode is per thread.
        with torch.inference_mode(), device_memory("the neighbour search", matrix.device):
            for start in starts[number :: len(matrices)]:
                if stopped.is_set():
                    return
                stop = min(start + _BLOCK_ROWS, n)
                candidates = _candidates(matrix, matrix.rows(start, stop, half=half), k=k, half=half)
                indices[start:stop], distances[start:stop] = _measure_block(
                    matrix, matrix.rows(start, stop), start, candidates, k=k
                )

    if len(matrices) == 1:
        run(0)
        return indices, distances
    with ThreadPoolExecutor(len(matrices)) as pool:
        try:
            for done in as_completed([pool.submit(run, number) for number in range(len(matrices))]):
                done.result()
        finally:
            # After a failure of one device the others stop at their next block.
            stopped.set()
    return indices, distances


def nearest_in(
    matrix: Matrix, rows: torch.Tensor, start: int, *, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest rows of a matrix for other rows, by products in float32.

    Parameters
    ----------
    rows : float32 tensor, shape (m, dim)
        On the device of the matrix.
    start : int
        Position of the first row in the matrix, or outside of it: a row is no neighbour of itself.

    Returns
    -------
    int32 ndarray, shape (m, k)
    float32 ndarray, shape (m, k)
        Infinite where a row has fewer.
    """
    return _measure_block(matrix, rows, start, _candidates(matrix, rows, k=k, half=False), k=k)


def _measure_block(
    matrix: Matrix, rows: torch.Tensor, start: int, candidates: torch.Tensor, *, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Recompute the distances of candidates (int64, shape (m, c)) in chunks, and keep the ``k`` nearest of each row."""
    import torch

    indices: list[torch.Tensor] = []
    distances: list[torch.Tensor] = []
    rows_per_chunk = max(1, _RESCORED_BYTES // (8 * rows.shape[1] * max(1, candidates.shape[1])))
    for first in range(0, len(rows), rows_per_chunk):
        chunk = slice(first, min(first + rows_per_chunk, len(rows)))
        chunk_candidates = candidates[chunk]
        if matrix.copies is not None:
            chunk_candidates = _with_copies(chunk_candidates, matrix.copies[start + chunk.start : start + chunk.stop])
        measured_chunk = rescore(
            rows[chunk], matrix.chosen(chunk_candidates.clamp(min=0)), start + first, chunk_candidates, k
        )
        indices.append(measured_chunk[0])
        distances.append(measured_chunk[1])
    # A single copy to the host: each one waits for the device.
    return torch.cat(indices).cpu().numpy(), torch.cat(distances).cpu().numpy()


def measured_again(
    unit: NDArray[np.float32], candidates: NDArray[np.int64], *, k: int, seed: int, device: torch.device
) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
    """Build a graph from the candidates of another search, with distances in float64.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file.
    candidates : int64 ndarray, shape (n, c)
        In any order; the row itself, repetitions and positions outside ``0:n`` are ignored.
    k : int
        Below ``n``.

    Returns
    -------
    indices : int32 ndarray, shape (n, k)
    distances : float32 ndarray, shape (n, k)
        Infinite where a row has fewer than ``k`` candidates.
    recall : float
        Share of the true nearest that are in the graph, on a sample; 0 where a row has fewer than ``k`` candidates.
    """
    import torch

    n = len(unit)
    indices = np.empty((n, k), np.int32)
    distances = np.empty((n, k), np.float32)
    with torch.inference_mode(), exact_products(), device_memory("the neighbour search", device):
        matrix = Matrix(unit, device, copies=first_copies(unit, k=k), half=False)
        for start in range(0, n, _BLOCK_ROWS):
            chunk = candidates[start : start + _BLOCK_ROWS]
            block_candidates = torch.from_numpy(np.where((chunk >= 0) & (chunk < n), chunk, -1)).to(device)
            stop = start + len(chunk)
            rows = matrix.rows(start, stop)
            indices[start:stop], distances[start:stop] = _measure_block(matrix, rows, start, block_candidates, k=k)
        recall = _recall(matrix, distances, k=k, seed=seed) if np.isfinite(distances).all() else 0.0
    return indices, distances, recall


def _with_copies(candidates: torch.Tensor, copies: NDArray[np.int32]) -> torch.Tensor:
    """Add the duplicates of each row to its candidates: int64, shape (m, c + duplicates)."""
    import torch

    return torch.cat((torch.from_numpy(copies.astype(np.int64)).to(candidates.device), candidates), dim=1)


def _candidates(matrix: Matrix, queries: torch.Tensor, *, k: int, half: bool) -> torch.Tensor:
    """Find candidates by products: positions in the matrix for each query, int64 of shape (m, c), in any order."""
    import torch

    n, device = len(matrix), queries.device
    # The row itself is among them.
    n_candidates = min(n, k + 1 + _SPARE)
    # Groups only pay where there are many more of them than candidates.
    if n < 2 * n_candidates * _GROUP or device.type in _SEARCHED_ON:
        return _of_all_columns(matrix, queries, wide=n_candidates, half=half)
    result = torch.empty((len(queries), n_candidates), dtype=torch.int64, device=device)
    chunk_rows, panel = _chunk_sizes(matrix, len(queries), n_candidates=n_candidates, half=half)
    for start in range(0, len(queries), chunk_rows):
        chunk = queries[start : start + chunk_rows]
        best = torch.full((len(chunk), n_candidates), -torch.inf, device=device)
        indices = torch.full((len(chunk), n_candidates), -1, dtype=torch.int64, device=device)
        overflowed = torch.zeros(len(chunk), dtype=torch.bool, device=device)
        for first in range(0, n, panel):
            others = matrix.rows(first, min(first + panel, n), half=half)
            scores, columns = _of_groups(chunk, others, best.amin(1), overflowed, n_candidates=n_candidates)
            best, order = torch.cat((best, scores), dim=1).topk(n_candidates, dim=1)
            indices = torch.cat((indices, columns + first), dim=1).gather(1, order)
        repeated = overflowed.nonzero().squeeze(1)
        if len(repeated):
            indices[repeated] = _of_all_columns(matrix, chunk[repeated], wide=n_candidates, half=half)
        result[start : start + chunk_rows] = indices
    return result


def _chunk_sizes(matrix: Matrix, n_queries: int, *, n_candidates: int, half: bool) -> tuple[int, int]:
    """Query rows and matrix columns of one pass, within the memory for maxima and candidates."""
    budget = int(min(_MAXIMA_BYTES, _MAXIMA_SHARE * free_bytes(matrix.device)))
    columns = budget // (2 if half else 4) * _GROUP
    # A matrix on the host is copied once for all queries.
    rows = max(1, columns // len(matrix) // _ROWS) * _ROWS if matrix.resident else n_queries
    # The table of candidates takes memory as well.
    rows = min(n_queries, rows, max(1, budget // (n_candidates * _BYTES_PER_CANDIDATE)))
    # A threshold needs at least as many groups as candidates.
    return rows, max(-(-2 * n_candidates * _GROUP // _COLUMNS), columns // rows // _COLUMNS) * _COLUMNS


def _of_groups(
    queries: torch.Tensor, others: torch.Tensor, worst: torch.Tensor, overflowed: torch.Tensor, *, n_candidates: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the columns of each query whose products may be among the ``n_candidates`` largest, and a few more.

    Parameters
    ----------
    queries, others : float tensor, shapes (m, dim) and (c, dim)
    worst : float32 tensor, shape (m,)
        Products below this are not candidates.
    overflowed : bool tensor, shape (m,)
        Set in place for rows with more candidates than fit in the table; those get none.

    Returns
    -------
    float32 tensor, shape (m, w)
        Products; minus infinity for empty entries.
    int64 tensor, shape (m, w)
        Positions among ``others``.
    """
    import torch

    m, device, capacity = len(queries), queries.device, _OVERFLOW_FACTOR * n_candidates
    maxima, groups = _maxima(queries, others)
    threshold = torch.maximum(_threshold(maxima, n_candidates), worst)
    is_above = maxima >= threshold.to(maxima.dtype)[:, None]
    overflowed |= is_above.sum(1) > capacity
    flat = is_above.masked_fill_(overflowed[:, None], False).view(-1).nonzero().squeeze(1)
    del maxima, is_above
    row = flat // len(groups)
    products, columns = _again(queries, others, row, groups[flat - row * len(groups)])
    # A recomputed product may be rounded differently.
    lower_bound = threshold - (_HALF_TOLERANCE if queries.dtype == torch.float16 else _TOLERANCE)
    flat = (products >= lower_bound[row][:, None]).view(-1).nonzero().squeeze(1)
    row = row[flat // _GROUP]
    # Entries are sorted by row.
    rank = torch.arange(len(row), device=device) - torch.searchsorted(row, row)
    overflowed[row[rank >= capacity]] = True
    flat, row, rank = (one[rank < capacity] for one in (flat, row, rank))
    scores = torch.full((m, capacity), -torch.inf, device=device)
    indices = torch.zeros((m, capacity), dtype=torch.int64, device=device)
    scores[row, rank], indices[row, rank] = products.view(-1)[flat], columns.view(-1)[flat]
    return scores, indices


def _maxima(queries: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the largest product of each query with each group of columns.

    Returns
    -------
    float tensor, shape (m, groups)
    int64 tensor, shape (groups, 3)
        First column, stride and end of each group. The columns of a group are strided, so that a GPU reduces many
        groups with coalesced reads, and runs of similar rows are spread over several groups.
    """
    import torch

    device = queries.device
    starts = range(0, len(others), _COLUMNS)
    counts = [-(-min(_COLUMNS, len(others) - start) // _GROUP) for start in starts]
    maxima = torch.empty((len(queries), sum(counts)), dtype=queries.dtype, device=device)
    groups: list[torch.Tensor] = []
    for start, count in zip(starts, counts, strict=True):
        tile = others[start : start + _COLUMNS]
        column = sum(map(len, groups))
        for row in range(0, len(queries), _ROWS):
            products = queries[row : row + _ROWS] @ tile.T
            if len(tile) < count * _GROUP:
                products = torch.nn.functional.pad(products, (0, count * _GROUP - len(tile)), value=-torch.inf)
            torch.amax(products.view(-1, _GROUP, count), dim=1, out=maxima[row : row + _ROWS, column : column + count])
        first = torch.arange(start, start + count, device=device)
        ends = torch.tensor((count, start + len(tile)), device=device).expand(count, 2)
        groups.append(torch.cat((first[:, None], ends), dim=1))
    return maxima, torch.cat(groups)


def _threshold(maxima: torch.Tensor, n_candidates: int) -> torch.Tensor:
    """A bound that at least ``n_candidates`` products of each row reach: float32, shape (m,).

    The ``n_candidates``-th largest maximum over groups of groups.
    """
    import torch

    if maxima.shape[1] < n_candidates:
        return torch.full((len(maxima),), -torch.inf, device=maxima.device)
    groups_per_supergroup = max(1, maxima.shape[1] // (_MAXIMA_PER_K * n_candidates))
    count = maxima.shape[1] // groups_per_supergroup
    maxima = maxima[:, : groups_per_supergroup * count].unflatten(1, (groups_per_supergroup, count)).amax(1)
    return maxima.topk(n_candidates, dim=1, sorted=False).values.amin(1).float()


def _again(
    queries: torch.Tensor, others: torch.Tensor, row: torch.Tensor, groups: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute all products of rows (int64, shape (m,)) with groups (m, 3), and their columns: shape (m, group) each."""
    import torch

    products = torch.empty((len(row), _GROUP), device=queries.device)
    columns = groups[:, :1] + groups[:, 1:2] * torch.arange(_GROUP, device=queries.device)
    is_padding = columns >= groups[:, 2:]
    columns.clamp_(max=len(others) - 1)
    rows_per_chunk = max(1, _RECOMPUTED_BYTES // (_GROUP * others.shape[1] * others.element_size()))
    for start in range(0, len(row), rows_per_chunk):
        chunk = slice(start, start + rows_per_chunk)
        products[chunk] = torch.bmm(others[columns[chunk]], queries[row[chunk]][:, :, None]).squeeze(2)
    return products.masked_fill_(is_padding, -torch.inf), columns


def _of_all_columns(matrix: Matrix, queries: torch.Tensor, *, wide: int, half: bool) -> torch.Tensor:
    """As :func:`_candidates`, by ``topk`` over all columns: for small matrices, and rows with very many near ties."""
    import torch

    n, device = len(matrix), matrix.device
    best = torch.full((len(queries), wide), -torch.inf, device=device)
    indices = torch.full((len(queries), wide), -1, dtype=torch.int64, device=device)
    for first in range(0, n, _COLUMNS):
        others = matrix.rows(first, min(first + _COLUMNS, n), half=half)
        for row in range(0, len(queries), _ROWS_SEARCHED):
            chunk = slice(row, row + _ROWS_SEARCHED)
            scores = queries[chunk] @ others.T
            top, column = scores.topk(min(wide, scores.shape[1]), dim=1)
            merged_scores = torch.cat((best[chunk], top.float()), dim=1)
            merged_indices = torch.cat((indices[chunk], column + first), dim=1)
            best[chunk], order = merged_scores.topk(wide, dim=1)
            indices[chunk] = merged_indices.gather(1, order)
    return indices


def rescore(
    rows: torch.Tensor, others: torch.Tensor, first: int, candidates: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Recompute the distances of candidates and keep the ``k`` nearest, ties by position.

    Parameters
    ----------
    rows : float32 tensor, shape (m, dim)
    others : float32 tensor, shape (m, c, dim)
        The rows of the candidates.
    first : int
        Position of the first of ``rows``: a row is no neighbour of itself.
    candidates : int64 tensor, shape (m, c)
        -1 for none; repetitions are ignored.

    Returns
    -------
    int32 tensor, shape (m, k)
    float32 tensor, shape (m, k)
        Cosine distances in [0, 2].
    """
    import torch

    dtype = widest_float(rows.device)
    distance = 1.0 - torch.einsum("mcd,md->mc", others.to(dtype), rows.to(dtype))
    distance = torch.where(distance < _ZERO, torch.zeros_like(distance), distance.clamp(max=2.0))
    self_index = torch.arange(first, first + len(rows), device=rows.device)
    is_excluded = (candidates < 0) | (candidates == self_index[:, None])
    order = torch.argsort(candidates, dim=1, stable=True)
    candidates, is_excluded, distance = (
        candidates.gather(1, order),
        is_excluded.gather(1, order),
        distance.gather(1, order),
    )
    is_duplicate = torch.zeros_like(is_excluded)
    is_duplicate[:, 1:] = candidates[:, 1:] == candidates[:, :-1]
    distance = torch.where(is_excluded | is_duplicate, torch.full_like(distance, torch.inf), distance)
    order = torch.argsort(distance.float(), dim=1, stable=True)[:, :k]
    return candidates.gather(1, order).to(torch.int32), distance.gather(1, order).float()


def _recall(matrix: Matrix, distances: NDArray[np.float32], *, k: int, seed: int) -> float:
    """Recall on a sample; a neighbour counts if it is as near as the last true one (duplicates are interchangeable)."""
    import torch

    n, size = len(matrix), min(k, _RECALL_K)
    sample = np.sort(np.random.default_rng(seed).choice(n, min(n, _RECALL_SAMPLE), replace=False))
    queries = matrix.chosen(torch.from_numpy(sample).to(matrix.device))
    self_index = torch.from_numpy(sample).to(matrix.device)
    best = torch.full((len(sample), size), -torch.inf, device=matrix.device)
    for first in range(0, n, _COLUMNS):
        stop = min(first + _COLUMNS, n)
        scores = queries @ matrix.rows(first, stop).T
        in_tile = (self_index >= first) & (self_index < stop)
        scores[in_tile.nonzero().squeeze(1), self_index[in_tile] - first] = -torch.inf
        best = torch.cat((best, scores.topk(min(size, stop - first), dim=1).values), dim=1).topk(size, dim=1).values
    limit = np.maximum(1.0 - best[:, -1].cpu().numpy(), 0.0) + _ZERO
    return float((distances[sample, :size] <= limit[:, None]).mean())


def _device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
