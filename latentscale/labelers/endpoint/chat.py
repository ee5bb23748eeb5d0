"""Chat model over HTTP: shortens requests that are too long, and ends the run if the service is down."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Self

from latentscale.config import LabelConfig
from latentscale.errors import ConfigError, EnvironmentFailure, LatentScaleError
from latentscale.labelers.chat import WHERE, Question, Reply
from latentscale.labelers.chat.answers import ONE_LABEL
from latentscale.labelers.chat.prompts import label_prompt
from latentscale.labelers.endpoint.options import EndpointLabelOptions, label_options
from latentscale.labelers.endpoint.wire import ANTHROPIC_VERSION, ChatQuestion, SupportedFeatures
from latentscale.labelers.protocol import ClusterEvidence, NoLabel
from latentscale.services.address import secret_headers, whole_url
from latentscale.services.client import Client, Service
from latentscale.services.failures import RefusedError, UnansweredError
from latentscale.services.pace import Clock, Pacer
from latentscale.services.terms import Spending

# After so many unanswered requests in a row, the service is considered down.
_UNANSWERED_IF_DOWN = 8
# Words in error messages for prompts that are too long.
_TOO_LONG = ("context", "too long", "too large", "token", "length", "maximum")
_MAX_SHORTENINGS = 3
# A minimal question, to check whether a service accepts any request.
PROBE = Question(
    prompt=partial(
        label_prompt,
        ClusterEvidence(
            layer=0,
            cluster=0,
            size=3,
            suggestion="Opening hours",
            keyphrases=("opening hours", "holiday"),
            exemplars=(),
            texts=("When is the library open on holidays?", "What are your opening hours?"),
        ),
        words=4,
    ),
    schema=ONE_LABEL,
)


class EndpointChat:
    """A chat model of a service; see :class:`latentscale.labelers.chat.Chat`.

    Parameters
    ----------
    options : EndpointLabelOptions
    client : Client
    """

    batch = 1

    def __init__(self, options: EndpointLabelOptions, client: Client) -> None:
        self.notes: list[str] = []
        self._options = options
        self._client = client
        self._features = SupportedFeatures(self.notes.append)
        self._spending: Spending | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._has_accepted = False
        self._unanswered_in_a_row = 0
        self._successes_at_failure = 0

    @property
    def concurrency(self) -> int:
        """Maximum concurrent requests."""
        return self._options.concurrency

    @property
    def url(self) -> str:
        """URL of the service."""
        return self._client.url

    @classmethod
    def connect(cls, config: LabelConfig, clock: Clock) -> Self:
        """Read the key and create the client, with a clock for waiting; nothing is sent.

        Raises
        ------
        ConfigError
            If an environment variable with a key is not set.
        MissingPackageError
            If httpx is not installed.
        """
        options = label_options(config)
        anthropic = options.provider == "anthropic"
        path = "/messages" if anthropic else "/chat/completions"

        def headers() -> dict[str, str]:
            header = "x-api-key" if anthropic else "Authorization"
            return secret_headers(options.headers_env, options.key_env, where=WHERE, header=header)

        # Reports a missing key now, not in one of many threads.
        headers()
        client = Client(
            Service(
                name="language model",
                settings=WHERE,
                model=options.model,
                path=path,
                address_hint=f"the address ends before {path}.",
                extra="endpoint",
                used_for="labels by a service",
            ),
            url=whole_url(options.base_url, path),
            secrets=headers,
            key_env=options.key_env,
            timeout=options.timeout,
            max_attempts=options.max_attempts,
            connections=options.concurrency,
            pacer=Pacer(options.requests_per_minute, options.tokens_per_minute, clock),
            clock=clock,
            headers={"anthropic-version": ANTHROPIC_VERSION} if anthropic else {},
        )
        return cls(options, client)

    def ask(self, system: str, questions: Sequence[Question]) -> Iterator[tuple[int, Reply | NoLabel]]:
        """Ask questions sequentially; yields (position, reply).

        Raises
        ------
        ConfigError
            If the service rejects all requests, the key or the model.
        EnvironmentFailure
            If it no longer answers.
        ResourceError
            If the next request might exceed ``max_cost``.
        """
        for index, question in enumerate(questions):
            yield index, self._ask(system, question)

    def count_with(self, spending: Spending) -> None:
        """Record the spending of all further requests in ``spending``."""
        self._spending = spending

    def stop(self) -> None:
        """Send no further requests; called from another thread."""
        self._stop.set()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _ask(self, system: str, question: Question) -> Reply | NoLabel:
        """Send one request; retried with less evidence if it is too long."""
        tokens = self._options.evidence_tokens
        options = self._options
        if question.answers > 1:
            options = options.model_copy(update={"max_output_tokens": options.max_output_tokens * question.answers})
        try:
            for attempt in range(_MAX_SHORTENINGS + 1):
                request = ChatQuestion(options, self._features, system, question.prompt(tokens=tokens), question.schema)
                try:
                    reply, _ = self._client.ask(request, stop=self._stop, spending=self._spending)
                except RefusedError as error:
                    if attempt < _MAX_SHORTENINGS and any(word in error.reason.lower() for word in _TOO_LONG):
                        tokens //= 2
                        continue
                    return self._handle_rejection(error, system, question)
                except UnansweredError as error:
                    return self._handle_unanswered(error)
                return reply
        except LatentScaleError:
            # Stop the other threads, which would wait in vain.
            self._stop.set()
            raise
        raise AssertionError("the last attempt returns or raises")

    def _handle_rejection(self, error: RefusedError, system: str, question: Question) -> NoLabel:
        if question is PROBE or not self._accepts_any(system):
            raise ConfigError(
                f"the language model refuses every request ({error.status}: {error.reason})",
                where=self._client.url,
                hint=f"Check {WHERE}: model, max_output_tokens, evidence_tokens and provider.",
            ) from None
        reason = f"the model's service refused the request: {error.status}: {error.reason}"
        return NoLabel(reason=reason, final=True)

    def _accepts_any(self, system: str) -> bool:
        """Whether the service accepts any request: the rejected one may have been the first."""
        with self._lock:
            if self._has_accepted or self._client.successes:
                return True
            prompt = PROBE.prompt(tokens=self._options.evidence_tokens)
            request = ChatQuestion(self._options, self._features, system, prompt, PROBE.schema)
            try:
                self._client.ask(request, stop=self._stop, spending=self._spending)
            except RefusedError:
                return False
            except UnansweredError:
                # The next questions determine whether the service is down.
                return True
            self._has_accepted = True
        return True

    def _handle_unanswered(self, error: UnansweredError) -> NoLabel:
        with self._lock:
            successes = self._client.successes
            self._unanswered_in_a_row = self._unanswered_in_a_row + 1 if successes == self._successes_at_failure else 1
            self._successes_at_failure = successes
            down = not successes or self._unanswered_in_a_row >= _UNANSWERED_IF_DOWN
        if down:
            raise EnvironmentFailure(
                f"the language model gave no good answer in {error.attempts} attempts: {error.reason}",
                where=self._client.url,
                hint="When it answers again, run the same command: what was answered is kept, and none is paid twice.",
            ) from None
        return NoLabel(reason=f"no good answer in {error.attempts} attempts: {error.reason}", final=False)
