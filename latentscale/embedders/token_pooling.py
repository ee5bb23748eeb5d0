"""Pool token states to unit vectors of texts in NumPy, for graphs without pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

States = NDArray[np.float32]
Mask = NDArray[np.bool_]


def _mean(states: States, mask: Mask) -> States:
    return _sum(states, mask) / _count(mask)


def _mean_sqrt_len(states: States, mask: Mask) -> States:
    return (_sum(states, mask) / np.sqrt(_count(mask))).astype(np.float32, copy=False)


def _weighted_mean(states: States, mask: Mask) -> States:
    weights = mask * np.arange(1, mask.shape[1] + 1, dtype=np.float32)
    return np.einsum("bth,bt->bh", states, weights) / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)


def _max(states: States, mask: Mask) -> States:
    return np.where(mask[:, :, None], states, -np.inf).max(axis=1)


def _first(states: States, mask: Mask) -> States:
    # The first unmasked token: an excluded prompt shifts it.
    return states[np.arange(len(states)), mask.argmax(axis=1)]


def _last(states: States, mask: Mask) -> States:
    return states[np.arange(len(states)), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)]


def _sum(states: States, mask: Mask) -> States:
    return np.einsum("bth,bt->bh", states, mask.astype(np.float32))


def _count(mask: Mask) -> States:
    return np.maximum(mask.sum(axis=1, keepdims=True, dtype=np.float32), 1e-9)


POOLING: dict[str, Callable[[States, Mask], States]] = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
"""As named by sentence-transformers, in its order of concatenation."""


def pool(states: States, mask: Mask, modes: Sequence[str]) -> States:
    """Pool the states of the tokens of each text.

    Parameters
    ----------
    states : float32 ndarray, shape (n_texts, n_tokens, hidden)
    mask : bool ndarray, shape (n_texts, n_tokens)
        Tokens to pool; at least one of each text.
    modes : sequence of str
        Keys of ``POOLING``; several are concatenated, as in sentence-transformers.

    Returns
    -------
    float32 ndarray, shape (n_texts, hidden * len(modes))
    """
    parts = [POOLING[mode](states, mask) for mode in modes]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def normalise(vectors: NDArray[np.float32], dimensions: int | None = None) -> NDArray[np.float32]:
    """Truncate vectors to their first ``dimensions`` (Matryoshka), and L2-normalise them.

    A zero vector stays zero; a vector with NaN becomes NaN, to be detected by the caller.
    """
    truncated = np.ascontiguousarray(vectors[:, :dimensions], dtype=np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", truncated, truncated, dtype=np.float64))
    with np.errstate(invalid="ignore"):
        return np.divide(
            truncated, norms[:, None], out=np.zeros_like(truncated), where=norms[:, None] != 0, casting="same_kind"
        )


def average_windows(
    rows: NDArray[np.float32], text: NDArray[np.int64], weight: NDArray[np.int32], count: int
) -> NDArray[np.float32]:
    """Average the vectors of each text's windows.

    Parameters
    ----------
    rows : float32 ndarray, shape (n_windows, dim)
        Unit vectors, in any order.
    text : int64 ndarray, shape (n_windows,)
        Index of each window's text.
    weight : int32 ndarray, shape (n_windows,)
        Weight of each window: its number of tokens.
    count : int
        Number of texts; a text without windows gets zeros.
    """
    vectors = np.zeros((count, rows.shape[1]), np.float32)
    if len(np.unique(text)) == len(text):
        vectors[text] = rows
        return vectors
    np.add.at(vectors, text, rows * weight[:, None].astype(np.float32))
    return normalise(vectors)
