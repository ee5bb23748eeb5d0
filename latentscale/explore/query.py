"""Parse and validate search queries: texts and vectors, one or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from latentscale.errors import RequestError
from latentscale.readers.python_data import plain_array
from latentscale.storage.artifacts import Record, needed_record
from latentscale.storage.objects import Store

Query = str | NDArray[np.float32]

_HINT = 'Search for a text, "chess", a vector of the map\'s width, or a list of either.'


def queries_of(store: Store, record: Record, query: Any) -> tuple[list[Query], bool]:
    """Parse a query into texts or unit vectors.

    Returns
    -------
    queries : list of str or float32 ndarray, shape (d,)
    several : bool
        Whether it was a list of queries.

    Raises
    ------
    RequestError
        If it is neither, or a vector of another dimension, with only zeros, or with NaN.
    """
    if isinstance(query, str):
        return [query], False
    items = cast("Sequence[Any]", query)
    if isinstance(query, list | tuple) and items and all(isinstance(item, str) for item in items):
        return list(items), True
    try:
        array = np.asarray(plain_array(query))
    except (TypeError, ValueError, RuntimeError):  # of numpy, and of libraries of tensors
        raise RequestError(f"a {type(query).__name__} is no query", hint=_HINT) from None
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or array.size == 0:
        what = f"an array of {array.dtype}, shape {array.shape}," if array.ndim else f"a {type(query).__name__}"
        raise RequestError(f"{what} is no query", hint=_HINT)
    width = int(needed_record(store, "embedding", str(record.request["embedding"])).counts["dim"])
    if array.shape[-1] != width:
        raise RequestError(
            f"the query has {array.shape[-1]:,} numbers, and the vectors of {record.id} have {width:,}",
            hint="Use the model that made the vectors of the corpus.",
        )
    rows = np.atleast_2d(array).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise RequestError("the query holds NaN or infinity, or is a vector of zeros", hint=_HINT)
    return list((rows / lengths).astype(np.float32)), array.ndim == 2
