"""Find the nearest documents of every document by products of blocks of the matrix with itself.

To look for the first k of many columns takes a GPU many times longer than to compute them. So of each group of 32
columns only the largest product is kept. The k-th largest of groups of groups is a threshold that at least k columns
reach, and hardly more: only the few groups that reach it are computed again, and the columns in them that reach it are
candidates.
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

# Rows that ask together, rows of them in one product, and rows that answer in one product.
_ASKING = 65_536
_ROWS = 8_192
_COLUMNS = 16_384
# Of products of which all columns are searched.
_ROWS_SEARCHED = 2_048
# Columns of which the largest product is kept, and the bytes that those of some rows may take: of the free memory, too.
_GROUP = 32
_KEPT_BYTES = 1 << 30
_KEPT_SHARE = 0.1
# Groups whose products are computed again at once, in bytes of their vectors.
_AGAIN_BYTES = 1 << 28
# A threshold is the k-th of about so many times k maxima: then the columns that reach it are hardly more than k.
_SPREAD = 16
# Groups and columns beyond a threshold, times those that are needed: of a row with more all columns are searched.
_MOST = 4
# Of a candidate: the products and positions of its group, and its share of the table of those beyond the threshold.
_BYTES_OF_ONE = _GROUP * 12 + _MOST * 12
# Products come out in half precision or in single, and are rounded otherwise when they are computed again.
_HALF_STEP, _STEP = 1e-3, 1e-5
# Where a search of all columns is the faster one: a processor reads them in its cache, and each only once.
_SEARCHED_ON = ("cpu",)
# Bytes of the candidates, in float64, that are measured again at once.
_MEASURED_BYTES = 1 << 28
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
    most = max(1, _MEASURED_BYTES // (8 * rows.shape[1] * max(1, found.shape[1])))
    for at in range(0, len(rows), most):
        part = slice(at, min(at + most, len(rows)))
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

    n, device = len(matrix), asking.device
    # The row itself is among them.
    wide = min(n, k + 1 + _SPARE)
    # Where there are not many more groups than candidates, they are no help.
    if n < 2 * wide * _GROUP or device.type in _SEARCHED_ON:
        return _of_all_columns(matrix, asking, wide=wide, half=half)
    found = torch.empty((len(asking), wide), dtype=torch.int64, device=device)
    rows, panel = _at_once(matrix, len(asking), wide=wide, half=half)
    for start in range(0, len(asking), rows):
        some = asking[start : start + rows]
        best = torch.full((len(some), wide), -torch.inf, device=device)
        names = torch.full((len(some), wide), -1, dtype=torch.int64, device=device)
        crowded = torch.zeros(len(some), dtype=torch.bool, device=device)
        for first in range(0, n, panel):
            others = matrix.rows(first, min(first + panel, n), half=half)
            scores, columns = _of_groups(some, others, best.amin(1), crowded, wide=wide)
            best, order = torch.cat((best, scores), dim=1).topk(wide, dim=1)
            names = torch.cat((names, columns + first), dim=1).gather(1, order)
        again = crowded.nonzero().squeeze(1)
        if len(again):
            names[again] = _of_all_columns(matrix, some[again], wide=wide, half=half)
        found[start : start + rows] = names
    return found


def _at_once(matrix: Matrix, asking: int, *, wide: int, half: bool) -> tuple[int, int]:
    """Rows that ask, and columns of which the maxima are kept."""
    most = int(min(_KEPT_BYTES, _KEPT_SHARE * free_bytes(matrix.device)))
    columns = most // (2 if half else 4) * _GROUP
    # What comes from the host comes once for all that ask.
    rows = max(1, columns // len(matrix) // _ROWS) * _ROWS if matrix.resident else asking
    # What reaches a threshold takes memory, too.
    rows = min(asking, rows, max(1, most // (wide * _BYTES_OF_ONE)))
    # Of fewer groups than candidates there is no threshold.
    return rows, max(-(-2 * wide * _GROUP // _COLUMNS), columns // rows // _COLUMNS) * _COLUMNS


def _of_groups(
    asking: torch.Tensor, others: torch.Tensor, worst: torch.Tensor, crowded: torch.Tensor, *, wide: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each row that asks, the products with other rows that may be among the ``wide`` largest, and a few more.

    Parameters
    ----------
    asking, others : float tensor, shapes (m, dim) and (c, dim)
    worst : float32 tensor, shape (m,)
        Smaller products are not wanted.
    crowded : bool tensor, shape (m,)
        Rows with more products than can be kept are marked here; of those nothing is given.

    Returns
    -------
    float32 tensor, shape (m, w)
        Minus infinity for none.
    int64 tensor, shape (m, w)
        Positions among ``others``.
    """
    import torch

    m, device, most = len(asking), asking.device, _MOST * wide
    maxima, groups = _maxima(asking, others)
    threshold = torch.maximum(_threshold(maxima, wide), worst)
    near = maxima >= threshold.to(maxima.dtype)[:, None]
    crowded |= near.sum(1) > most
    flat = near.masked_fill_(crowded[:, None], False).view(-1).nonzero().squeeze(1)
    del maxima, near
    row = flat // len(groups)
    products, columns = _again(asking, others, row, groups[flat - row * len(groups)])
    # Rounded otherwise than before.
    least = threshold - (_HALF_STEP if asking.dtype == torch.float16 else _STEP)
    flat = (products >= least[row][:, None]).view(-1).nonzero().squeeze(1)
    row = row[flat // _GROUP]
    # They come row by row.
    rank = torch.arange(len(row), device=device) - torch.searchsorted(row, row)
    crowded[row[rank >= most]] = True
    flat, row, rank = (one[rank < most] for one in (flat, row, rank))
    scores = torch.full((m, most), -torch.inf, device=device)
    names = torch.zeros((m, most), dtype=torch.int64, device=device)
    scores[row, rank], names[row, rank] = products.view(-1)[flat], columns.view(-1)[flat]
    return scores, names


def _maxima(asking: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest product of each row that asks with each group of other rows.

    Returns
    -------
    float tensor, shape (m, groups)
    int64 tensor, shape (groups, 3)
        The first position of each group, the step to the next, and the end of all: columns of a group lie apart, so
        that a GPU reads many groups side by side, and what is alike and follows each other is in several.
    """
    import torch

    device = asking.device
    starts = range(0, len(others), _COLUMNS)
    counts = [-(-min(_COLUMNS, len(others) - start) // _GROUP) for start in starts]
    maxima = torch.empty((len(asking), sum(counts)), dtype=asking.dtype, device=device)
    groups: list[torch.Tensor] = []
    for start, count in zip(starts, counts, strict=True):
        some = others[start : start + _COLUMNS]
        at = sum(map(len, groups))
        for row in range(0, len(asking), _ROWS):
            products = asking[row : row + _ROWS] @ some.T
            if len(some) < count * _GROUP:
                products = torch.nn.functional.pad(products, (0, count * _GROUP - len(some)), value=-torch.inf)
            torch.amax(products.view(-1, _GROUP, count), dim=1, out=maxima[row : row + _ROWS, at : at + count])
        first = torch.arange(start, start + count, device=device)
        ends = torch.tensor((count, start + len(some)), device=device).expand(count, 2)
        groups.append(torch.cat((first[:, None], ends), dim=1))
    return maxima, torch.cat(groups)


def _threshold(maxima: torch.Tensor, wide: int) -> torch.Tensor:
    """What at least ``wide`` products of each row reach: the last of so many maxima of groups of groups (float32)."""
    import torch

    if maxima.shape[1] < wide:
        return torch.full((len(maxima),), -torch.inf, device=maxima.device)
    together = max(1, maxima.shape[1] // (_SPREAD * wide))
    count = maxima.shape[1] // together
    maxima = maxima[:, : together * count].unflatten(1, (together, count)).amax(1)
    return maxima.topk(wide, dim=1, sorted=False).values.amin(1).float()


def _again(
    asking: torch.Tensor, others: torch.Tensor, row: torch.Tensor, groups: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """All products of rows (int64, shape (m,)) with groups (m, 3): float32 and int64 of shape (m, columns)."""
    import torch

    products = torch.empty((len(row), _GROUP), device=asking.device)
    columns = groups[:, :1] + groups[:, 1:2] * torch.arange(_GROUP, device=asking.device)
    absent = columns >= groups[:, 2:]
    columns.clamp_(max=len(others) - 1)
    at_once = max(1, _AGAIN_BYTES // (_GROUP * others.shape[1] * others.element_size()))
    for start in range(0, len(row), at_once):
        part = slice(start, start + at_once)
        products[part] = torch.bmm(others[columns[part]], asking[row[part]][:, :, None]).squeeze(2)
    return products.masked_fill_(absent, -torch.inf), columns


def _of_all_columns(matrix: Matrix, asking: torch.Tensor, *, wide: int, half: bool) -> torch.Tensor:
    """As :func:`_candidates`, by a search of all products: for small matrices, and rows with many that are alike."""
    import torch

    n, device = len(matrix), matrix.device
    best = torch.full((len(asking), wide), -torch.inf, device=device)
    found = torch.full((len(asking), wide), -1, dtype=torch.int64, device=device)
    for first in range(0, n, _COLUMNS):
        others = matrix.rows(first, min(first + _COLUMNS, n), half=half)
        for row in range(0, len(asking), _ROWS_SEARCHED):
            part = slice(row, row + _ROWS_SEARCHED)
            scores = asking[part] @ others.T
            top, place = scores.topk(min(wide, scores.shape[1]), dim=1)
            together = torch.cat((best[part], top.float()), dim=1)
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
