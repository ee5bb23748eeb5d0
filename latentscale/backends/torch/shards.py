"""Exact neighbours over shards of the vectors, each held by a worker: no device needs to hold them all.

Every block of asking rows goes to all shards; each answers with its nearest, measured in float64, and the nearest of
them all are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latentscale.backends.cpu.neighbors import first_copies, without_neighbors
from latentscale.backends.cpu.vectors import unit_rows
from latentscale.backends.results import NeighborGraph
from latentscale.backends.torch.device import device_memory, exact_products, open_device
from latentscale.backends.torch.neighbors import Matrix, nearest_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows that ask together.
_ASKING = 16_384

Answer = tuple["NDArray[np.int32]", "NDArray[np.float32]"]
"""Positions and cosine distances of the nearest that a shard has: -1 and infinite where there are fewer."""
Ask = Callable[[Iterator["tuple[int, NDArray[np.float32]]"]], Iterator[list[Answer]]]
"""Asks all shards: takes blocks of the position of the first row and the rows, gives their answers in order."""


class Shard:
    """Some of the rows, on a device; on the host where they do not fit.

    Parameters
    ----------
    rows : float32 ndarray, shape (m, dim)
        Unit rows.
    first : int
        Position of the first of them among all.
    device : str, optional
        As torch names it; by default the GPU that this process was given.
    """

    def __init__(self, rows: NDArray[np.float32], first: int, *, device: str | None = None) -> None:
        import torch

        self._first = first
        self._device = open_device(device)
        with torch.inference_mode(), device_memory("a shard of the vectors", self._device):
            self._matrix = Matrix(rows, self._device, copies=None, half=False)

    def nearest(self, asking: NDArray[np.float32], start: int, k: int) -> Answer:
        """Find the ``k`` nearest rows of this shard for some rows, the first of which is at position ``start``."""
        import torch

        with torch.inference_mode(), exact_products(), device_memory("the neighbour search", self._device):
            rows = torch.from_numpy(np.array(asking)).to(self._device)
            found, distance = nearest_in(self._matrix, rows, start - self._first, k=min(k, len(self._matrix)))
        there = np.isfinite(distance)
        return np.where(there, found + self._first, -1).astype(np.int32), distance


def sharded_neighbors(vectors: NDArray[Any], *, k: int, ask: Ask, shards: int) -> NeighborGraph:
    """Find the ``k`` nearest other documents of each; products are in float32.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
        As for the backend cpu; a mapped file is fine.
    k : int
        Lowered to ``n - 1`` where it is larger.
    ask : callable
    shards : int
        For the record.

    Raises
    ------
    ShapeError, CorpusError
        As for the backend cpu.
    """
    unit = unit_rows(vectors)
    n = len(unit)
    k = max(0, min(k, n - 1))
    if n < 2 or k == 0:
        return without_neighbors(n, backend="torch")
    copies = first_copies(unit, k=k)
    indices = np.empty((n, k), np.int32)
    distances = np.empty((n, k), np.float32)
    starts = range(0, n, _ASKING)
    asked = ((start, np.array(unit[start : start + _ASKING])) for start in starts)
    for start, answers in zip(starts, ask(asked), strict=True):
        stop = min(start + _ASKING, n)
        if copies is not None:
            some = copies[start:stop]
            # What is identical has a distance of exactly 0.
            answers = [*answers, (some, np.where(some >= 0, 0.0, np.inf).astype(np.float32))]
        indices[start:stop], distances[start:stop] = _merged(answers, start, k)
    details = {"reason": "products of blocks with shards of the vectors", "shards": shards}
    return NeighborGraph(
        indices=indices, distances=distances, recall=1.0, method="exact", details=details, backend="torch"
    )


def _merged(answers: Sequence[Answer], start: int, k: int) -> Answer:
    """The ``k`` nearest of all answers, ties by position; none twice, and not the row itself."""
    found = np.concatenate([positions for positions, _ in answers], axis=1)
    distance = np.concatenate([apart for _, apart in answers], axis=1)
    own = np.arange(start, start + len(found))[:, None]
    order = np.argsort(found, axis=1, kind="stable")
    found, distance = np.take_along_axis(found, order, 1), np.take_along_axis(distance, order, 1)
    barred = (found < 0) | (found == own)
    barred[:, 1:] |= found[:, 1:] == found[:, :-1]
    distance = np.where(barred, np.float32(np.inf), distance)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, order, 1), np.take_along_axis(distance, order, 1)
