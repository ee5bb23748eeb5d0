"""Embed the texts of a shard with concurrent requests; answers are persisted, and rejected texts isolated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.endpoint.client import Client
from latentscale.embedders.endpoint.sizes import Prepared, plan_requests, prepare
from latentscale.embedders.endpoint.wire import Role
from latentscale.embedders.protocol import Embedded
from latentscale.embedders.service import Answer, AnswerKeeper, ProbeResult
from latentscale.errors import ConfigError, EnvironmentFailure
from latentscale.services.failures import RefusedError, StoppedError, UnansweredError
from latentscale.services.terms import Spending

PROBE = "A short text about a map."
# After so many single texts rejected in a row, check whether the service rejects everything.
_REJECTIONS_BEFORE_PROBE = 8
# Values of a vector that identify a model.
_SAMPLE_WIDTH = 64


@dataclass(slots=True)
class _ShardResult:
    """Accumulates the vectors of a shard."""

    texts: int
    vectors: NDArray[np.float32] | None = None
    embeddable: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    answered: int = 0
    reasons: dict[int, str] = field(default_factory=dict[int, str])
    tokens: int = 0

    def add(self, positions: NDArray[np.int64], answer: Answer) -> None:
        """Add the answer for the texts at ``positions``."""
        self.tokens += int(answer.tokens.sum())
        self.answered += len(positions)
        good = np.array([not reason for reason in answer.reasons], dtype=np.bool_)
        for position, reason in zip(positions.tolist(), answer.reasons, strict=True):
            if reason:
                self.reasons[position] = reason
        if not good.any():
            return
        if self.vectors is None:
            self.vectors = np.zeros((self.texts, answer.vectors.shape[1]), dtype=np.float32)
            self.embeddable = np.zeros(self.texts, dtype=np.bool_)
        self.vectors[positions[good]] = answer.vectors[good]
        self.embeddable[positions[good]] = True


class EndpointEmbedder:
    """Embeds with a service.

    Parameters
    ----------
    client : Client
    document_prompt, query_prompt : str
    max_tokens : int
        Maximum tokens of a text, by estimate.
    max_texts, max_batch_tokens : int
        Limits of a request.
    concurrency : int
        Maximum concurrent requests.
    dimensions : int or None
        Requested width; None for the model's default.
    """

    def __init__(
        self,
        client: Client,
        *,
        document_prompt: str,
        query_prompt: str,
        max_tokens: int,
        max_texts: int,
        max_batch_tokens: int,
        concurrency: int,
        dimensions: int | None,
    ) -> None:
        self._client = client
        self._prompts: dict[Role, str] = {"document": document_prompt, "query": query_prompt}
        self._max_tokens = max_tokens
        self._max_texts = max_texts
        self._max_batch_tokens = max_batch_tokens
        self._concurrency = concurrency
        # The first protects the state below and is held briefly; the second, while one thread probes the service.
        self._lock, self._probing = threading.Lock(), threading.Lock()
        self._width = self._requested_width = dimensions
        self._refused_in_a_row = 0
        self._successes_at_failure = 0
        self._running: set[threading.Event] = set()

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Embed documents, in order.

        Raises
        ------
        EnvironmentFailure
            If the service does not answer.
        """
        return self._unkept(texts, "document")

    def embed_queries(self, texts: Sequence[str]) -> Embedded:
        """Embed search queries, in order, with the prompt and input type of queries.

        Raises
        ------
        EnvironmentFailure
            If the service does not answer.
        """
        return self._unkept(texts, "query")

    def embed_kept(self, texts: Sequence[str], keeper: AnswerKeeper, spending: Spending) -> Embedded:
        """Embed documents, in order, without requesting those whose answers ``keeper`` has.

        Raises
        ------
        UnansweredError
            If some were not answered after several attempts; answers to others are persisted.
        """
        return self._embed(texts, "document", keeper, spending)

    def stop(self) -> None:
        """Send no further requests of current calls; answers in flight are still persisted."""
        for event in list(self._running):
            event.set()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def probe(self) -> ProbeResult:
        """Request the vector of a fixed text.

        Raises
        ------
        ConfigError
            If the address, the model, the key or an option is wrong.
        EnvironmentFailure
            If the service does not answer.
        """
        prepared = self._prepared([PROBE], "document")
        try:
            vectors, _ = self._client.ask(prepared.texts, prepared.sizes, role="document", stop=threading.Event())
        except RefusedError as error:
            raise self._refuses_everything(error) from None
        except UnansweredError as error:
            raise self._no_answer(error) from None
        self._check_width(vectors)
        first = vectors[0].astype(np.float64)
        norm = float(np.linalg.norm(first))
        if not norm:
            raise ConfigError(
                f"the embedding service gives a vector of zeros for the text {PROBE!r}",
                where=self._client.url,
                hint="Check embed.options.model: is it a model that embeds texts, and is it loaded completely?",
            )
        sample = first[:_SAMPLE_WIDTH] / max(norm, 1e-12)
        return ProbeResult(
            note=f"{self._client.url} answers with vectors of {vectors.shape[1]:,} numbers",
            sample=tuple(round(float(value), 5) for value in sample),
        )

    def _unkept(self, texts: Sequence[str], role: Role) -> Embedded:
        try:
            return self._embed(texts, role, None, None)
        except UnansweredError as error:
            raise self._no_answer(error) from None

    def _embed(
        self, texts: Sequence[str], role: Role, keeper: AnswerKeeper | None, spending: Spending | None
    ) -> Embedded:
        stop = threading.Event()
        # Registered before the lookup, so that a concurrent ``stop`` is not missed.
        self._running.add(stop)
        try:
            return self._embed_until(stop, texts, role, keeper, spending)
        finally:
            self._running.discard(stop)

    def _embed_until(
        self,
        stop: threading.Event,
        texts: Sequence[str],
        role: Role,
        keeper: AnswerKeeper | None,
        spending: Spending | None,
    ) -> Embedded:
        prepared = self._prepared(texts, role)
        result = _ShardResult(len(texts))
        pending = np.ones(len(texts), dtype=np.bool_)
        any_known = False
        for positions, answer in keeper.find(texts) if keeper is not None else ():
            self._check_width(answer.vectors)
            result.add(positions, answer)
            pending[positions] = False
            any_known = True

        def keep(positions: NDArray[np.int64], answer: Answer) -> None:
            if keeper is not None:
                keeper.keep([texts[int(position)] for position in positions], answer)

        requests = iter(
            plan_requests(
                np.flatnonzero(pending), prepared.sizes, max_texts=self._max_texts, max_tokens=self._max_batch_tokens
            )
        )
        send_request = _RequestSender(self, prepared, role, keep, spending, stop)
        failures: list[BaseException] = []
        for answers in _in_parallel(send_request, requests, self._concurrency, stop, failures):
            for positions, answer in answers:
                result.add(positions, answer)
        if failures:
            raise self._worst(failures, known=any_known)
        if result.answered < len(texts):
            raise EnvironmentFailure(
                f"{len(texts) - result.answered:,} texts were not sent to the embedding service: the run was stopped",
                hint="Run the same command again: what was answered is kept.",
            )
        width = self._width or 0
        return Embedded(
            vectors=result.vectors if result.vectors is not None else np.zeros((len(texts), width), np.float32),
            embeddable=result.embeddable if result.vectors is not None else np.zeros(len(texts), np.bool_),
            tokens=result.tokens,
            unknown=0,
            truncated=prepared.truncated,
            reasons=result.reasons,
        )

    def ask(
        self,
        positions: NDArray[np.int64],
        prepared: Prepared,
        role: Role,
        keep: Callable[[NDArray[np.int64], Answer], None],
        spending: Spending | None,
        stop: threading.Event,
    ) -> list[tuple[NDArray[np.int64], Answer]]:
        """Request the vectors of some texts; a rejected request is bisected down to the texts that cause it.

        Raises
        ------
        UnansweredError
            With the positions of the texts.
        ConfigError, StoppedError
            From the client; and ``ConfigError`` if the service rejects everything.
        """
        sizes = prepared.sizes[positions]
        try:
            vectors, tokens = self._client.ask(
                [prepared.texts[position] for position in positions.tolist()],
                sizes,
                role=role,
                stop=stop,
                spending=spending,
            )
        except RefusedError as error:
            if len(positions) > 1:
                half = len(positions) // 2
                first = self.ask(positions[:half], prepared, role, keep, spending, stop)
                second = self.ask(positions[half:], prepared, role, keep, spending, stop)
                self._learn_limit(half, [*first, *second])
                return [*first, *second]
            self._check_rejection(error, role, stop)
            answer = Answer(
                vectors=np.zeros((1, 0), np.float32),
                reasons=[f"the embedding service refused it: {error.status}: {error.reason}"],
                tokens=np.zeros(1, np.int64),
            )
        except UnansweredError as error:
            error.positions = [*error.positions, *positions.tolist()]
            raise
        else:
            self._refused_in_a_row = 0
            answer = self._answer(vectors, tokens, sizes)
        keep(positions, answer)
        return [(positions, answer)]

    def _answer(self, vectors: NDArray[np.float32], tokens: int, sizes: NDArray[np.int64]) -> Answer:
        self._check_width(vectors)
        norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        nonzero = norms > 0
        unit = np.divide(vectors, norms[:, None], out=np.zeros_like(vectors), where=nonzero[:, None], casting="unsafe")
        # Billed tokens are known only per request: apportion them by size.
        cumulative = np.floor(np.cumsum(sizes + 1) / float((sizes + 1).sum()) * tokens + 0.5).astype(np.int64)
        return Answer(
            vectors=unit,
            reasons=["" if valid else "the embedding service gave a vector of zeros" for valid in nonzero.tolist()],
            tokens=np.diff(cumulative, prepend=0),
        )

    def _check_width(self, vectors: NDArray[np.float32]) -> None:
        width = int(vectors.shape[1])
        with self._lock:
            if width and self._width is None:
                self._width = width
            if width and width != self._width and self._requested_width is not None:
                raise ConfigError(
                    f"the embedding service gives vectors of {width:,} numbers, and {self._requested_width:,} were "
                    "asked for",
                    where="embed.options.dimensions",
                    hint=f"The model behind {self._client.url} gives no others: leave dimensions out.",
                )
            if width and width != self._width:
                raise EnvironmentFailure(
                    f"the embedding service gives vectors of {width:,} numbers, and before {self._width:,}",
                    where=self._client.url,
                    hint="Its model has changed: set the one that the map was made with, or another revision.",
                )

    def _learn_limit(self, half: int, answers: Sequence[tuple[NDArray[np.int64], Answer]]) -> None:
        """Limit requests to ``half`` if both halves of a rejected request succeeded: it was too large."""
        if len(answers) == 2 and not any(reason for _, answer in answers for reason in answer.reasons):
            with self._lock:
                self._max_texts = max(1, min(self._max_texts, half))

    def _check_rejection(self, error: RefusedError, role: Role, stop: threading.Event) -> None:
        """After a single text was rejected, check that the service accepts any request; only one thread does so.

        Raises
        ------
        ConfigError
            If it rejects everything: the settings are wrong, not the texts.
        StoppedError
            If ``stop`` was set meanwhile.
        """
        with self._lock:
            self._refused_in_a_row += 1
            successes = self._client.successes
            if successes and self._refused_in_a_row % _REJECTIONS_BEFORE_PROBE:
                return
        with self._probing:
            if self._client.successes > successes:  # another thread succeeded while this one waited
                return
            prepared = self._prepared([PROBE], role)
            try:
                self._client.ask(prepared.texts, prepared.sizes, role=role, stop=stop)
            except RefusedError:
                raise self._refuses_everything(error) from None
            except UnansweredError:
                return

    def _worst(self, failures: Sequence[BaseException], *, known: bool) -> BaseException:
        """Return the failure to report: one that ends the run takes precedence over one that ends the shard."""
        unanswered = [error for error in failures if isinstance(error, UnansweredError)]
        others = [error for error in failures if not isinstance(error, UnansweredError)]
        if others:
            return others[0]
        answered = known or self._client.successes > self._successes_at_failure
        self._successes_at_failure = self._client.successes
        return UnansweredError(
            unanswered[0].reason,
            attempts=unanswered[0].attempts,
            positions=sorted({position for error in unanswered for position in error.positions}),
            answered=answered,
        )

    def _prepared(self, texts: Sequence[str], role: Role) -> Prepared:
        return prepare(texts, prompt=self._prompts[role], max_tokens=self._max_tokens)

    def _refuses_everything(self, error: RefusedError) -> ConfigError:
        return ConfigError(
            f"the embedding service refuses every request ({error.status}: {error.reason})",
            where=self._client.url,
            hint="Check embed.options: model, dimensions, input_type and provider.",
        )

    def _no_answer(self, error: UnansweredError) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"the embedding service gave no good answer in {error.attempts} attempts: {error.reason}",
            where=self._client.url,
            hint="When it answers again, run the same command; it resumes where it stopped. If it never did: check "
            "embed.options.url and provider.",
        )


@dataclass(frozen=True, slots=True)
class _RequestSender:
    """Sends the requests of one shard; holds what they have in common."""

    embedder: EndpointEmbedder
    prepared: Prepared
    role: Role
    keep: Callable[[NDArray[np.int64], Answer], None]
    spending: Spending | None
    stop: threading.Event

    def __call__(self, positions: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], Answer]]:
        return self.embedder.ask(positions, self.prepared, self.role, self.keep, self.spending, self.stop)


def _in_parallel(
    send_request: _RequestSender,
    requests: Iterator[NDArray[np.int64]],
    concurrency: int,
    stop: threading.Event,
    failures: list[BaseException],
) -> Iterator[list[tuple[NDArray[np.int64], Answer]]]:
    """Run requests concurrently; after a failure no more are started, and those in flight are awaited."""
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="endpoint")
    running: set[Future[list[tuple[NDArray[np.int64], Answer]]]] = set()
    try:
        while True:
            while not failures and len(running) < concurrency and (positions := next(requests, None)) is not None:
                running.add(pool.submit(send_request, positions))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if error is None:
                    yield future.result()
                elif not isinstance(error, StoppedError):
                    failures.append(error)
                    stop.set()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
