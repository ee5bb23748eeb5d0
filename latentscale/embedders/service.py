"""Protocol of embedders that call a service, whose answers are paid for and persisted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.protocol import Embedded, Embedder
from latentscale.services.terms import Spending

# Cosine similarity: one model stays above it despite rounding and quantisation, two different models are far below.
_ALIKE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """Result of the first request to a service.

    Attributes
    ----------
    note : str
        Message for the user.
    sample : tuple of float
        First values of the vector of a fixed text, which identify the model.
    """

    note: str
    sample: tuple[float, ...]

    def resembles(self, sample: Sequence[float]) -> bool:
        """Whether another sample may be from the same model; results of a service are not bitwise reproducible."""
        mine, other = np.asarray(self.sample), np.asarray(sample)
        if len(mine) != len(other):
            return False
        norms = float(np.linalg.norm(mine) * np.linalg.norm(other))
        return norms > 0 and float(mine @ other) / norms > _ALIKE


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Result of a request for some texts.

    Attributes
    ----------
    vectors : float32 ndarray, shape (n_texts, dim)
        L2-normalised; zero for a rejected text. ``dim`` is 0 if all were rejected.
    reasons : sequence of str
        Why a text was rejected; empty if it has a vector.
    tokens : int64 ndarray, shape (n_texts,)
        Billed tokens, apportioned to the texts by length.
    """

    vectors: NDArray[np.float32]
    reasons: Sequence[str]
    tokens: NDArray[np.int64]


class AnswerKeeper(Protocol):
    """Persists answers of a service until the shard is written, so that no text is billed twice."""

    def find(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Answer]]:
        """Yield the persisted answers, each with the positions of its texts in ``texts``."""
        ...

    def keep(self, texts: Sequence[str], answer: Answer) -> None:
        """Persist an answer; called from several threads."""
        ...


class ServiceEmbedder(Embedder, Protocol):
    """An embedder that calls a service over the network; its spec has ``terms``."""

    def embed_kept(self, texts: Sequence[str], keeper: AnswerKeeper, spending: Spending) -> Embedded:
        """Embed ``texts``, in order, without requesting those whose answers ``keeper`` has.

        Raises
        ------
        UnansweredError
            If some were not answered; answers to others are persisted.
        """
        ...

    def stop(self) -> None:
        """Send no further requests of the current call; called from another thread."""
        ...
