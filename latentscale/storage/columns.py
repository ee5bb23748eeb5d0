"""Build columns from a stream of rows, without keeping the rows or a second copy of the columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BATCH = 20_000

ColumnType = Literal["string", "int8", "int32", "int64", "float64"]
_CODES: Mapping[ColumnType, str] = {"int8": "b", "int32": "i", "int64": "q", "float64": "d"}


class StringColumn:
    """A builder of a string column.

    Arrow's builders copy their chunks once more at the end, which doubles the memory of a large column.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._offsets = array("q", [0])

    def append(self, text: str) -> None:
        """Add a string."""
        self._bytes += text.encode()
        self._offsets.append(len(self._bytes))

    def finish(self) -> pa.LargeStringArray:
        """Return the column; the builder must not be used afterwards."""
        n = len(self._offsets) - 1
        return pa.LargeStringArray.from_buffers(n, pa.py_buffer(self._offsets), pa.py_buffer(self._bytes))


def gather(rows: Iterable[Sequence[Any]], types: Mapping[str, ColumnType]) -> dict[str, Any]:
    """Build one column per field of the rows, which are tuples in the order of ``types``.

    Returns
    -------
    dict of str to pyarrow.LargeStringArray or ndarray
    """
    columns = [StringColumn() if kind == "string" else array(_CODES[kind]) for kind in types.values()]
    adders = [column.append for column in columns]
    for row in rows:
        for add, value in zip(adders, row, strict=True):
            add(value)
    return {
        name: column.finish() if isinstance(column, StringColumn) else np.frombuffer(column, dtype=kind)
        for (name, kind), column in zip(types.items(), columns, strict=True)
    }


def fixed_width(raw: bytearray, width: int) -> pa.LargeStringArray:
    """View ``raw`` as strings of ``width`` bytes each, without a copy."""
    n = len(raw) // width
    offsets: NDArray[np.int64] = np.arange(0, (n + 1) * width, width, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(raw))


def indices(places: NDArray[Any]) -> pa.Int64Array:
    """Convert positions for Arrow's ``take``; ``pyarrow.array`` of an ndarray would import pandas."""
    return pa.Int64Array.from_buffers(
        pa.int64(), len(places), [None, pa.py_buffer(np.ascontiguousarray(places, np.int64))]
    )


def ascending(values: pa.Array) -> NDArray[np.uint64]:
    """Return the positions that sort the values; ``to_numpy`` would import pandas."""
    places: Any = np.from_dlpack(pc.call_function("array_sort_indices", [values]))
    return places
