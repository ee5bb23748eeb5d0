"""What every embedder is: a width, an identity, and a function from texts to unit vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of one batch.

    Attributes
    ----------
    vectors : float32 ndarray, shape (n_texts, dim)
        L2-normalised; zero where ``embeddable`` is false.
    embeddable : bool ndarray, shape (n_texts,)
        False where the model knows nothing of the text (no known token): such a document has no vector.
    tokens : int
        Tokens read, over all texts, unknown ones included.
    unknown : int
        Those of them that the model does not know.
    truncated : int
        Texts that were longer than the model or ``max_tokens`` allows and were cut.
    """

    vectors: NDArray[np.float32]
    embeddable: NDArray[np.bool_]
    tokens: int
    unknown: int
    truncated: int


class Embedder(Protocol):
    """Turns texts into unit vectors; the same text always gives the same bits, whatever else is in its batch."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        ...

    @property
    def name(self) -> str:
        """What to call the model in records and on screen; never part of the identity."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Return everything that alters the result, as values that canonical JSON can hold."""
        ...

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed ``texts``, in order."""
        ...
