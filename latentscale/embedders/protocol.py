"""Protocols of loaded embedders, which map texts to unit vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of one batch.

    Attributes
    ----------
    vectors : float32 ndarray, shape (n_texts, dim)
        L2-normalised; zero where ``embeddable`` is false.
    embeddable : bool ndarray, shape (n_texts,)
        False if the text has no known token or was rejected: the document then has no vector.
    tokens : int
        Tokens of all texts, including unknown ones.
    unknown : int
        Unknown tokens.
    truncated : int
        Texts that were truncated to the limit of the model or ``max_tokens``.
    reasons : mapping of int to str
        Why a text is not embeddable, by its position, if not for lack of known tokens.
    halved : int
        Batches that did not fit into the device's memory and were computed in halves.
    """

    vectors: NDArray[np.float32]
    embeddable: NDArray[np.bool_]
    tokens: int
    unknown: int
    truncated: int
    halved: int = 0
    reasons: Mapping[int, str] = field(default_factory=dict[int, str])


class Embedder(Protocol):
    """Maps texts to unit vectors; described by its :class:`latentscale.embedders.spec.EmbedderSpec`."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed ``texts``, in order."""
        ...


class QueryEmbedder(Embedder, Protocol):
    """An embedder that treats search queries differently from documents, for instance with another prompt."""

    def embed_queries(self, texts: Sequence[str]) -> Embedded:
        """Embed queries, in order, in the vector space of the documents."""
        ...


class StagedEmbedder(Embedder, Protocol):
    """An embedder that works in three phases, so that a worker can keep its device busy.

    The phases run in different threads: those of one shard in sequence, ``compute`` for one shard at a time,
    ``prepare`` and ``finish`` concurrently with everything. ``embed`` is equivalent to the three in sequence.
    """

    def prepare(self, texts: Sequence[str]) -> Any:
        """Start work that needs no device, such as tokenising, and return; it continues up to a memory bound.

        The result may be discarded without being computed, which stops the work.
        """
        ...

    def compute(self, prepared: Any) -> Any:
        """Submit work to the device; may return before the device has finished."""
        ...

    def finish(self, computed: Any) -> Embedded:
        """Wait for the device, and return the vectors."""
        ...


def is_staged(embedder: Any) -> bool:
    """Whether an embedder has the phases of a :class:`StagedEmbedder`."""
    return all(callable(getattr(embedder, phase, None)) for phase in ("prepare", "compute", "finish"))


class VectorReader(Protocol):
    """Reads existing vectors of the corpus, for a spec whose ``reads`` is ``vectors``."""

    def take(self, column: pa.Array | pa.ChunkedArray, *, file: str) -> Embedded:
        """Return the vectors of a list column.

        Raises
        ------
        CorpusError
            For an invalid vector; the message names the row.
        """
        ...
