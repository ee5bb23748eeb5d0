"""Make token batches on the host: texts are tokenised, sorted by length and batched in a thread, ahead of the device.

The texts of a call are sorted by their number of characters, longest first, and tokenised in portions. The windows of a
portion are added to those left over from earlier ones, and cut into full batches of nearly equal length. The device
starts after the small first portion, and the rest is tokenised while it computes, in growing portions: the more windows
are sorted together, the less padding. Batches depend only on the texts and the budget, not on the timing of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from latentscale.embedders.token_batches import batch_width, padded, token_batches
from latentscale.embedders.tokens import TextTokenizer, Tokens

if TYPE_CHECKING:
    from latentscale.embedders.encoder.tokenizer_processes import TokenizerProcesses

# Sizes of portions: the device waits for the first, and computes each while the next, larger one is tokenised.
_LEAST_CHARACTERS, _MOST_CHARACTERS = 150_000, 4_000_000
_GROWTH = 1.5
# First portions whose windows are all emitted, even in partial batches, as the device would be idle otherwise.
_WHOLE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch of token rows for the device.

    Attributes
    ----------
    text : int64 ndarray, shape (n,)
        Index of each row's text in the call.
    weight : int32 ndarray, shape (n,)
        Number of tokens of the text in the row, the weight of its vector in the mean over windows.
    tokens : int32 ndarray or Tensor, shape (n, width)
    lengths : int32 ndarray or Tensor, shape (n,)
    """

    text: NDArray[np.int64]
    weight: NDArray[np.int32]
    tokens: Any
    lengths: Any

    def __len__(self) -> int:
        return len(self.text)

    @property
    def padded(self) -> bool:
        """Whether any row is padded."""
        return int(self.lengths.min()) < self.tokens.shape[1]

    @property
    def padded_tokens(self) -> int:
        """Number of tokens of the batch, including padding."""
        return int(self.tokens.shape[0] * self.tokens.shape[1])

    def part(self, begin: int, stop: int) -> Batch:
        """Return rows ``begin`` to ``stop``, trimmed to their own width; rows are sorted by length, longest first."""
        width = int(self.lengths[begin:stop].max())
        return Batch(
            text=self.text[begin:stop],
            weight=self.weight[begin:stop],
            tokens=self.tokens[begin:stop, :width],
            lengths=self.lengths[begin:stop],
        )


class Tally:
    """Token statistics of the texts of one call; complete after the last batch.

    Parameters
    ----------
    texts : int
        Number of texts.
    """

    def __init__(self, texts: int) -> None:
        self.empty = np.zeros(texts, np.bool_)
        self.truncated = np.zeros(texts, np.bool_)
        self.read = self.unknown = self.padded = 0

    def add(self, tokens: Tokens, rows: NDArray[np.int64]) -> None:
        """Add a portion; ``rows`` are the indices of its texts in the call."""
        self.empty[rows] = tokens.empty
        self.truncated[rows] = tokens.truncated
        self.read += tokens.read
        self.unknown += tokens.unknown


class Feed:
    """Makes batches of texts.

    Parameters
    ----------
    tokenizer : TextTokenizer
    limit : int
        Maximum number of tokens of the model's input.
    multiple : int
        Widths are rounded up to a multiple of this.
    padding : int
        Id of the padding token.
    skipped : int
        Tokens at the start of each row that pooling ignores.
    processes : TokenizerProcesses, optional
        Used instead of ``tokenizer``, with equal results, if there are many texts.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        *,
        limit: int,
        multiple: int = 1,
        padding: int = 0,
        skipped: int = 0,
        processes: TokenizerProcesses | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._processes = processes
        self.skipped = skipped
        self._limit = limit
        self._multiple = multiple
        self._padding = padding

    def batches(self, texts: Sequence[str], tally: Tally, *, budget: Callable[[], int]) -> Iterator[Batch]:
        """Yield all batches; texts without any known token are in none.

        Parameters
        ----------
        texts : sequence of str
        tally : Tally
            Filled as the texts are tokenised.
        budget : callable
            Returns the maximum number of tokens of a batch; called before each portion is batched.
        """
        left = _Windows.none()
        column = None if self._processes is None else self._processes.column(texts)
        rows_left = list(portions(texts if column is None else column))
        for number, (rows, tokens) in enumerate(zip(rows_left, self._encoded(texts, column, rows_left), strict=True)):
            tally.add(tokens, rows)
            windows = left.concat(_Windows.of(tokens, rows))
            cuts = list(self._cut(windows.lengths, budget()))
            whole = number < _WHOLE or number == len(rows_left) - 1
            for some in cuts if whole else cuts[:-1]:
                batch = self._batch(windows, some)
                tally.padded += batch.padded_tokens
                yield batch
            left = windows.take(cuts[-1]) if cuts and not whole else _Windows.none()

    def _encoded(
        self, texts: Sequence[str], column: pa.LargeStringArray | None, portions: Sequence[NDArray[np.int64]]
    ) -> Iterator[Tokens]:
        """Yield the tokens of each portion, in order; ``column`` has the texts if processes tokenise them."""
        if self._processes is not None and column is not None:
            yield from self._processes.encode(column, portions)
            return
        for rows in portions:
            yield self.tokenizer.encode([texts[int(row)] for row in rows])

    def _cut(self, lengths: NDArray[np.int32], budget: int) -> Iterator[NDArray[np.int64]]:
        return token_batches(lengths, budget=budget, limit=self._limit, multiple=self._multiple)

    def _batch(self, windows: _Windows, some: NDArray[np.int64]) -> Batch:
        width = batch_width(int(windows.lengths[some].max()), limit=self._limit, multiple=self._multiple)
        tokens, lengths = padded(windows.ids, windows.bounds, some, width=width, padding=self._padding)
        return Batch(text=windows.text[some], weight=windows.weight[some], tokens=tokens, lengths=lengths)


def portions(texts: Sequence[str] | pa.LargeStringArray) -> Iterator[NDArray[np.int64]]:
    """Yield indices of the texts in portions of growing size, longest texts first (int64)."""
    if isinstance(texts, pa.LargeStringArray):
        characters = pc.call_function("utf8_length", [texts]).to_numpy(zero_copy_only=False)
    else:
        characters = np.fromiter(map(len, texts), np.int64, len(texts))
    order = np.argsort(-characters, kind="stable")
    sums = np.cumsum(characters[order] + 1)
    if not len(sums):
        return
    at, size = 0, float(_LEAST_CHARACTERS)
    while at < len(order):
        before = int(sums[at - 1]) if at else 0
        stop = max(at + 1, int(np.searchsorted(sums, before + size, side="right")))
        yield order[at:stop]
        at, size = stop, min(_GROWTH * size, _MOST_CHARACTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """Windows not yet batched; arrays as in :class:`Tokens`, with the text's index in the whole call."""

    ids: NDArray[np.int32]
    bounds: NDArray[np.int64]
    text: NDArray[np.int64]
    weight: NDArray[np.int32]

    @classmethod
    def none(cls) -> _Windows:
        whole, small = np.empty(0, np.int64), np.empty(0, np.int32)
        return cls(ids=small, bounds=np.zeros(1, np.int64), text=whole, weight=small)

    @classmethod
    def of(cls, tokens: Tokens, rows: NDArray[np.int64]) -> _Windows:
        whole = cls(ids=tokens.ids, bounds=tokens.bounds, text=rows[tokens.text], weight=tokens.content)
        if not tokens.empty.any():
            return whole
        return whole.take(np.flatnonzero(~tokens.empty[tokens.text]))

    @property
    def lengths(self) -> NDArray[np.int32]:
        return np.diff(self.bounds).astype(np.int32)

    def take(self, some: NDArray[np.int64]) -> _Windows:
        sizes = self.bounds[some + 1] - self.bounds[some]
        bounds = np.zeros(len(some) + 1, np.int64)
        np.cumsum(sizes, out=bounds[1:])
        places = np.repeat(self.bounds[some] - bounds[:-1], sizes) + np.arange(int(bounds[-1]))
        return _Windows(ids=self.ids[places], bounds=bounds, text=self.text[some], weight=self.weight[some])

    def concat(self, other: _Windows) -> _Windows:
        if not len(self.text):
            return other
        return _Windows(
            ids=np.concatenate([self.ids, other.ids]),
            bounds=np.concatenate([self.bounds, other.bounds[1:] + self.bounds[-1]]),
            text=np.concatenate([self.text, other.text]),
            weight=np.concatenate([self.weight, other.weight]),
        )
