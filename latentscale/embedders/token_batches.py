"""Batches of texts under a token budget, sorted by length to reduce padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def batch_width(longest: int, *, limit: int, multiple: int = 8) -> int:
    """Return the width of a batch: its longest text, rounded up to a multiple, but not beyond ``limit``."""
    return max(longest, min(-(-longest // multiple) * multiple, limit))


def token_batches(
    lengths: NDArray[np.int32], *, budget: int, limit: int, multiple: int = 8
) -> Iterator[NDArray[np.int64]]:
    """Cut texts into batches of nearly equal length, longest first, so that a budget that exceeds memory fails at once.

    Parameters
    ----------
    lengths : int32 ndarray, shape (n,)
        Tokens of each text, special ones included.
    budget : int
        Maximum number of tokens of a batch, padding included. A longer text is a batch by itself.
    limit : int
        Maximum number of tokens of the model's input: widths are not rounded up beyond it.
    multiple : int
        Widths are rounded up to a multiple of this: 8 suits the matrix units of GPUs, 1 avoids padding on CPUs.

    Yields
    ------
    int64 ndarray
        Indices into ``lengths`` of one batch; each index occurs once overall.
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    at = 0
    while at < len(order):
        width = batch_width(int(lengths[order[at]]), limit=limit, multiple=multiple)
        stop = at + max(1, budget // max(1, width))
        yield order[at:stop]
        at = stop


def padded(
    ids: NDArray[np.int32], bounds: NDArray[np.int64], batch: NDArray[np.int64], *, width: int, padding: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Build the right-padded token matrix of a batch without a loop over rows.

    Parameters
    ----------
    ids : int32 ndarray
        Concatenated tokens of all texts.
    bounds : int64 ndarray, shape (n + 1,)
        Text ``i`` has tokens ``bounds[i]`` to ``bounds[i + 1]``.
    batch : int64 ndarray, shape (b,)
        Texts of the batch.
    width : int
        Width of the matrix, at least the longest of them.
    padding : int
        Id of the padding token.

    Returns
    -------
    tokens : int32 ndarray, shape (b, width)
    lengths : int32 ndarray, shape (b,)
    """
    starts = bounds[batch]
    lengths = bounds[batch + 1] - starts
    columns = np.arange(width)
    tokens = np.full((len(batch), width), padding, dtype=np.int32)
    inside = columns < lengths[:, None]
    tokens[inside] = ids[(starts[:, None] + columns)[inside]]
    return tokens, lengths.astype(np.int32)
