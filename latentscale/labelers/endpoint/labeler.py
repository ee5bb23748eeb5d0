"""Labeler with a language model over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from latentscale.config import LabelConfig
from latentscale.errors import ConfigError
from latentscale.labelers.chat import WHERE, ChatLabeler
from latentscale.labelers.chat.labeler import options_identity, tests_held_out
from latentscale.labelers.chat.prompts import system_prompt
from latentscale.labelers.endpoint.chat import PROBE, EndpointChat
from latentscale.labelers.endpoint.options import TRANSPORT, label_options
from latentscale.labelers.endpoint.quote import quote_labels
from latentscale.labelers.model import Quote
from latentscale.labelers.protocol import NoLabel
from latentscale.services.pace import Clock
from latentscale.services.terms import ServiceTerms, Spending


class EndpointLabeler(ChatLabeler):
    """Labels clusters with a language model over HTTP; see :class:`latentscale.labelers.model.ModelLabeler`."""

    name: ClassVar[str] = "endpoint"
    transport: ClassVar[frozenset[str]] = TRANSPORT

    @classmethod
    def check(cls, config: LabelConfig) -> Mapping[str, Any]:
        """Return the identity: prompts, model and options; not the URL, since a model may move to another one."""
        options = label_options(config)
        return {
            "version": 1,
            "protocol": options.provider,
            "model": options.model,
            "revision": options.revision,
            "temperature": options.temperature,
            **options_identity(options),
        }

    @classmethod
    def terms(cls, config: LabelConfig) -> ServiceTerms:
        """Return prices and maximum cost."""
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
        """Whether labels are tested on held-out documents; by default if they are in the documents' language."""
        return tests_held_out(label_options(config))

    @classmethod
    def quote(cls, config: LabelConfig, layers: Sequence[int]) -> Quote:
        """Estimate the cost of labels; ``layers`` is the number of clusters by layer."""
        return quote_labels(label_options(config), cls.terms(config), layers, exemplars=config.exemplars)

    @classmethod
    def open(cls, config: LabelConfig, device: str) -> Self:
        """Read the key and create the client; nothing is sent.

        Raises
        ------
        ConfigError
            If an environment variable with a key is not set.
        MissingPackageError
            If httpx is not installed.
        """
        return cls.connect(config, Clock())

    @classmethod
    def connect(cls, config: LabelConfig, clock: Clock) -> Self:
        """Like :meth:`open`, with a clock for waiting."""
        options = label_options(config)
        return cls(options, EndpointChat.connect(config, clock), model=options.model)

    @classmethod
    def probe(cls, config: LabelConfig, spending: Spending | None = None) -> str:
        """Request the label of two short texts; return the result as a message."""
        options = label_options(config)
        chat = EndpointChat.connect(config, Clock())
        try:
            if spending is not None:
                chat.count_with(spending)
            _, reply = next(chat.ask(system_prompt(options), [PROBE]))
            if isinstance(reply, NoLabel):
                raise ConfigError(
                    f"the language model gives no answer: {reply.reason}",
                    where=chat.url,
                    hint=f"Check {WHERE}.model and max_output_tokens.",
                )
            label = cls(options, chat, model=options.model).read(reply, layer=0)
            if isinstance(label, str):
                return f"{chat.url} answers, and not with a label: {label}"
            return f"{chat.url} answers with labels"
        finally:
            chat.close()
