"""Texts as they are sent, how many tokens they have about, and the requests that they are sent in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentscale.services.tokens import BYTES_A_TOKEN, EXTRA_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Texts with their prompt, cut where they are too long.

    Attributes
    ----------
    texts : list of str
    sizes : int64 ndarray, shape (n_texts,)
        Bytes of UTF-8.
    truncated : int
        Texts that were cut.
    """

    texts: list[str]
    sizes: NDArray[np.int64]
    truncated: int


def prepare(texts: Sequence[str], *, prompt: str, max_tokens: int) -> Prepared:
    """Put ``prompt`` before each text, of which about ``max_tokens`` tokens are kept."""
    limit = max_tokens * BYTES_A_TOKEN
    made: list[str] = []
    sizes = np.zeros(len(texts), dtype=np.int64)
    truncated = 0
    for row, text in enumerate(texts):
        # Half a surrogate pair cannot be sent.
        data = text.encode("utf-8", "replace")
        if len(data) > limit:
            data = data[:limit]
            truncated += 1
        kept = prompt + data.decode("utf-8", "ignore")
        made.append(kept)
        sizes[row] = len(data) + len(prompt.encode("utf-8", "replace"))
    return Prepared(texts=made, sizes=sizes, truncated=truncated)


def estimated_tokens(sizes: NDArray[np.int64]) -> int:
    """Tokens of texts of so many bytes, about."""
    return int(np.maximum(-(-sizes // BYTES_A_TOKEN), 1).sum())


def most_tokens(sizes: NDArray[np.int64]) -> int:
    """Tokens of texts of so many bytes, at most."""
    return int((sizes + EXTRA_TOKENS).sum())


def plan_requests(
    positions: NDArray[np.int64], sizes: NDArray[np.int64], *, max_texts: int, max_tokens: int
) -> list[NDArray[np.int64]]:
    """Group texts into requests, the longest texts first, so that those of a request are of like length.

    Parameters
    ----------
    positions : int64 ndarray
        Of the texts to ask for.
    sizes : int64 ndarray
        Bytes of all texts.

    Returns
    -------
    list of int64 ndarray
        Positions; each request has at least one text, and more only while their estimate stays within ``max_tokens``.
    """
    order = positions[np.argsort(-sizes[positions], kind="stable")]
    requests: list[NDArray[np.int64]] = []
    start = tokens = 0
    for at, position in enumerate(order.tolist()):
        own = max(-(-int(sizes[position]) // BYTES_A_TOKEN), 1)
        if at > start and (at - start >= max_texts or tokens + own > max_tokens):
            requests.append(order[start:at])
            start, tokens = at, 0
        tokens += own
    if start < len(order):
        requests.append(order[start:])
    return requests
