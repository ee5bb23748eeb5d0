"""Embed texts with a graph in onnxruntime, in batches of similar lengths within a token budget."""

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

# Small enough for activations to stay in the CPU cache: with six layers of width 384, 512 tokens had 1.7 times the
# throughput of 16,384 in a third of the memory. In int8, whose scales are per batch, small batches are also more exact.
CPU_TOKENS = 512
GPU_TOKENS = 32_768


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerSettings:
    """How texts are tokenised.

    Attributes
    ----------
    limit : int
        Maximum number of tokens of a text, including special tokens.
    document_prompt, query_prompt : str
        Prefix of each text.
    long, overlap
        See :class:`latentscale.embedders.tokens.TextTokenizer`.
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
        Its tokenizer is used, and its layers after the pooling if the graph ends before the pooling.
    tokenizer_settings : TokenizerSettings
    dimensions : int, optional
        Truncate vectors to this width.
    batch_tokens : int, optional
        Maximum tokens of a batch, including padding; a longer text is a batch of its own.
    provider : {"auto", "cpu", "cuda"}
    device : str

    Attributes
    ----------
    provider : str
        Execution provider in use, as named by onnxruntime.
    device : str
        Device and provider, for the embedding's record.
    dim : int
        Width of the vectors.
    budget : int
        Maximum tokens of a batch; reduced after a batch did not fit in memory.

    Raises
    ------
    ConfigError
        If graph and tokenizer do not match, or the provider is unavailable.
    """

    def __init__(
        self,
        graph: Graph,
        sentence: SentenceFolder,
        tokenizer_settings: TokenizerSettings,
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
                compiled,
                limit=tokenizer_settings.limit,
                prompt=prompt,
                long=tokenizer_settings.long,
                overlap=tokenizer_settings.overlap,
            )
            return Feed(
                tokenizer,
                limit=sentence.max_seq_length or tokenizer_settings.limit,
                # GPU matrix units need widths that are multiples of eight; on CPUs padding only costs time.
                multiple=8 if on_gpu else 1,
                padding=_padding(sentence),
                skipped=0 if sentence.include_prompt or not prompt else tokenizer.prompt_tokens,
            )

        self._documents, self._queries = feed(tokenizer_settings.document_prompt), feed(tokenizer_settings.query_prompt)
        # Ids of added tokens that the model never uses may be beyond its embedding table.
        self._run_probe(compiled.get_vocab_size(with_added_tokens=False) - 1, tokenizer_settings.limit)

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed documents, in order.

        Raises
        ------
        ConfigError
            If the graph fails, or returns NaN or infinity; the message names the texts.
        ResourceError
            If a single text does not fit in memory.
        """
        return self._embed(texts, self._documents)

    def embed_queries(self, texts: Sequence[str]) -> Embedded:
        """Embed queries, whose prompt may differ from that of documents."""
        return self._embed(texts, self._queries)

    def _embed(self, texts: Sequence[str], feed: Feed) -> Embedded:
        tally, halved_before = Tally(len(texts)), self._halved
        text_indices: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        weights: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
        vectors_by_batch: list[NDArray[np.float32]] = [np.empty((0, self.dim), np.float32)]
        with closing(Ahead(feed.batches(texts, tally, budget=lambda: self.budget))) as batches:
            for batch in batches:
                for part, vectors in self._compute_batch(batch, feed.skipped):
                    text_indices.append(part.text)
                    weights.append(part.weight)
                    vectors_by_batch.append(vectors)
        vectors = average_windows(
            np.concatenate(vectors_by_batch), np.concatenate(text_indices), np.concatenate(weights), len(texts)
        )
        self._check_finite(vectors, texts)
        return Embedded(
            vectors=vectors,
            embeddable=~tally.empty & vectors.any(axis=1),
            tokens=tally.read,
            unknown=tally.unknown,
            truncated=int(np.count_nonzero(tally.truncated)),
            halved=self._halved - halved_before,
        )

    def _compute_batch(self, batch: Batch, skipped: int) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
        """Yield a batch with its unit vectors; in halves if it does not fit in memory."""
        # A batch that was queued before the budget was reduced is split at once.
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
        yield from self._compute_batch(batch.part(0, middle), skipped)
        yield from self._compute_batch(batch.part(middle, len(batch)), skipped)

    def _vectors(self, ids: NDArray[np.int32], lengths: NDArray[np.int32], skipped: int) -> NDArray[np.float32]:
        columns = np.arange(ids.shape[1], dtype=np.int32)
        mask = columns < lengths[:, None]
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        output = self._session.run(inputs, self._graph.output)
        self._check(output, ids)
        if self._graph.pooling:
            counted = mask & (columns >= skipped) if skipped else mask
            output = self._heads(pool(output, counted, self._graph.pooling))
        return normalise(output, self._dimensions)

    def _check(self, output: NDArray[Any], ids: NDArray[np.int32]) -> None:
        expected = ids.shape if self._graph.pooling else ids.shape[:1]
        if output.dtype != np.float32 or output.shape[:-1] != expected:
            raise ConfigError(
                f"{self._graph.path} gives {output.dtype} of shape {output.shape} for {len(ids)} texts of "
                f"{ids.shape[1]} tokens",
                where="embed.model",
                hint="Write it again: latentscale models export MODEL --out FOLDER.",
            )

    def _check_finite(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> None:
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(wrong):
            examples = name_list([repr(shortened(texts[int(row)])) for row in wrong[:5]], most=5)
            raise ConfigError(
                f"{self._graph.path} gives NaN or infinite vectors for {len(wrong):,} of {len(texts):,} texts: "
                f"{examples}",
                where=f"texts {', '.join(map(str, wrong[:5].tolist()))} of the shard",
                hint="Use a file in fp32, or write it again: latentscale models export MODEL --out FOLDER.",
            )

    def _run_probe(self, token: int, limit: int) -> None:
        """Run once, with the last token of the vocabulary, to detect a mismatch before the first shard."""
        tokenizer = self._documents.tokenizer
        ids = [*tokenizer.before, token, token, *tokenizer.after][:limit]
        vectors = self._vectors(np.array([ids, ids], np.int32), np.array([len(ids)] * 2, np.int32), 0)
        if vectors.shape[1] != self.dim:
            raise ConfigError(
                f"{self._graph.path} gives vectors of {vectors.shape[1]:,} values, and its folder describes "
                f"{self.dim:,}",
                where="embed.model",
                hint="The graph and the other files are of different models: download or export both again.",
            )
        if not np.isfinite(vectors).all():
            raise ConfigError(
                f"{self._graph.path} gives numbers that are not finite", where="embed.model", hint="Export it again."
            )


def _padding(sentence: SentenceFolder) -> int:
    """Return the padding token id, from which some models derive positions."""
    padding = sentence.config.get("pad_token_id")
    return padding if isinstance(padding, int) and not isinstance(padding, bool) and padding >= 0 else 0
