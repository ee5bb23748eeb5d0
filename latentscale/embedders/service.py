"""The protocol of an embedder that is a service: what it costs, and how its answers are kept and counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.protocol import Embedded, Embedder

# Cosine: roundings and quantised weights stay above it, and two models have nothing in common.
_ALIKE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTerms:
    """What a service that embeds costs.

    Attributes
    ----------
    price_per_million_tokens : float or None
        In any currency.
    max_cost : float or None
        Of one run, in the same currency.
    """

    price_per_million_tokens: float | None = None
    max_cost: float | None = None


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


class Spending(Protocol):
    """Counts what the requests of a run cost, and refuses one that would cost too much; used from several threads."""

    def reserve(self, tokens: int) -> None:
        """Reserve what a request may cost at most, before it is sent; waits for others that end.

        Raises
        ------
        ResourceError
            If it would exceed the limit of the run.
        """
        ...

    def settle(self, reserved: int, used: int) -> None:
        """Replace what was reserved by what was billed."""
        ...


class UnansweredError(Exception):
    """A service did not answer some texts in several attempts.

    Attributes
    ----------
    reason : str
        What it said, or did, last.
    attempts : int
    positions : sequence of int
        Of the texts of the request.
    answered : bool
        Whether it answered anything since the last such error: if not, the service is down.
    """

    def __init__(self, reason: str, *, attempts: int, positions: Sequence[int] = (), answered: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.attempts = attempts
        self.positions = positions
        self.answered = answered


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
