"""Batches of texts under a budget of tokens: sorted by length, so that little is padded."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def batch_width(longest: int, *, limit: int, multiple: int = 8) -> int:
    """Tokens of a row of a batch: the longest text's, rounded up to a multiple, and never beyond ``limit``."""
    return max(longest, min(-(-longest // multiple) * multiple, limit))


def token_batches(
    lengths: NDArray[np.int32], *, budget: int, limit: int, multiple: int = 8
) -> Iterator[NDArray[np.int64]]:
    """Cut texts into batches, the longest first.

    Texts are sorted by length over all that are given, so that a batch holds texts of nearly one length; the longest
    come first, so that a budget for which the memory is too small fails at once.

    Parameters
    ----------
    lengths : int32 ndarray, shape (n,)
        Tokens of each text, special ones included.
    budget : int
        Tokens of a batch at most, padding included. A single text that is longer is a batch of its own.
    limit : int
        Most tokens that the model takes: the width is not rounded up beyond it.
    multiple : int
        Widths are rounded up to a multiple of this: 8 suits the matrix units of GPUs, 1 saves processors the padding.

    Yields
    ------
    int64 ndarray
        Indices into ``lengths`` of one batch; each index comes once.
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
    """Lay the rows of a batch side by side, filled up on the right, without a loop over rows.

    Parameters
    ----------
    ids : int32 ndarray
        Tokens of all texts, one text after the other.
    bounds : int64 ndarray, shape (n + 1,)
        Text ``i`` has the tokens ``bounds[i]`` to ``bounds[i + 1]``.
    batch : int64 ndarray, shape (b,)
        Texts of the batch.
    width : int
        At least the longest of them.
    padding : int
        The token that fills up.

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
