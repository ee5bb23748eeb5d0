"""Collect the vectors of batches that are copied from the device asynchronously, in the order of the texts."""

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
        Index of each row's text in the call.
    weight : int32 ndarray, shape (n,)
        Number of tokens of the text in the row, the weight of its vector in the mean over windows.
    vectors : float32 Tensor on the host, shape (n, dimensions)
        The copy from the GPU may still be in progress.
    written : torch.cuda.Event or None
        Recorded when the copy is complete; None if it is.
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
        self._pending: deque[Rows] = deque()
        # Rows of windows are averaged when all have arrived.
        self._windows: list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]]] | None = (
            [] if windows else None
        )

    def add(self, rows: Rows) -> None:
        """Add rows, and store those that have arrived, without waiting."""
        self._pending.append(rows)
        while self._pending and (self._pending[0].written is None or self._pending[0].written.query()):
            self._place(self._pending.popleft())

    def finish(self) -> NDArray[np.float32]:
        """Wait for the rest and return the vectors by text (float32, shape (texts, dimensions)).

        Vectors of texts with one window are unchanged; those with several are averaged, weighted by tokens.
        """
        while self._pending:
            if self._pending[0].written is not None:
                self._pending[0].written.synchronize()
            self._place(self._pending.popleft())
        if not self._windows:
            return self._vectors
        rows, text, weight = (np.concatenate(parts) for parts in zip(*self._windows, strict=True))
        return average_windows(rows, text, weight, len(self._vectors))

    def _place(self, rows: Rows) -> None:
        if self._windows is None:
            self._vectors[rows.text] = rows.vectors.numpy()
        else:
            self._windows.append((rows.vectors.numpy(), rows.text, rows.weight))
