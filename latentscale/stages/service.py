"""Embedding a shard with a service: answers are stored as they arrive, and spending is shared by all workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.embedders import EmbedderSpec
from latentscale.embedders.protocol import Embedded
from latentscale.embedders.service import Answer, AnswerKeeper, ServiceEmbedder
from latentscale.errors import EnvironmentFailure
from latentscale.services.failures import UnansweredError
from latentscale.storage.answers import AnswerIndex, forget_written, model_key, write_answer
from latentscale.storage.objects import Store
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshot import Shard
from latentscale.storage.spending import SpendingLog

# Rows that the message of a quarantined shard lists.
_NAMED = 5


class ShardService:
    """Stored answers and spending of an embedding service, for one worker.

    Parameters
    ----------
    store : Store
    spec : EmbedderSpec
        A service: with ``terms``.
    embedding_id : str
    run : str
        Id of the run whose spending is counted.
    """

    def __init__(self, store: Store, spec: EmbedderSpec, embedding_id: str, run: str) -> None:
        assert spec.terms is not None, "only a service has terms"
        self._store = store
        self._model = model_key(spec.identity())
        forget_written(store, self._model, embedding_id)
        self._index = AnswerIndex(store, self._model)
        self._spending = SpendingLog(store, run, spec.terms)

    def embed(self, embedder: ServiceEmbedder, shard: str, texts: Sequence[str]) -> Embedded:
        """Embed the texts of a shard; texts with a stored answer are not sent again.

        Raises
        ------
        UnansweredError
            If the service answered some of the texts only.
        EnvironmentFailure
            If it answered none.
        """
        self._index.look_again(shard)
        try:
            return embedder.embed_kept(
                texts, _ShardAnswers(self._store, self._model, shard, self._index), self._spending
            )
        except UnansweredError as error:
            if error.answered:
                raise
            raise EnvironmentFailure(
                f"the embedding service does not answer any more: {error.reason} ({error.attempts} attempts)",
                hint="When it answers again, run the same command: its answers are kept, and none is paid twice.",
            ) from None
        finally:
            self._spending.write()

    def finish(self, shard: str) -> None:
        """Delete the answers of a shard whose vectors are written."""
        self._index.forget(shard)

    def describe(self, shard: Shard, rows: NDArray[np.int64], error: UnansweredError) -> str:
        """Describe why a shard was quarantined, with the first rows that have no vector."""
        sources = read_parquet(self._store, shard.name, ["source", "source_row"]).take(pa.array(rows[:_NAMED]))
        named = [
            f"{PurePosixPath(str(source)).name} row {row}"
            for source, row in zip(sources["source"].to_pylist(), sources["source_row"].to_pylist(), strict=True)
        ]
        more = f" and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else ""
        return (
            f"the embedding service gave no good answer in {error.attempts} attempts ({error.reason}), "
            f"for {len(rows):,} documents: {', '.join(named)}{more}"
        )


class _ShardAnswers(AnswerKeeper):
    """The stored answers of one shard."""

    def __init__(self, store: Store, model: str, shard: str, index: AnswerIndex) -> None:
        self._store = store
        self._model = model
        self._shard = shard
        self._index = index

    def find(self, texts: Sequence[str]) -> Any:
        """Yield stored answers, object by object."""
        return self._index.find(texts)

    def keep(self, texts: Sequence[str], answer: Answer) -> None:
        """Store an answer."""
        write_answer(self._store, self._model, self._shard, texts, answer)
