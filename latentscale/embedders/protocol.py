"""What an opened embedder is: a function from texts to unit vectors."""

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
        False where the model knows nothing of the text (no known token): such a document has no vector.
    tokens : int
        Tokens read, over all texts, unknown ones included.
    unknown : int
        Those of them that the model does not know.
    truncated : int
        Texts that were longer than the model or ``max_tokens`` allows and were cut.
    reasons : mapping of int to str
        Of texts that are not embeddable, by their position: why, where it is not that no token is known.
    halved : int
        Batches that did not fit into the memory of the device and were computed in halves.
    """

    vectors: NDArray[np.float32]
    embeddable: NDArray[np.bool_]
    tokens: int
    unknown: int
    truncated: int
    halved: int = 0
    reasons: Mapping[int, str] = field(default_factory=dict[int, str])


class Embedder(Protocol):
    """Turns texts into unit vectors. It is described by its :class:`latentscale.embedders.spec.EmbedderSpec`."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed ``texts``, in order."""
        ...


class QueryEmbedder(Embedder, Protocol):
    """An embedder that treats the query of a search otherwise than a document, as by another prompt."""

    def embed_queries(self, texts: Sequence[str]) -> Embedded:
        """Embed queries, in order, in the space of the documents."""
        ...


class StagedEmbedder(Embedder, Protocol):
    """An embedder whose work has three parts, with which a worker leaves its device no time without work.

    The parts run in different threads: those of one shard one after the other, ``compute`` for one shard after the
    other, ``prepare`` and ``finish`` concurrently with everything. ``embed`` gives what the three in a row give.
    """

    def prepare(self, texts: Sequence[str]) -> Any:
        """Begin what needs no device, such as to tokenise, and return; it goes on until it has enough in memory.

        What is returned may be dropped without being computed, which ends it.
        """
        ...

    def compute(self, prepared: Any) -> Any:
        """Give the work to the device, which need not have done it when this returns."""
        ...

    def finish(self, computed: Any) -> Embedded:
        """Wait for the device and return the vectors."""
        ...


def is_staged(embedder: Any) -> bool:
    """Whether an embedder has the parts of a :class:`StagedEmbedder`."""
    return all(callable(getattr(embedder, part, None)) for part in ("prepare", "compute", "finish"))


class VectorReader(Protocol):
    """Takes the vectors that the corpus already has, for a spec that reads ``vectors``."""

    def take(self, column: pa.Array | pa.ChunkedArray, *, file: str) -> Embedded:
        """The vectors of a column of lists.

        Raises
        ------
        CorpusError
            For a vector that cannot be used; it names the row.
        """
        ...
