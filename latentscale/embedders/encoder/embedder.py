"""Embed texts with an encoder in torch: a thread makes the batches, the device computes, results return at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.encoder.ahead import ahead
from latentscale.embedders.encoder.feed import Batch, Feed, Tally
from latentscale.embedders.protocol import Embedded
from latentscale.errors import ConfigError, ResourceError, name_list, shortened

if TYPE_CHECKING:
    from latentscale.embedders.encoder.model import SentenceModel

BATCH_TOKENS = {"cpu": 4_096, "mps": 16_384, "cuda": 65_536}
"""Tokens of a batch by the kind of device, padding included, where ``batch_tokens`` says nothing."""


@dataclass(slots=True, kw_only=True)
class Work:
    """What the embedder did so far.

    Attributes
    ----------
    texts, tokens, padded_tokens, batches : int
        Tokens that were read, and tokens that the device computed, padding and special ones included.
    halvings : int
        How often the budget was halved because the device's memory was too small.
    batch_tokens : int
        The budget now.
    seconds, waiting_seconds : float
        In ``embed``, and of that waiting for a batch that was not ready.
    attention : str
        How attention is computed.
    """

    texts: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    batches: int = 0
    halvings: int = 0
    batch_tokens: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    attention: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Rows of vectors, a Tensor on the host that a GPU may still be writing, and the texts that they belong to."""

    text: NDArray[np.int64]
    weight: NDArray[np.int32]
    vectors: Any


class EncoderEmbedder:
    """An opened sentence encoder.

    Parameters
    ----------
    model : SentenceModel
    documents, queries : Feed
        With the prompt of documents, and with that of queries.
    dimensions : int
        Width of the vectors.
    batch_tokens : int
        Tokens of a batch at most, padding included; a text that is longer is a batch of its own.

    Attributes
    ----------
    work : Work
    """

    def __init__(
        self,
        model: SentenceModel,
        *,
        documents: Feed,
        queries: Feed,
        dimensions: int,
        batch_tokens: int,
    ) -> None:
        self._model = model
        self._documents = documents
        self._queries = queries
        self._on_cuda = model.device.startswith("cuda")
        self.dim = dimensions
        self.work = Work(batch_tokens=batch_tokens, attention=model.attention)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed documents, in order.

        Raises
        ------
        ConfigError
            Naming the texts whose vectors are no numbers.
        ResourceError
            Naming a text that is too long for the device's memory.
        """
        return self._embed(texts, self._documents)

    def embed_queries(self, texts: Sequence[str]) -> Embedded:
        """Embed queries, which may have another prompt than documents."""
        return self._embed(texts, self._queries)

    def _embed(self, texts: Sequence[str], feed: Feed) -> Embedded:
        started = time.perf_counter()
        tally, halvings = Tally(len(texts)), self.work.halvings
        found: list[_Found] = []
        batches = feed.batches(texts, tally, budget=lambda: self.work.batch_tokens)
        with closing(ahead(map(self._pinned, batches))) as ready:
            for batch in self._timed(ready):
                found += self._computed(batch, texts, feed.skipped)
        vectors = self._gathered(found, len(texts))
        _check_finite(vectors, texts)
        embeddable = ~tally.empty & vectors.any(axis=1)
        self.work.texts += len(texts)
        self.work.tokens += tally.read
        self.work.padded_tokens += tally.padded
        self.work.seconds += time.perf_counter() - started
        return Embedded(
            vectors=vectors,
            embeddable=embeddable,
            tokens=tally.read,
            unknown=tally.unknown,
            truncated=int(np.count_nonzero(tally.truncated)),
            halved=self.work.halvings - halvings,
        )

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.work.waiting_seconds += time.perf_counter() - began
            if batch is None:
                return
            self.work.batches += 1
            yield batch

    def _pinned(self, batch: Batch) -> Batch:
        """As tensors, in memory from which a GPU copies while the processor goes on."""
        import torch

        tokens, lengths = torch.from_numpy(batch.tokens), torch.from_numpy(batch.lengths)
        if self._on_cuda:
            tokens, lengths = tokens.pin_memory(), lengths.pin_memory()
        return Batch(text=batch.text, weight=batch.weight, tokens=tokens, lengths=lengths)

    def _computed(self, batch: Batch, texts: Sequence[str], skipped: int) -> list[_Found]:
        """The vectors of a batch; where memory is too small, of its halves."""
        import torch

        done: list[_Found] = []
        waiting = [batch]
        while waiting:
            one = waiting.pop()
            if len(one) > 1 and one.padded_tokens > self.work.batch_tokens:
                waiting += _halves(one)
                continue
            try:
                done.append(_Found(text=one.text, weight=one.weight, vectors=self._on_device(one, skipped)))
                continue
            except torch.OutOfMemoryError as error:
                # The error holds the frames of the model, and they its tensors: the memory is free only without it.
                reason = " ".join(str(error).split())[:200]
            self._halve(one, texts, reason)
            waiting += _halves(one)
        return done

    def _on_device(self, batch: Batch, skipped: int) -> Any:
        import torch

        device = self._model.device
        tokens = batch.tokens.to(device, non_blocking=self._on_cuda)
        lengths = batch.lengths.to(device, non_blocking=self._on_cuda)
        vectors = self._model(tokens, lengths, skipped=skipped)
        if not self._on_cuda:
            return vectors.to("cpu")
        host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        return host.copy_(vectors, non_blocking=True)

    def _halve(self, batch: Batch, texts: Sequence[str], reason: str) -> None:
        """Go on with half the budget: half of what was computed, where the batch was smaller than the budget."""
        import torch

        if self._on_cuda:
            torch.cuda.empty_cache()
        if len(batch) == 1:
            text = texts[int(batch.text[0])]
            raise ResourceError(
                f"a text of {int(batch.lengths[0]):,} tokens does not fit into the memory of {self._model.device}: "
                f"{shortened(text)!r} ({reason})",
                where=f"text {int(batch.text[0])} of the shard",
                hint="Use a smaller embed.max_tokens, or set embed.options.long to chunk or precision to bf16.",
            )
        self.work.halvings += 1
        self.work.batch_tokens = max(1, min(self.work.batch_tokens, batch.padded_tokens) // 2)

    def _gathered(self, found: list[_Found], texts: int) -> NDArray[np.float32]:
        """Vectors by text: those of one window as they are, those of several averaged by their tokens."""
        import torch

        if self._on_cuda:
            torch.cuda.synchronize(self._model.device)
        vectors = np.zeros((texts, self.dim), np.float32)
        if not found:
            return vectors
        text = np.concatenate([one.text for one in found])
        rows = np.concatenate([one.vectors.numpy() for one in found])
        if len(np.unique(text)) == len(text):
            vectors[text] = rows
            return vectors
        weight = np.concatenate([one.weight for one in found]).astype(np.float32)
        order = np.argsort(text, kind="stable")
        firsts = np.flatnonzero(np.diff(text[order], prepend=-1))
        sums = np.add.reduceat(rows[order] * weight[order, None], firsts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        vectors[text[order][firsts]] = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        return vectors


def _halves(batch: Batch) -> list[Batch]:
    """Both halves of a batch, the one with the longest texts last: it is taken first."""
    middle = len(batch) // 2
    return [batch.part(middle, len(batch)), batch.part(0, middle)]


def _check_finite(vectors: NDArray[np.float32], texts: Sequence[str]) -> None:
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        named = name_list([repr(shortened(texts[int(row)])) for row in wrong[:5].tolist()], most=5)
        raise ConfigError(
            f"the model gives vectors that are no numbers for {len(wrong):,} of {len(texts):,} texts: {named}",
            where=f"texts {', '.join(map(str, wrong[:5].tolist()))} of the shard",
            hint="Set embed.options.precision to fp32 or bf16: numbers above 65,504 are infinite in fp16.",
        )
