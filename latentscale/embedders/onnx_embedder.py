"""Embed texts with a graph in onnxruntime: batches of texts of one length, under a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.encoder.ahead import Ahead
from latentscale.embedders.encoder.feed import Batch, Feed, Tally
from latentscale.embedders.onnx_folder import Graph
from latentscale.embedders.onnx_session import OnnxSession, Provider
from latentscale.embedders.protocol import Embedded
from latentscale.embedders.sentence_folder import SentenceFolder
from latentscale.embedders.token_pooling import average_windows, normalise, pool
from latentscale.embedders.tokens import TextTokenizer, open_tokenizer
from latentscale.embedders.vector_heads import read_heads
from latentscale.errors import ConfigError, ResourceError, name_list, shortened

# What is between layers stays in a processor's own cache: with six layers of 384, 512 tokens did 1.7 times the rows of
# 16,384 in a third of the memory. In int8, whose scales are those of a batch, small batches are more exact too.
CPU_TOKENS = 512
GPU_TOKENS = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How texts become tokens.

    Attributes
    ----------
    limit : int
        Most tokens of a text, special ones included.
    document_prompt, query_prompt : str
        Stand before each text.
    long, overlap
        As :class:`latentscale.embedders.tokens.TextTokenizer` has them.
    """

    limit: int
    document_prompt: str = ""
    query_prompt: str = ""
    long: Literal["truncate", "chunk"] = "truncate"
    overlap: int = 0


class OnnxEmbedder:
    """A sentence encoder in onnxruntime.

    Parameters
    ----------
    graph : Graph
    sentence : SentenceFolder
        Tokenizer, and the layers after the pooling for a graph that ends before it.
    reading : Reading
    dimensions : int, optional
        Keep the first so many.
    batch_tokens : int, optional
        Tokens of a batch at most, padding included; a text that is longer is a batch of its own.
    provider : {"auto", "cpu", "cuda"}
    device : str

    Attributes
    ----------
    provider : str
        Of onnxruntime, that computes.
    device : str
        The device and the provider, for the record.
    dim : int
        Width of the vectors.
    budget : int
        Tokens of a batch at most: less than at first where memory did not hold one.

    Raises
    ------
    ConfigError
        If graph and tokenizer do not fit, or the provider is not there.
    """

    def __init__(
        self,
        graph: Graph,
        sentence: SentenceFolder,
        reading: Reading,
        *,
        dimensions: int | None = None,
        batch_tokens: int | None = None,
        provider: Provider = "auto",
        device: str = "cpu",
    ) -> None:
        self._graph = graph
        self._dimensions = dimensions
        self.dim = dimensions or graph.dimensions
        self._heads = read_heads(sentence.heads if graph.pooling == sentence.pooling else ())
        self._session = OnnxSession(graph.path, device=device, provider=provider)
        on_gpu = self._session.on_gpu
        self.provider = self._session.provider
        self.device = f"{device if on_gpu else 'cpu'} ({self.provider})"
        self.budget = batch_tokens or (GPU_TOKENS if on_gpu else CPU_TOKENS)
        self._halved = 0
        compiled = open_tokenizer(sentence.encoder, lower_case=sentence.do_lower_case)

        def feed(prompt: str) -> Feed:
            tokenizer = TextTokenizer(
                compiled, limit=reading.limit, prompt=prompt, long=reading.long, overlap=reading.overlap
            )
            return Feed(
                tokenizer,
                limit=sentence.max_seq_length or reading.limit,
                # Widths that are multiples of eight suit a GPU's units; on processors padding is only work.
                multiple=8 if on_gpu else 1,
                padding=_padding(sentence),
                skipped=0 if sentence.include_prompt or not prompt else tokenizer.prompt_tokens,
            )

        self._documents, self._queries = feed(reading.document_prompt), feed(reading.query_prompt)
        # Added tokens may lie beyond the table of a model that never meets them.
        self._try(compiled.get_vocab_size(with_added_tokens=False) - 1, reading.limit)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed documents, in order.

        Raises
        ------
        ConfigError
            If the graph cannot compute a text, or gives what is no number; it names the texts.
        ResourceError
            If memory does not hold the computation of a single text.
        """
        return self._embed(texts, self._documents)

    def embed_queries(self, texts: Sequence[str]) -> Embedded:
        """Embed queries, which may have another prompt than documents."""
        return self._embed(texts, self._queries)

    def _embed(self, texts: Sequence[str], feed: Feed) -> Embedded:
        tally, before = Tally(len(texts)), self._halved
        text: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        weight: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
        rows: list[NDArray[np.float32]] = [np.empty((0, self.dim), np.float32)]
        with closing(Ahead(feed.batches(texts, tally, budget=lambda: self.budget))) as ready:
            for batch in ready:
                for part, vectors in self._computed(batch, feed.skipped):
                    text.append(part.text)
                    weight.append(part.weight)
                    rows.append(vectors)
        vectors = average_windows(np.concatenate(rows), np.concatenate(text), np.concatenate(weight), len(texts))
        self._check_finite(vectors, texts)
        return Embedded(
            vectors=vectors,
            embeddable=~tally.empty & vectors.any(axis=1),
            tokens=tally.read,
            unknown=tally.unknown,
            truncated=int(np.count_nonzero(tally.truncated)),
            halved=self._halved - before,
        )

    def _computed(self, batch: Batch, skipped: int) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
        """A batch and its unit vectors; in parts where memory does not hold them at once."""
        # One that was cut before memory was found too small is not tried as it is.
        if batch.padded_tokens <= self.budget or len(batch) == 1:
            try:
                yield batch, self._vectors(batch.tokens, batch.lengths, skipped)
                return
            except ResourceError:
                if len(batch) == 1:
                    raise
            self._halved += 1
            self.budget = max(1, batch.padded_tokens // 2)
        middle = len(batch) // 2
        yield from self._computed(batch.part(0, middle), skipped)
        yield from self._computed(batch.part(middle, len(batch)), skipped)

    def _vectors(self, ids: NDArray[np.int32], lengths: NDArray[np.int32], skipped: int) -> NDArray[np.float32]:
        columns = np.arange(ids.shape[1], dtype=np.int32)
        mask = columns < lengths[:, None]
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        found = self._session.run(inputs, self._graph.output)
        self._check(found, ids)
        if self._graph.pooling:
            counted = mask & (columns >= skipped) if skipped else mask
            found = self._heads(pool(found, counted, self._graph.pooling))
        return normalise(found, self._dimensions)

    def _check(self, found: NDArray[Any], ids: NDArray[np.int32]) -> None:
        wanted = ids.shape if self._graph.pooling else ids.shape[:1]
        if found.dtype != np.float32 or found.shape[:-1] != wanted:
            raise ConfigError(
                f"{self._graph.path} gives {found.dtype} of shape {found.shape} for {len(ids)} texts of {ids.shape[1]} "
                "tokens",
                where="embed.model",
                hint="Write it again: latentscale models export MODEL --out FOLDER.",
            )

    def _check_finite(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> None:
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            named = name_list([repr(shortened(texts[int(row)])) for row in wrong[:5]], most=5)
            raise ConfigError(
                f"{self._graph.path} gives vectors that are no numbers for {len(wrong):,} of {len(texts):,} texts: "
                f"{named}",
                where=f"texts {', '.join(map(str, wrong[:5].tolist()))} of the shard",
                hint="Use a file in fp32, or write it again: latentscale models export MODEL --out FOLDER.",
            )

    def _try(self, token: int, limit: int) -> None:
        """Compute once, with the last token of the vocabulary: what does not fit shows here and not in a shard."""
        tokenizer = self._documents.tokenizer
        inner = [*tokenizer.before, token, token, *tokenizer.after][:limit]
        found = self._vectors(np.array([inner, inner], np.int32), np.array([len(inner)] * 2, np.int32), 0)
        if found.shape[1] != self.dim:
            raise ConfigError(
                f"{self._graph.path} gives vectors of {found.shape[1]:,} values, and its folder describes {self.dim:,}",
                where="embed.model",
                hint="The graph and the files beside it are of different models: fetch or export both again.",
            )
        if not np.isfinite(found).all():
            raise ConfigError(
                f"{self._graph.path} gives numbers that are not finite", where="embed.model", hint="Export it again."
            )


def _padding(sentence: SentenceFolder) -> int:
    """The token that fills up rows: some models count positions by it."""
    said = sentence.config.get("pad_token_id")
    return said if isinstance(said, int) and not isinstance(said, bool) and said >= 0 else 0
