"""Embed the texts of a shard by many requests at once, losing no answer and no text."""

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
from latentscale.embedders.service import Answer, AnswerKeeper, Probed
from latentscale.errors import ConfigError, EnvironmentFailure
from latentscale.services.failures import RefusedError, StoppedError, UnansweredError
from latentscale.services.terms import Spending

PROBE = "A short text about a map."
# So many texts in a row that are refused, each alone, are a sign that the service refuses everything.
_DOUBTS = 8
# Numbers of a vector by which a model is recognised.
_SAMPLE = 64


@dataclass(slots=True)
class _Sum:
    """The vectors of a shard, as they come."""

    texts: int
    vectors: NDArray[np.float32] | None = None
    embeddable: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    answered: int = 0
    reasons: dict[int, str] = field(default_factory=dict[int, str])
    tokens: int = 0

    def add(self, positions: NDArray[np.int64], answer: Answer) -> None:
        """Place what was answered for the texts at ``positions``."""
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
    """Embeds by a service.

    Parameters
    ----------
    client : Client
    document_prompt, query_prompt : str
    max_tokens : int
        Of a text that are used, as they are estimated.
    max_texts, max_batch_tokens : int
        Of a request.
    concurrency : int
        Requests at a time.
    dimensions : int or None
        The width that was asked for.
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
        # Of the numbers below, for an instant; and of a question whether anything is taken, for as long as that takes.
        self._lock, self._asking = threading.Lock(), threading.Lock()
        self._width = self._asked_width = dimensions
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
        """Embed queries of a search, in order, with the prompt and the input type of queries.

        Raises
        ------
        EnvironmentFailure
            If the service does not answer.
        """
        return self._unkept(texts, "query")

    def embed_kept(self, texts: Sequence[str], keeper: AnswerKeeper, spending: Spending) -> Embedded:
        """Embed documents, in order; what ``keeper`` knows is not asked for again.

        Raises
        ------
        UnansweredError
            If some were not answered in several attempts; answers to others are kept.
        """
        return self._embed(texts, "document", keeper, spending)

    def stop(self) -> None:
        """Send no further request of what is being embedded now; answers in flight are still kept."""
        for one in list(self._running):
            one.set()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def probe(self) -> Probed:
        """Ask for the vector of a fixed text.

        Raises
        ------
        ConfigError
            If the address, the model, the key or an option is wrong.
        EnvironmentFailure
            If nothing answers.
        """
        prepared = self._prepared([PROBE], "document")
        try:
            vectors, _ = self._client.ask(prepared.texts, prepared.sizes, role="document", stop=threading.Event())
        except RefusedError as error:
            raise self._refuses_everything(error) from None
        except UnansweredError as error:
            raise self._silent(error) from None
        self._check_width(vectors)
        first = vectors[0].astype(np.float64)
        length = float(np.linalg.norm(first))
        if not length:
            raise ConfigError(
                f"the embedding service gives a vector of zeros for the text {PROBE!r}",
                where=self._client.url,
                hint="Check embed.options.model: is it a model that embeds texts, and is it loaded completely?",
            )
        sample = first[:_SAMPLE] / max(length, 1e-12)
        return Probed(
            note=f"{self._client.url} answers with vectors of {vectors.shape[1]:,} numbers",
            sample=tuple(round(float(value), 5) for value in sample),
        )

    def _unkept(self, texts: Sequence[str], role: Role) -> Embedded:
        try:
            return self._embed(texts, role, None, None)
        except UnansweredError as error:
            raise self._silent(error) from None

    def _embed(
        self, texts: Sequence[str], role: Role, keeper: AnswerKeeper | None, spending: Spending | None
    ) -> Embedded:
        stop = threading.Event()
        # Known to ``stop`` before anything is looked up: one that comes meanwhile would be lost.
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
        found = _Sum(len(texts))
        left = np.ones(len(texts), dtype=np.bool_)
        known = False
        for positions, answer in keeper.find(texts) if keeper is not None else ():
            self._check_width(answer.vectors)
            found.add(positions, answer)
            left[positions] = False
            known = True

        def keep(positions: NDArray[np.int64], answer: Answer) -> None:
            if keeper is not None:
                keeper.keep([texts[int(position)] for position in positions], answer)

        waiting = iter(
            plan_requests(
                np.flatnonzero(left), prepared.sizes, max_texts=self._max_texts, max_tokens=self._max_batch_tokens
            )
        )
        work = _Request(self, prepared, role, keep, spending, stop)
        failures: list[BaseException] = []
        for answers in _in_parallel(work, waiting, self._concurrency, stop, failures):
            for positions, answer in answers:
                found.add(positions, answer)
        if failures:
            raise self._worst(failures, known=known)
        if found.answered < len(texts):
            raise EnvironmentFailure(
                f"{len(texts) - found.answered:,} texts were not sent to the embedding service: the run was stopped",
                hint="Run the same command again: what was answered is kept.",
            )
        width = self._width or 0
        return Embedded(
            vectors=found.vectors if found.vectors is not None else np.zeros((len(texts), width), np.float32),
            embeddable=found.embeddable if found.vectors is not None else np.zeros(len(texts), np.bool_),
            tokens=found.tokens,
            unknown=0,
            truncated=prepared.truncated,
            reasons=found.reasons,
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
        """Ask for the vectors of some texts; where they are refused, for each half, down to the text that is to blame.

        Raises
        ------
        UnansweredError
            With the positions of the texts.
        ConfigError, StoppedError
            As the client does, and where it seems that nothing is taken.
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
            self._doubt(error, role, stop)
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
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        good = lengths > 0
        unit = np.divide(vectors, lengths[:, None], out=np.zeros_like(vectors), where=good[:, None], casting="unsafe")
        # What was billed is known of the request alone.
        upto = np.floor(np.cumsum(sizes + 1) / float((sizes + 1).sum()) * tokens + 0.5).astype(np.int64)
        return Answer(
            vectors=unit,
            reasons=["" if one else "the embedding service gave a vector of zeros" for one in good.tolist()],
            tokens=np.diff(upto, prepend=0),
        )

    def _check_width(self, vectors: NDArray[np.float32]) -> None:
        width = int(vectors.shape[1])
        with self._lock:
            if width and self._width is None:
                self._width = width
            if width and width != self._width and self._asked_width is not None:
                raise ConfigError(
                    f"the embedding service gives vectors of {width:,} numbers, and {self._asked_width:,} were asked "
                    "for",
                    where="embed.options.dimensions",
                    hint=f"The model behind {self._client.url} gives no others: leave dimensions out.",
                )
            if width and width != self._width:
                raise EnvironmentFailure(
                    f"the embedding service gives vectors of {width:,} numbers, and before {self._width:,}",
                    where=self._client.url,
                    hint="Its model is another one now: name the one that the map was made with, or another revision.",
                )

    def _learn_limit(self, half: int, answers: Sequence[tuple[NDArray[np.int64], Answer]]) -> None:
        """A request whose halves were both taken whole was too large: the next ones are of that size."""
        if len(answers) == 2 and not any(reason for _, answer in answers for reason in answer.reasons):
            with self._lock:
                self._max_texts = max(1, min(self._max_texts, half))

    def _doubt(self, error: RefusedError, role: Role, stop: threading.Event) -> None:
        """After a text was refused alone: whether anything is taken at all. Of several threads in doubt one asks.

        Raises
        ------
        ConfigError
            If not: the request as such is wrong, and no text of the corpus is.
        StoppedError
            If ``stop`` was set before it was known.
        """
        with self._lock:
            self._refused_in_a_row += 1
            taken = self._client.successes
            if taken and self._refused_in_a_row % _DOUBTS:
                return
        with self._asking:
            if self._client.successes > taken:  # while this thread waited: there is no doubt any more
                return
            prepared = self._prepared([PROBE], role)
            try:
                self._client.ask(prepared.texts, prepared.sizes, role=role, stop=stop)
            except RefusedError:
                raise self._refuses_everything(error) from None
            except UnansweredError:
                return

    def _worst(self, failures: Sequence[BaseException], *, known: bool) -> BaseException:
        """The failure to report: one that ends the run before one that ends the shard."""
        unanswered = [one for one in failures if isinstance(one, UnansweredError)]
        others = [one for one in failures if not isinstance(one, UnansweredError)]
        if others:
            return others[0]
        answered = known or self._client.successes > self._successes_at_failure
        self._successes_at_failure = self._client.successes
        return UnansweredError(
            unanswered[0].reason,
            attempts=unanswered[0].attempts,
            positions=sorted({position for one in unanswered for position in one.positions}),
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

    def _silent(self, error: UnansweredError) -> EnvironmentFailure:
        return EnvironmentFailure(
            f"the embedding service gave no good answer in {error.attempts} attempts: {error.reason}",
            where=self._client.url,
            hint="When it answers again, run the same command; it resumes where it stopped. If it never did: check "
            "embed.options.url and provider.",
        )


@dataclass(frozen=True, slots=True)
class _Request:
    """What all requests of one shard have in common."""

    embedder: EndpointEmbedder
    prepared: Prepared
    role: Role
    keep: Callable[[NDArray[np.int64], Answer], None]
    spending: Spending | None
    stop: threading.Event

    def __call__(self, positions: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], Answer]]:
        return self.embedder.ask(positions, self.prepared, self.role, self.keep, self.spending, self.stop)


def _in_parallel(
    work: _Request,
    waiting: Iterator[NDArray[np.int64]],
    concurrency: int,
    stop: threading.Event,
    failures: list[BaseException],
) -> Iterator[list[tuple[NDArray[np.int64], Answer]]]:
    """Do so many requests at a time; after a failure none is begun, and those in flight are waited for."""
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="endpoint")
    running: set[Future[list[tuple[NDArray[np.int64], Answer]]]] = set()
    try:
        while True:
            while not failures and len(running) < concurrency and (positions := next(waiting, None)) is not None:
                running.add(pool.submit(work, positions))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                error = one.exception()
                if error is None:
                    yield one.result()
                elif not isinstance(error, StoppedError):
                    failures.append(error)
                    stop.set()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
