"""Vectors of batches on their way from the device, put in the order of the texts as they arrive."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.token_pooling import average_windows


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
        self._windows: list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]]] | None = (
            [] if windows else None
        )

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
        if not self._windows:
            return self._vectors
        rows, text, weight = (np.concatenate(parts) for parts in zip(*self._windows, strict=True))
        return average_windows(rows, text, weight, len(self._vectors))

    def _place(self, rows: Rows) -> None:
        if self._windows is None:
            self._vectors[rows.text] = rows.vectors.numpy()
        else:
            self._windows.append((rows.vectors.numpy(), rows.text, rows.weight))
