"""The labeler that asks a language model over HTTP: one request a cluster, one more where its answer is no label."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self, cast

from latentscale.config import LabelConfig
from latentscale.errors import ConfigError, EnvironmentFailure, LatentScaleError, shortened
from latentscale.labelers.checks import fault_of_label, tidy, usable_description
from latentscale.labelers.endpoint import prompts
from latentscale.labelers.endpoint.options import TRANSPORT, WHERE, EndpointLabelOptions, label_options
from latentscale.labelers.endpoint.quote import quote_labels
from latentscale.labelers.endpoint.wire import (
    ANTHROPIC_VERSION,
    ONE_LABEL,
    SEVERAL_LABELS,
    ChatQuestion,
    Forms,
    Reply,
)
from latentscale.labelers.protocol import ClusterEvidence, Evidence, Label, NoLabel
from latentscale.labelers.service import Quote
from latentscale.services.address import secret_headers, whole_url
from latentscale.services.client import Client, Service
from latentscale.services.failures import RefusedError, UnansweredError
from latentscale.services.pace import Clock, Pacer
from latentscale.services.terms import ServiceTerms, Spending

PROBE = ClusterEvidence(
    layer=0,
    cluster=0,
    size=3,
    suggestion="Opening hours",
    keyphrases=("opening hours", "holiday"),
    exemplars=(),
    texts=("When is the library open on holidays?", "What are your opening hours?"),
)
# Requests in a row that were not answered are a sign that the service is down.
_DOWN = 8
# What a refusal says of a prompt that is too long.
_TOO_LONG = ("context", "too long", "too large", "token", "length", "maximum")
_SHORTENED = 3


class _NoAnswer(Exception):  # noqa: N818 - no error: the cluster keeps its keyphrases
    """A request got no answer that could be used."""

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.no_label = NoLabel(reason=reason, final=final)


class EndpointLabeler:
    """Names clusters by a language model; see :class:`latentscale.labelers.service.ServiceLabeler`.

    Parameters
    ----------
    options : EndpointLabelOptions
    client : Client
    """

    name: ClassVar[str] = "endpoint"
    needs: ClassVar[frozenset[Evidence]] = frozenset({"texts", "columns", "siblings"})
    keeps_receipts: ClassVar[bool] = True
    is_service: ClassVar[bool] = True
    transport: ClassVar[frozenset[str]] = TRANSPORT
    batch = 1

    def __init__(self, options: EndpointLabelOptions, client: Client) -> None:
        self.notes: list[str] = []
        self._options = options
        self._client = client
        self._system = prompts.system_prompt(options)
        self._forms = Forms(self.notes.append)
        self._spending: Spending | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._silent = 0
        self._successes_at_failure = 0

    @property
    def concurrency(self) -> int:
        """Requests at a time."""
        return self._options.concurrency

    @classmethod
    def check(cls, config: LabelConfig) -> Mapping[str, Any]:
        """The identity: prompts, model, and what is asked of it. The address is none: a model may move to another."""
        options = label_options(config)
        return {
            "version": 1,
            "prompts": prompts.prompts_identity(),
            "protocol": options.provider,
            "model": options.model,
            "revision": options.revision,
            "context": options.context,
            "language": options.language,
            "words": list(options.words),
            "evidence_tokens": options.evidence_tokens,
            "temperature": options.temperature,
            "max_output_tokens": options.max_output_tokens,
        }

    @classmethod
    def terms(cls, config: LabelConfig) -> ServiceTerms:
        """What it costs."""
        options = label_options(config)
        return ServiceTerms(
            price_per_million_tokens=options.price_per_million_input_tokens,
            price_per_million_output_tokens=options.price_per_million_output_tokens,
            max_cost=options.max_cost,
            service="language model",
            settings=WHERE,
        )

    @classmethod
    def tests_held_out(cls, config: LabelConfig) -> bool:
        """By default where labels are in the language of the documents: most embedders know no other."""
        options = label_options(config)
        return not options.language if options.held_out is None else options.held_out

    @classmethod
    def quote(cls, config: LabelConfig, layers: Sequence[int]) -> Quote:
        """What the labels of so many clusters will cost."""
        return quote_labels(label_options(config), cls.terms(config), layers, exemplars=config.exemplars)

    @classmethod
    def open(cls, config: LabelConfig, device: str) -> Self:
        """Read the key and make the client; nothing is sent.

        Raises
        ------
        ConfigError
            If a variable with a key is not set.
        MissingPackageError
            If httpx is not installed.
        """
        return cls.connect(config, Clock())

    @classmethod
    def connect(cls, config: LabelConfig, clock: Clock) -> Self:
        """As :meth:`open`, with a clock for the waits."""
        options = label_options(config)
        anthropic = options.provider == "anthropic"
        path = "/messages" if anthropic else "/chat/completions"

        def headers() -> dict[str, str]:
            header = "x-api-key" if anthropic else "Authorization"
            return secret_headers(options.headers_env, options.key_env, where=WHERE, header=header)

        # A key that is missing is said now, not by the first of many threads.
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

    @classmethod
    def probe(cls, config: LabelConfig, spending: Spending | None = None) -> str:
        """Ask for the label of two short texts."""
        labeler = cls.open(config, "cpu")
        try:
            if spending is not None:
                labeler.count_with(spending)
            try:
                reply = labeler._ask(partial(prompts.label_prompt, PROBE, words=4), ONE_LABEL)
            except _NoAnswer as error:
                raise ConfigError(
                    f"the language model gives no answer: {error.no_label.reason}",
                    where=labeler._client.url,
                    hint=f"Check {WHERE}.model and max_output_tokens.",
                ) from None
            label = labeler._label(reply, layer=0)
            if isinstance(label, str):
                return f"{labeler._client.url} answers, and not with a label: {label}"
            return f"{labeler._client.url} answers with labels"
        finally:
            labeler.close()

    def count_with(self, spending: Spending) -> None:
        """Have all requests from now on counted."""
        self._spending = spending

    def label(self, evidence: Sequence[ClusterEvidence]) -> Sequence[Label | NoLabel]:
        """Name some clusters, in order, each by a request of its own.

        Raises
        ------
        ConfigError
            If the service takes no request, or not the key, or has no such model.
        EnvironmentFailure
            If it does not answer any more.
        ResourceError
            If the next request might exceed ``max_cost``.
        """
        return [self._name(one) for one in evidence]

    def _name(self, evidence: ClusterEvidence) -> Label | NoLabel:
        words = self._options.words_of(evidence.layer)
        try:
            reply = self._ask(partial(prompts.label_prompt, evidence, words=words), ONE_LABEL)
        except _NoAnswer as error:
            return error.no_label
        found = self._label(reply, layer=evidence.layer)
        return found if isinstance(found, Label) else self.reconsider(evidence, _said(reply), found, ())

    def reconsider(self, evidence: ClusterEvidence, label: str, reason: str, taken: Sequence[str]) -> Label | NoLabel:
        """Name a cluster again whose label failed a test."""
        words = self._options.words_of(evidence.layer)
        ask = partial(prompts.reconsider_prompt, evidence, words=words, before=label, reason=reason, taken=taken)
        try:
            found = self._label(self._ask(ask, ONE_LABEL), layer=evidence.layer)
        except _NoAnswer as error:
            return error.no_label
        if isinstance(found, Label):
            return found
        return NoLabel(reason=f"two answers of the model are no label: {reason}; {found}", final=True)

    def distinguish(
        self, members: Sequence[ClusterEvidence], labels: Sequence[str], taken: Sequence[str]
    ) -> Sequence[Label | NoLabel]:
        """Name siblings again, in one request, whose labels say the same."""
        layer = members[0].layer
        ask = partial(prompts.distinguish_prompt, members, labels, taken, words=self._options.words_of(layer))
        try:
            reply = self._ask(ask, SEVERAL_LABELS, answers=len(members))
        except _NoAnswer as error:
            return [error.no_label] * len(members)
        said: dict[int, dict[str, Any]] = {}
        groups = (reply.values or {}).get("groups")
        for entry in cast("list[Any]", groups) if isinstance(groups, list) else []:
            if isinstance(entry, dict):
                values = cast("dict[str, Any]", entry)
                number = values.get("number")
                if isinstance(number, int):
                    said.setdefault(number, values)
        found: list[Label | NoLabel] = []
        for number in range(1, len(members) + 1):
            values = said.get(number)
            one = self._label(Reply(values=values, text="", cut=reply.cut), layer=layer)
            found.append(
                one if isinstance(one, Label) else NoLabel(reason=f"its new name is no label: {one}", final=True)
            )
        return found

    def stop(self) -> None:
        """Send no further request; called from another thread."""
        self._stop.set()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def _label(self, reply: Reply, *, layer: int) -> Label | str:
        """The label of a reply, or what is wrong with it."""
        values = reply.values
        if values is None or not isinstance(values.get("label"), str):
            if reply.cut:
                return f"it was cut after {WHERE}.max_output_tokens = {self._options.max_output_tokens:,}"
            return "the answer is empty" if not reply.text.strip() and values is None else "the answer is not such JSON"
        label = tidy(values["label"])
        fault = fault_of_label(label, words=self._options.words_of(layer))
        if fault is not None:
            return fault
        description, confidence = values.get("description"), values.get("confidence")
        sure = isinstance(confidence, int | float) and not isinstance(confidence, bool) and 0 <= confidence <= 1
        return Label(
            label=label,
            source=self.name,
            details={"model": self._options.model},
            description=usable_description(description) if isinstance(description, str) else "",
            confidence=float(cast("float", confidence)) if sure else None,
        )

    def _ask(self, prompt: Callable[..., str], schema: Mapping[str, Any], *, answers: int = 1) -> Reply:
        """Send one request, with less evidence where it is too long.

        Raises
        ------
        _NoAnswer
            If this request got no answer, and others do.
        """
        tokens = self._options.evidence_tokens
        options = self._options
        if answers > 1:
            options = options.model_copy(update={"max_output_tokens": options.max_output_tokens * answers})
        try:
            for attempt in range(_SHORTENED + 1):
                question = ChatQuestion(options, self._forms, self._system, prompt(tokens=tokens), schema)
                try:
                    reply, _ = self._client.ask(question, stop=self._stop, spending=self._spending)
                except RefusedError as error:
                    if attempt < _SHORTENED and any(word in error.reason.lower() for word in _TOO_LONG):
                        tokens //= 2
                        continue
                    raise self._refused(error) from None
                except UnansweredError as error:
                    raise self._unanswered(error) from None
                return reply
        except LatentScaleError:
            # The others are not to wait for a service that takes nothing.
            self._stop.set()
            raise
        raise AssertionError("the last attempt returns or raises")

    def _refused(self, error: RefusedError) -> Exception:
        if not self._client.successes:
            return ConfigError(
                f"the language model refuses every request ({error.status}: {error.reason})",
                where=self._client.url,
                hint=f"Check {WHERE}: model, max_output_tokens, evidence_tokens and provider.",
            )
        return _NoAnswer(f"the model's service refused the request: {error.status}: {error.reason}", final=True)

    def _unanswered(self, error: UnansweredError) -> Exception:
        with self._lock:
            successes = self._client.successes
            self._silent = self._silent + 1 if successes == self._successes_at_failure else 1
            self._successes_at_failure = successes
            down = not successes or self._silent >= _DOWN
        if down:
            return EnvironmentFailure(
                f"the language model gave no good answer in {error.attempts} attempts: {error.reason}",
                where=self._client.url,
                hint="When it answers again, run the same command: what was answered is kept, and none is paid twice.",
            )
        return _NoAnswer(f"no good answer in {error.attempts} attempts: {error.reason}", final=False)


def _said(reply: Reply) -> str:
    """What a model said instead of a label, for the next prompt."""
    label = (reply.values or {}).get("label")
    return shortened(" ".join((label if isinstance(label, str) else reply.text).split()), 120)
