"""Find the nearest documents of every document by products of blocks of the matrix with itself."""

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

# Rows that ask together, rows of them in one product, and rows that answer in one product.
_ASKING = 65_536
_ROWS = 2_048
_COLUMNS = 16_384
# Rows whose candidates are measured again at once.
_MEASURED = 1_024
# So many candidates more than asked for are measured again: products in half precision are rough, and break ties.
_SPARE = 8
# Of the free memory, for the matrix and its copy in half precision.
_SHARE = 0.6
_RECALL_K = 15
_RECALL_SAMPLE = 1_000
# float32 rounding of 1 - x·x for a unit vector of some hundred dimensions stays below this.
_ZERO = 1e-6


def nearest_neighbors(
    vectors: NDArray[Any], *, k: int, recall_target: float, seed: int, devices: Sequence[torch.device]
) -> NeighborGraph:
    """Find the ``k`` nearest other documents of each, by cosine distance.

    On a GPU candidates come from products in float16, and ``k`` and eight more are measured again in float64: the
    recall is measured against products in float32 for a sample, and where it is below the target all is searched in
    float32. On processors and on Metal all products are in float32. A matrix that does not fit in the device's memory
    stays where it is, and comes block by block.

    Several devices take blocks of 65,536 asking rows in turn, each with the whole matrix or its blocks: the graph is
    that of one device of their kind.

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
    details: dict[str, Any] = {"reason": "products of blocks", "device": _name(device)}
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
    """The rows that are searched, on the device where they fit, else on the host.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file.
    device : torch.device
    copies : int32 ndarray, shape (n, c), or None
        The first copies of each row (-1 for none), where rows are alike.
    half : bool
        Whether rows are needed in float16 too.
    """

    def __init__(
        self, unit: NDArray[np.float32], device: torch.device, *, copies: NDArray[np.int32] | None, half: bool
    ) -> None:
        self.unit = unit
        self.device = device
        self.copies = copies
        size = unit.size * (6 if half else 4)
        self.resident = size <= _SHARE * free_bytes(device)
        self._rows = self._moved(0, len(unit)) if self.resident else None
        self._half = self._rows.half() if self._rows is not None and half else None

    def __len__(self) -> int:
        return len(self.unit)

    def rows(self, start: int, stop: int, *, half: bool = False) -> torch.Tensor:
        """Rows from ``start`` to ``stop``, on the device."""
        held = self._half if half else self._rows
        if held is not None:
            return held[start:stop]
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
    """The graph, by blocks of asking rows that go to the devices in turn."""
    import torch

    n = len(matrices[0])
    indices = np.empty((n, k), np.int32)
    distances = np.empty((n, k), np.float32)
    starts = range(0, n, _ASKING)
    ended = threading.Event()

    def work(number: int) -> None:
        matrix = matrices[number]
        # The mode is that of a thread.
        with torch.inference_mode(), device_memory("the neighbour search", matrix.device):
            for start in starts[number :: len(matrices)]:
                if ended.is_set():
                    return
                stop = min(start + _ASKING, n)
                found = _candidates(matrix, matrix.rows(start, stop, half=half), k=k, half=half)
                indices[start:stop], distances[start:stop] = _measure_block(
                    matrix, matrix.rows(start, stop), start, found, k=k
                )

    if len(matrices) == 1:
        work(0)
        return indices, distances
    with ThreadPoolExecutor(len(matrices)) as pool:
        try:
            for done in as_completed([pool.submit(work, number) for number in range(len(matrices))]):
                done.result()
        finally:
            # After a failure of one the others need not go on.
            ended.set()
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
        Where the first of them is in the matrix, or would be: a row is no neighbour of itself.

    Returns
    -------
    int32 ndarray, shape (m, k)
    float32 ndarray, shape (m, k)
        Infinite where a row has fewer.
    """
    return _measure_block(matrix, rows, start, _candidates(matrix, rows, k=k, half=False), k=k)


def _measure_block(
    matrix: Matrix, rows: torch.Tensor, start: int, found: torch.Tensor, *, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    import torch

    near: list[torch.Tensor] = []
    apart: list[torch.Tensor] = []
    for at in range(0, len(rows), _MEASURED):
        part = slice(at, min(at + _MEASURED, len(rows)))
        some = found[part]
        if matrix.copies is not None:
            some = _with_copies(some, matrix.copies[start + part.start : start + part.stop])
        measures = measured(rows[part], matrix.chosen(some.clamp(min=0)), start + at, some, k)
        near.append(measures[0])
        apart.append(measures[1])
    # One copy to the host: each waits for the device.
    return torch.cat(near).cpu().numpy(), torch.cat(apart).cpu().numpy()


def measured_again(
    unit: NDArray[np.float32], candidates: NDArray[np.int64], *, k: int, seed: int, device: torch.device
) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
    """Make a graph of the candidates of another search, measured in float64.

    Parameters
    ----------
    unit : float32 ndarray, shape (n, dim)
        Unit rows; may be a mapped file.
    candidates : int64 ndarray, shape (n, c)
        In any order; the row itself, one that is there twice and one that does not exist are no neighbours.
    k : int
        Below ``n``.

    Returns
    -------
    indices : int32 ndarray, shape (n, k)
    distances : float32 ndarray, shape (n, k)
        Infinite where a row has fewer than ``k`` candidates.
    recall : float
        Share of the true nearest that are among them, on a sample; 0 where a row has too few.
    """
    import torch

    n = len(unit)
    indices = np.empty((n, k), np.int32)
    distances = np.empty((n, k), np.float32)
    with torch.inference_mode(), exact_products(), device_memory("the neighbour search", device):
        matrix = Matrix(unit, device, copies=first_copies(unit, k=k), half=False)
        for start in range(0, n, _ASKING):
            some = candidates[start : start + _ASKING]
            found = torch.from_numpy(np.where((some >= 0) & (some < n), some, -1)).to(device)
            stop = start + len(some)
            rows = matrix.rows(start, stop)
            indices[start:stop], distances[start:stop] = _measure_block(matrix, rows, start, found, k=k)
        recall = _recall(matrix, distances, k=k, seed=seed) if np.isfinite(distances).all() else 0.0
    return indices, distances, recall


def _with_copies(found: torch.Tensor, copies: NDArray[np.int32]) -> torch.Tensor:
    import torch

    return torch.cat((torch.from_numpy(copies.astype(np.int64)).to(found.device), found), dim=1)


def _candidates(matrix: Matrix, asking: torch.Tensor, *, k: int, half: bool) -> torch.Tensor:
    """The nearest rows of a matrix by products: positions (int64) for each row that asks, in no order that matters."""
    import torch

    n, device = len(matrix), matrix.device
    # The row itself is among them.
    wide = min(n, k + 1 + _SPARE)
    best = torch.full((len(asking), wide), -torch.inf, device=device)
    found = torch.full((len(asking), wide), -1, dtype=torch.int64, device=device)
    for first in range(0, n, _COLUMNS):
        others = matrix.rows(first, min(first + _COLUMNS, n), half=half)
        for row in range(0, len(asking), _ROWS):
            part = slice(row, row + _ROWS)
            scores = (asking[part] @ others.T).float()
            top, place = scores.topk(min(wide, scores.shape[1]), dim=1)
            together = torch.cat((best[part], top), dim=1)
            names = torch.cat((found[part], place + first), dim=1)
            best[part], order = together.topk(wide, dim=1)
            found[part] = names.gather(1, order)
    return found


def measured(
    rows: torch.Tensor, others: torch.Tensor, first: int, candidates: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Measure candidates again and keep the ``k`` nearest, ties by position.

    Parameters
    ----------
    rows : float32 tensor, shape (m, dim)
    others : float32 tensor, shape (m, c, dim)
        The rows of the candidates.
    first : int
        Position of the first of ``rows``: a row is no neighbour of itself.
    candidates : int64 tensor, shape (m, c)
        -1 for none; one may be there twice.

    Returns
    -------
    int32 tensor, shape (m, k)
    float32 tensor, shape (m, k)
        Cosine distances in [0, 2].
    """
    import torch

    wide = widest_float(rows.device)
    distance = 1.0 - torch.einsum("mcd,md->mc", others.to(wide), rows.to(wide))
    distance = torch.where(distance < _ZERO, torch.zeros_like(distance), distance.clamp(max=2.0))
    own = torch.arange(first, first + len(rows), device=rows.device)
    absent = (candidates < 0) | (candidates == own[:, None])
    order = torch.argsort(candidates, dim=1, stable=True)
    candidates, absent, distance = candidates.gather(1, order), absent.gather(1, order), distance.gather(1, order)
    twice = torch.zeros_like(absent)
    twice[:, 1:] = candidates[:, 1:] == candidates[:, :-1]
    distance = torch.where(absent | twice, torch.full_like(distance, torch.inf), distance)
    order = torch.argsort(distance.float(), dim=1, stable=True)[:, :k]
    return candidates.gather(1, order).to(torch.int32), distance.gather(1, order).float()


def _recall(matrix: Matrix, distances: NDArray[np.float32], *, k: int, seed: int) -> float:
    """Share of the true nearest that were found, on a sample; identical documents are interchangeable."""
    import torch

    n, size = len(matrix), min(k, _RECALL_K)
    sample = np.sort(np.random.default_rng(seed).choice(n, min(n, _RECALL_SAMPLE), replace=False))
    asking = matrix.chosen(torch.from_numpy(sample).to(matrix.device))
    own = torch.from_numpy(sample).to(matrix.device)
    best = torch.full((len(sample), size), -torch.inf, device=matrix.device)
    for first in range(0, n, _COLUMNS):
        stop = min(first + _COLUMNS, n)
        scores = asking @ matrix.rows(first, stop).T
        here = (own >= first) & (own < stop)
        scores[here.nonzero().squeeze(1), own[here] - first] = -torch.inf
        best = torch.cat((best, scores.topk(min(size, stop - first), dim=1).values), dim=1).topk(size, dim=1).values
    limit = np.maximum(1.0 - best[:, -1].cpu().numpy(), 0.0) + _ZERO
    return float((distances[sample, :size] <= limit[:, None]).mean())


def _name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
