"""Prepare texts for sending, estimate their tokens, and group them into requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.services.tokens import BYTES_A_TOKEN, EXTRA_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Texts with their prompt, truncated if too long.

    Attributes
    ----------
    texts : list of str
    sizes : int64 ndarray, shape (n_texts,)
        UTF-8 bytes of each text, including the prompt.
    truncated : int
        Number of truncated texts.
    """

    texts: list[str]
    sizes: NDArray[np.int64]
    truncated: int


def prepare(texts: Sequence[str], *, prompt: str, max_tokens: int) -> Prepared:
    """Truncate each text to about ``max_tokens`` tokens, and prepend ``prompt``."""
    limit = max_tokens * BYTES_A_TOKEN
    prepared: list[str] = []
    sizes = np.zeros(len(texts), dtype=np.int64)
    truncated = 0
    for row, text in enumerate(texts):
        # A lone surrogate cannot be sent.
        data = text.encode("utf-8", "replace")
        if len(data) > limit:
            data = data[:limit]
            truncated += 1
        prompted = prompt + data.decode("utf-8", "ignore")
        prepared.append(prompted)
        sizes[row] = len(data) + len(prompt.encode("utf-8", "replace"))
    return Prepared(texts=prepared, sizes=sizes, truncated=truncated)


def estimated_tokens(sizes: NDArray[np.int64]) -> int:
    """Estimate the tokens of texts from their sizes in bytes."""
    return int(np.maximum(-(-sizes // BYTES_A_TOKEN), 1).sum())


def upper_bound_tokens(sizes: NDArray[np.int64]) -> int:
    """Return an upper bound of the tokens of texts from their sizes in bytes."""
    return int((sizes + EXTRA_TOKENS).sum())


def plan_requests(
    positions: NDArray[np.int64], sizes: NDArray[np.int64], *, max_texts: int, max_tokens: int
) -> list[NDArray[np.int64]]:
    """Group texts into requests, longest first, so that texts of a request have similar lengths.

    Parameters
    ----------
    positions : int64 ndarray
        Of the texts to request.
    sizes : int64 ndarray
        Bytes of all texts of the shard.

    Returns
    -------
    list of int64 ndarray
        Positions of each request's texts: one, or more within ``max_texts`` and an estimate of ``max_tokens``.
    """
    order = positions[np.argsort(-sizes[positions], kind="stable")]
    requests: list[NDArray[np.int64]] = []
    start = tokens = 0
    for index, position in enumerate(order.tolist()):
        text_tokens = max(-(-int(sizes[position]) // BYTES_A_TOKEN), 1)
        if index > start and (index - start >= max_texts or tokens + text_tokens > max_tokens):
            requests.append(order[start:index])
            start, tokens = index, 0
        tokens += text_tokens
    if start < len(order):
        requests.append(order[start:])
    return requests
