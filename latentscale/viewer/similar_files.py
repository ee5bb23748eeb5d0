"""Write the nearest neighbours of each document as small static files, for "more like this" on the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.viewer.rows import parquet_bytes
from latentscale.viewer.section import Put, Section
from latentscale.viewer.similar import Back, Similar

# So many documents a file, and twice or four times as many where there would be more than a thousand files; those of a
# small update are in one.
LEAST_ROWS, MOST_ROWS = 256, 1_024
MOST_FILES = 1_024
BACK_ROWS = 8_192


def similar_section(similar: Similar, positions: NDArray[np.int64]) -> Section:
    """The section ``similar`` of a generation.

    Parameters
    ----------
    positions : int64 ndarray, shape (n,)
        The position of each row in the generation.
    """
    return Section(name="similar", version=1, write=lambda _, put: _write(similar, positions, put))


def _write(similar: Similar, positions: NDArray[np.int64], put: Put) -> dict[str, Any] | None:
    n, k = similar.places.shape
    if k == 0:
        return None
    rows = LEAST_ROWS if n > MOST_ROWS else MOST_ROWS
    while rows < MOST_ROWS and -(-n // rows) > MOST_FILES:
        rows *= 2
    order = np.empty(n, np.int64)
    order[positions] = np.arange(n)
    for shard, start in enumerate(range(0, n, rows)):
        here = order[start : start + rows]
        places, of = similar.places[here], None if similar.of is None else similar.of[here]
        places = positions[places] if of is None else _places(places, of, positions)
        columns = {
            "place": pa.array(places.reshape(-1).astype(np.uint32)),
            "similarity": _steps(similar.similarity[here]),
        }
        if of is not None:
            columns["of"] = pa.array(of.reshape(-1))
        put(f"lists/{shard}.parquet", parquet_bytes(pa.table(columns), level=3))
    entry: dict[str, Any] = {"documents": n, "k": k, "rows": rows}
    if similar.earlier:
        entry["earlier"] = list(similar.earlier)
    if similar.back is not None and len(similar.back.rows):
        entry["back"] = {"rows": BACK_ROWS, "first": _write_back(similar.back, positions, put)}
    return entry


def _places(places: NDArray[np.int64], of: NDArray[np.uint8], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    found = places.copy()
    found[of == 0] = positions[places[of == 0]]
    return found


def _write_back(back: Back, positions: NDArray[np.int64], put: Put) -> list[list[int]]:
    """Write the pairs in the order of the earlier documents; return that of the first of each file."""
    order = np.lexsort((-back.similarity, back.places, back.of))
    first: list[list[int]] = []
    for start in range(0, len(order), BACK_ROWS):
        here = order[start : start + BACK_ROWS]
        table = pa.table(
            {
                "of": pa.array(back.of[here]),
                "place": pa.array(back.places[here].astype(np.uint32)),
                "like": pa.array(positions[back.rows[here]].astype(np.uint32)),
                "similarity": _steps(back.similarity[here]),
            }
        )
        put(f"back/{len(first)}.parquet", parquet_bytes(table, encoding={"place": "DELTA_BINARY_PACKED"}, level=3))
        first.append([int(back.of[here[0]]), int(back.places[here[0]])])
    return first


def _steps(similarity: NDArray[np.float32]) -> pa.Array:
    return pa.array(np.rint(255 * similarity.reshape(-1).clip(0.0, 1.0)).astype(np.uint8))
