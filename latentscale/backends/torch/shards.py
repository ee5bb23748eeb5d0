"""Exact nearest neighbours over shards of the vectors, one per worker, where no device can hold them all.

Every block of query rows is sent to all shards; each returns its nearest rows, with distances in float64, and the
results are merged.
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

# Query rows of a block.
_BLOCK_ROWS = 16_384

ShardResult = tuple["NDArray[np.int32]", "NDArray[np.float32]"]
"""Indices and cosine distances of the nearest rows of a shard; -1 and infinite where there are fewer."""
QueryShards = Callable[[Iterator["tuple[int, NDArray[np.float32]]"]], Iterator[list[ShardResult]]]
"""Queries all shards: takes blocks (position of the first row, rows), yields the results of all shards per block."""


class Shard:
    """A range of the rows, on a device, or on the host where they do not fit.

    Parameters
    ----------
    rows : float32 ndarray, shape (m, dim)
        Unit rows.
    first : int
        Position of the first of them in the whole matrix.
    device : str, optional
        torch's name; by default the GPU of this process.
    """

    def __init__(self, rows: NDArray[np.float32], first: int, *, device: str | None = None) -> None:
        import torch

        self._first = first
        self._device = open_device(device)
        with torch.inference_mode(), device_memory("a shard of the vectors", self._device):
            self._matrix = Matrix(rows, self._device, copies=None, half=False)

    def nearest(self, queries: NDArray[np.float32], start: int, k: int) -> ShardResult:
        """Find the ``k`` nearest rows of this shard for some rows, the first of which is at position ``start``."""
        import torch

        with torch.inference_mode(), exact_products(), device_memory("the neighbour search", self._device):
            rows = torch.from_numpy(np.array(queries)).to(self._device)
            indices, distance = nearest_in(self._matrix, rows, start - self._first, k=min(k, len(self._matrix)))
        is_found = np.isfinite(distance)
        return np.where(is_found, indices + self._first, -1).astype(np.int32), distance


def sharded_neighbors(vectors: NDArray[Any], *, k: int, query_shards: QueryShards, shards: int) -> NeighborGraph:
    """Find the ``k`` nearest other documents of each; products are in float32.

    Parameters
    ----------
    vectors : ndarray, shape (n, dim)
        As for the backend cpu; a mapped file is fine.
    k : int
        Lowered to ``n - 1`` where it is larger.
    query_shards : callable
    shards : int
        Their number, for the record.

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
    starts = range(0, n, _BLOCK_ROWS)
    query_blocks = ((start, np.array(unit[start : start + _BLOCK_ROWS])) for start in starts)
    for start, results in zip(starts, query_shards(query_blocks), strict=True):
        stop = min(start + _BLOCK_ROWS, n)
        if copies is not None:
            block_copies = copies[start:stop]
            # Duplicates have a distance of exactly 0.
            results = [*results, (block_copies, np.where(block_copies >= 0, 0.0, np.inf).astype(np.float32))]
        indices[start:stop], distances[start:stop] = _merge(results, start, k)
    details = {"reason": "products of blocks with shards of the vectors", "shards": shards}
    return NeighborGraph(
        indices=indices, distances=distances, recall=1.0, method="exact", details=details, backend="torch"
    )


def _merge(results: Sequence[ShardResult], start: int, k: int) -> ShardResult:
    """Merge the results of all shards: the ``k`` nearest, ties by position, without repetitions and the row itself."""
    indices = np.concatenate([positions for positions, _ in results], axis=1)
    distance = np.concatenate([distance for _, distance in results], axis=1)
    self_index = np.arange(start, start + len(indices))[:, None]
    order = np.argsort(indices, axis=1, kind="stable")
    indices, distance = np.take_along_axis(indices, order, 1), np.take_along_axis(distance, order, 1)
    is_excluded = (indices < 0) | (indices == self_index)
    is_excluded[:, 1:] |= indices[:, 1:] == indices[:, :-1]
    distance = np.where(is_excluded, np.float32(np.inf), distance)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indices, order, 1), np.take_along_axis(distance, order, 1)
