"""Embed texts with an encoder in torch, keeping the device busy.

A thread makes the batches, the device computes them asynchronously, and results are copied back behind it. Only
``finish`` waits for the device. A worker that prepares, computes and finishes consecutive shards in different threads
therefore never leaves it idle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.encoder.ahead import Ahead
from latentscale.embedders.encoder.feed import Batch, Feed, Tally
from latentscale.embedders.encoder.results import Results, Rows
from latentscale.embedders.protocol import Embedded
from latentscale.errors import ConfigError, ResourceError, name_list, shortened

if TYPE_CHECKING:
    from latentscale.embedders.encoder.model import SentenceModel

BATCH_TOKENS = {"cpu": 4_096, "mps": 16_384, "cuda": 65_536}
"""Default of ``batch_tokens`` by type of device: tokens of a batch, padding included."""

# Batches that are ready when the device wants them. Launching a batch on a GPU takes milliseconds and computing it tens
# of them, so a few bridge delays of the thread that tokenises. A batch has a quarter of a megabyte.
_READY = {"cuda": 8}


@dataclass(slots=True, kw_only=True)
class Work:
    """Counters of an embedder over its lifetime.

    Attributes
    ----------
    texts, tokens, padded_tokens, batches : int
        ``tokens`` are those of the texts; ``padded_tokens`` those computed, padding and special ones included.
    halvings : int
        How often the token budget was halved because the device ran out of memory.
    batch_tokens : int
        Current token budget.
    seconds, waiting_seconds : float
        Time in ``compute``, and the part of it spent waiting for batches.
    attention : str
        Attention implementation.
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
class Prepared:
    """Texts that are being tokenised and batched.

    Attributes
    ----------
    texts : sequence of str
    tally : Tally
    batches : Ahead of Batch
    feed : Feed
    """

    texts: Sequence[str]
    tally: Tally
    batches: Ahead[Batch]
    feed: Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """Texts whose batches were submitted to the device.

    Attributes
    ----------
    texts : sequence of str
    tally : Tally
    results : Results
    halved : int
        Batches that did not fit into the device's memory.
    """

    texts: Sequence[str]
    tally: Tally
    results: Results
    halved: int


class EncoderEmbedder:
    """A loaded sentence encoder; a :class:`latentscale.embedders.protocol.StagedEmbedder`.

    Parameters
    ----------
    model : SentenceModel
    documents, queries : Feed
        They prepend the prompt of documents, and that of queries.
    dimensions : int
        Width of the vectors.
    batch_tokens : int
        Maximum number of tokens of a batch, padding included; a longer text is a batch by itself.

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
            If vectors have NaN or infinite values; it names their texts.
        ResourceError
            If a single text does not fit into the device's memory; it names the text.
        """
        return self.finish(self.compute(self.prepare(texts)))

    def embed_queries(self, texts: Sequence[str]) -> Embedded:
        """Embed queries, whose prompt may differ from that of documents."""
        return self.finish(self.compute(self._prepared(texts, self._queries)))

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """Start tokenising documents in a thread, some batches ahead; it stops when the result is dropped."""
        return self._prepared(texts, self._documents)

    def compute(self, prepared: Prepared) -> Computed:
        """Submit all batches to the device, which may still be computing when this returns.

        Raises
        ------
        ConfigError
            If the tokenizer fails for a text.
        ResourceError
            If a single text does not fit into the device's memory; it names the text.
        """
        started = time.perf_counter()
        texts, feed, halvings = prepared.texts, prepared.feed, self.work.halvings
        results = Results(len(texts), self.dim, windows=feed.tokenizer.chunks)
        with closing(prepared.batches) as ready:
            for batch in self._timed(ready):
                for rows in self._computed(batch, texts, feed.skipped):
                    results.add(rows)
        self.work.texts += len(texts)
        self.work.tokens += prepared.tally.read
        self.work.padded_tokens += prepared.tally.padded
        self.work.seconds += time.perf_counter() - started
        return Computed(texts=texts, tally=prepared.tally, results=results, halved=self.work.halvings - halvings)

    def finish(self, computed: Computed) -> Embedded:
        """Wait for the device and return the vectors.

        Raises
        ------
        ConfigError
            If vectors have NaN or infinite values; it names their texts.
        """
        tally, vectors = computed.tally, computed.results.finish()
        # One pass for both: no square of a number of a unit vector that matters is too small or too large.
        squares = np.einsum("ij,ij->i", vectors, vectors)
        _check_finite(squares, computed.texts)
        return Embedded(
            vectors=vectors,
            embeddable=~tally.empty & (squares > 0),
            tokens=tally.read,
            unknown=tally.unknown,
            truncated=int(np.count_nonzero(tally.truncated)),
            halved=computed.halved,
        )

    def _prepared(self, texts: Sequence[str], feed: Feed) -> Prepared:
        tally = Tally(len(texts))
        batches = feed.batches(texts, tally, budget=lambda: self.work.batch_tokens)
        depth = _READY.get(self._model.device.partition(":")[0], 1)
        return Prepared(texts=texts, tally=tally, batches=Ahead(map(self._pinned, batches), depth=depth), feed=feed)

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
        """Convert to tensors, in pinned memory for a GPU, so that copying is asynchronous."""
        import torch

        tokens, lengths = torch.from_numpy(batch.tokens), torch.from_numpy(batch.lengths)
        if self._on_cuda:
            tokens, lengths = tokens.pin_memory(), lengths.pin_memory()
        return Batch(text=batch.text, weight=batch.weight, tokens=tokens, lengths=lengths)

    def _computed(self, batch: Batch, texts: Sequence[str], skipped: int) -> list[Rows]:
        """Compute a batch; if the device runs out of memory, its halves."""
        import torch

        done: list[Rows] = []
        waiting = [batch]
        while waiting:
            one = waiting.pop()
            if len(one) > 1 and one.padded_tokens > self.work.batch_tokens:
                waiting += _halves(one)
                continue
            try:
                done.append(self._on_device(one, skipped))
                continue
            except torch.OutOfMemoryError as error:
                # The error references the model's frames, and thereby its tensors, whose memory must be freed first.
                reason = " ".join(str(error).split())[:200]
            self._halve(one, texts, reason)
            waiting += _halves(one)
        return done

    def _on_device(self, batch: Batch, skipped: int) -> Rows:
        import torch

        device = self._model.device
        tokens = batch.tokens.to(device, non_blocking=self._on_cuda)
        lengths = batch.lengths.to(device, non_blocking=self._on_cuda)
        vectors = self._model(tokens, lengths, padded=batch.padded, skipped=skipped)
        if not self._on_cuda:
            return Rows(text=batch.text, weight=batch.weight, vectors=vectors.to("cpu"))
        host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        host.copy_(vectors, non_blocking=True)
        written = torch.cuda.Event(blocking=True)
        written.record(torch.cuda.current_stream(device))
        return Rows(text=batch.text, weight=batch.weight, vectors=host, written=written)

    def _halve(self, batch: Batch, texts: Sequence[str], reason: str) -> None:
        """Halve the token budget: to half of the batch, if that was smaller than the budget."""
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


def _halves(batch: Batch) -> list[Batch]:
    """Return both halves of a batch, the one with the longest texts last, since it is computed first."""
    middle = len(batch) // 2
    return [batch.part(middle, len(batch)), batch.part(0, middle)]


def _check_finite(squares: NDArray[np.float32], texts: Sequence[str]) -> None:
    wrong = np.flatnonzero(~np.isfinite(squares))
    if len(wrong):
        named = name_list([repr(shortened(texts[int(row)])) for row in wrong[:5].tolist()], most=5)
        raise ConfigError(
            f"the model gives NaN or infinite vectors for {len(wrong):,} of {len(texts):,} texts: {named}",
            where=f"texts {', '.join(map(str, wrong[:5].tolist()))} of the shard",
            hint="Set embed.options.precision to fp32 or bf16: numbers above 65,504 are infinite in fp16.",
        )
