"""The protocol of an embedder that is a service: what it costs, and how its answers are kept and counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.protocol import Embedded, Embedder
from latentscale.services.terms import Spending

# Cosine: roundings and quantised weights stay above it, and two models have nothing in common.
_ALIKE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a service said when it was first asked.

    Attributes
    ----------
    note : str
        For a person.
    sample : tuple of float
        The beginning of the vector of a fixed text: of another model it is another one.
    """

    note: str
    sample: tuple[float, ...]

    def resembles(self, sample: Sequence[float]) -> bool:
        """Whether another sample may be of the same model: a service need not give the same bits twice."""
        mine, other = np.asarray(self.sample), np.asarray(sample)
        if len(mine) != len(other):
            return False
        lengths = float(np.linalg.norm(mine) * np.linalg.norm(other))
        return lengths > 0 and float(mine @ other) / lengths > _ALIKE


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a service said of some texts.

    Attributes
    ----------
    vectors : float32 ndarray, shape (n_texts, dim)
        L2-normalised; zero for a text that it refused. ``dim`` is 0 where it refused all.
    reasons : sequence of str
        Why a text was refused; empty for one that has a vector.
    tokens : int64 ndarray, shape (n_texts,)
        What was billed, shared among the texts by their length.
    """

    vectors: NDArray[np.float32]
    reasons: Sequence[str]
    tokens: NDArray[np.int64]


class AnswerKeeper(Protocol):
    """Keeps answers of a service until the shard is written, so that nothing is paid twice."""

    def find(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int64], Answer]]:
        """The answers that are known already, each with the positions in ``texts`` that it is of."""
        ...

    def keep(self, texts: Sequence[str], answer: Answer) -> None:
        """Write down an answer; called from several threads."""
        ...


class ServiceEmbedder(Embedder, Protocol):
    """An embedder whose spec has ``terms``: a service that is asked over a network."""

    def embed_kept(self, texts: Sequence[str], keeper: AnswerKeeper, spending: Spending) -> Embedded:
        """Embed ``texts``, in order; what ``keeper`` knows is not asked for again.

        Raises
        ------
        UnansweredError
            If some were not answered; answers to others are kept.
        """
        ...

    def stop(self) -> None:
        """Send no further request of what is being embedded now; called from another thread."""
        ...
