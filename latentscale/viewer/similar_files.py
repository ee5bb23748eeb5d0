"""Write the nearest neighbours of each document as small static files, for "more like this" on the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.viewer.rows import parquet_bytes
from latentscale.viewer.section import Put, Section
from latentscale.viewer.similar import ReverseNeighbors, Similar

# Documents per file: LEAST_ROWS, doubled up to MOST_ROWS while there would be more than MOST_FILES files. At most
# MOST_ROWS documents, as in a small update, are one file.
LEAST_ROWS, MOST_ROWS = 256, 1_024
MOST_FILES = 1_024
REVERSE_ROWS = 8_192


def similar_section(similar: Similar, positions: NDArray[np.int64]) -> Section:
    """The section ``similar`` of a generation.

    Parameters
    ----------
    positions : int64 ndarray, shape (n,)
        The position of each row in the generation.
    """
    return Section(name="similar", version=1, write=lambda _, put: _write(similar, positions, put))


def _write(similar: Similar, positions: NDArray[np.int64], put: Put) -> dict[str, Any] | None:
    n, k = similar.neighbors.shape
    if k == 0:
        return None
    rows = LEAST_ROWS if n > MOST_ROWS else MOST_ROWS
    while rows < MOST_ROWS and -(-n // rows) > MOST_FILES:
        rows *= 2
    order = np.empty(n, np.int64)
    order[positions] = np.arange(n)
    for shard, start in enumerate(range(0, n, rows)):
        shard_rows = order[start : start + rows]
        neighbors = similar.neighbors[shard_rows]
        generation = None if similar.generation is None else similar.generation[shard_rows]
        if generation is None:
            neighbor_positions = positions[neighbors]
        else:
            neighbor_positions = _neighbor_positions(neighbors, generation, positions)
        columns = {
            "place": pa.array(neighbor_positions.reshape(-1).astype(np.uint32)),
            "similarity": _steps(similar.similarity[shard_rows]),
        }
        if generation is not None:
            columns["of"] = pa.array(generation.reshape(-1))
        put(f"lists/{shard}.parquet", parquet_bytes(pa.table(columns), level=3))
    entry: dict[str, Any] = {"documents": n, "k": k, "rows": rows}
    if similar.earlier:
        entry["earlier"] = list(similar.earlier)
    if similar.reverse is not None and len(similar.reverse.rows):
        entry["back"] = {"rows": REVERSE_ROWS, "first": _write_reverse(similar.reverse, positions, put)}
    return entry


def _neighbor_positions(
    neighbors: NDArray[np.int64], generation: NDArray[np.uint8], positions: NDArray[np.int64]
) -> NDArray[np.int64]:
    neighbor_positions = neighbors.copy()
    neighbor_positions[generation == 0] = positions[neighbors[generation == 0]]
    return neighbor_positions


def _write_reverse(reverse: ReverseNeighbors, positions: NDArray[np.int64], put: Put) -> list[list[int]]:
    """Write the pairs, sorted by the earlier document; return (generation, position) of the first one of each file."""
    order = np.lexsort((-reverse.similarity, reverse.positions, reverse.generation))
    first: list[list[int]] = []
    for start in range(0, len(order), REVERSE_ROWS):
        pairs = order[start : start + REVERSE_ROWS]
        table = pa.table(
            {
                "of": pa.array(reverse.generation[pairs]),
                "place": pa.array(reverse.positions[pairs].astype(np.uint32)),
                "like": pa.array(positions[reverse.rows[pairs]].astype(np.uint32)),
                "similarity": _steps(reverse.similarity[pairs]),
            }
        )
        put(f"back/{len(first)}.parquet", parquet_bytes(table, encoding={"place": "DELTA_BINARY_PACKED"}, level=3))
        first.append([int(reverse.generation[pairs[0]]), int(reverse.positions[pairs[0]])])
    return first


def _steps(similarity: NDArray[np.float32]) -> pa.Array:
    return pa.array(np.rint(255 * similarity.reshape(-1).clip(0.0, 1.0)).astype(np.uint8))
