"""Vectors of batches on their way from the device, put in the order of the texts as they arrive."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Vectors of a batch.

    Attributes
    ----------
    text : int64 ndarray, shape (n,)
        Position of each row's text in the call.
    weight : int32 ndarray, shape (n,)
        Tokens of the text in the row: its share of the text's vector.
    vectors : float32 Tensor on the host, shape (n, dimensions)
        A GPU may still be writing it.
    written : torch.cuda.Event or None
        Happens when it is written; None where it is.
    """

    text: NDArray[np.int64]
    weight: NDArray[np.int32]
    vectors: Any
    written: Any = None


class Results:
    """The vectors of the texts of one call.

    Parameters
    ----------
    texts, dimensions : int
    windows : bool
        Whether a text may have several rows.
    """

    def __init__(self, texts: int, dimensions: int, *, windows: bool) -> None:
        self._vectors = np.zeros((texts, dimensions), np.float32)
        self._coming: deque[Rows] = deque()
        # Rows of windows are averaged when all are there.
        self._windows: list[Rows] | None = [] if windows else None

    def add(self, rows: Rows) -> None:
        """Take rows, and put to their texts those that have arrived meanwhile; nothing is waited for."""
        self._coming.append(rows)
        while self._coming and (self._coming[0].written is None or self._coming[0].written.query()):
            self._place(self._coming.popleft())

    def finish(self) -> NDArray[np.float32]:
        """Wait for the rest and return the vectors by text (float32, shape (texts, dimensions)).

        Vectors of texts of one window are as they came; those of several are averaged by their tokens.
        """
        while self._coming:
            if self._coming[0].written is not None:
                self._coming[0].written.synchronize()
            self._place(self._coming.popleft())
        return self._vectors if self._windows is None else self._averaged(self._windows)

    def _place(self, rows: Rows) -> None:
        if self._windows is None:
            self._vectors[rows.text] = rows.vectors.numpy()
        else:
            self._windows.append(rows)

    def _averaged(self, windows: list[Rows]) -> NDArray[np.float32]:
        vectors = self._vectors
        if not windows:
            return vectors
        text = np.concatenate([one.text for one in windows])
        rows = np.concatenate([one.vectors.numpy() for one in windows])
        if len(np.unique(text)) == len(text):
            vectors[text] = rows
            return vectors
        weight = np.concatenate([one.weight for one in windows]).astype(np.float32)
        order = np.argsort(text, kind="stable")
        firsts = np.flatnonzero(np.diff(text[order], prepend=-1))
        sums = np.add.reduceat(rows[order] * weight[order, None], firsts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        vectors[text[order][firsts]] = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        return vectors
