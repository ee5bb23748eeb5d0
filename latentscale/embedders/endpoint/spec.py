"""The spec of an endpoint: which model of which service, as a value that holds no key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from latentscale.config import EmbedConfig, StageResources
from latentscale.embedders.endpoint.client import Client
from latentscale.embedders.endpoint.embedder import EndpointEmbedder
from latentscale.embedders.endpoint.options import EndpointOptions
from latentscale.embedders.endpoint.providers import PROVIDERS, Provider
from latentscale.embedders.endpoint.wire import Asked
from latentscale.embedders.service import Probed
from latentscale.embedders.spec import EmbedderSpec, opened_embedder, options_of
from latentscale.errors import ConfigError
from latentscale.services.address import secret_headers
from latentscale.services.pace import Clock, Pacer
from latentscale.services.terms import ServiceTerms

_WHERE = "embed.options"
# Kinds of input that a search does not tell from documents.
_NOT_FOR_SEARCH = ("clustering", "classification")


class EndpointSpec(EmbedderSpec):
    """A model of a service that is asked over HTTP."""

    kind: Literal["endpoint"] = "endpoint"
    deterministic = False
    options: EndpointOptions
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Tokens of a text that are used, as they are estimated."""

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """The model that ``embed.options.model`` names, or ``embed.model`` where it is not the name of this kind."""
        options = options_of(config, EndpointOptions)
        if config.model != "endpoint":
            options = options.model_copy(update={"model": options.model or config.model})
        if not options.model:
            raise ConfigError(
                "the endpoint needs the name of a model",
                where=f"{_WHERE}.model",
                hint="For instance --set embed.options.model=text-embedding-3-small; a server that has only one model "
                "takes any name.",
            )
        return cls(options=options, max_tokens=config.max_tokens)

    @property
    def provider(self) -> Provider:
        """The service."""
        chosen = self.options.provider or ("compatible" if self.options.url else "openai")
        return PROVIDERS[chosen]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.options.model

    @property
    def dimensions(self) -> int | None:
        """Width of the vectors, where the settings say it."""
        return self.options.dimensions

    @property
    def token_limit(self) -> int:
        """Tokens of a text that are used, as they are estimated."""
        return self.max_tokens

    @property
    def terms(self) -> ServiceTerms:
        """What it costs."""
        return ServiceTerms(
            price_per_million_tokens=self.options.price_per_million_tokens, max_cost=self.options.max_cost
        )

    @property
    def asked(self) -> Asked:
        """What all requests have in common."""
        options, provider = self.options, self.provider
        document_type = options.input_type or provider.document_type
        query_type = document_type if document_type in _NOT_FOR_SEARCH else provider.query_type or document_type
        return Asked(
            provider=provider,
            model=options.model,
            dimensions=options.dimensions,
            document_type=document_type,
            query_type=options.query_input_type or query_type,
        )

    def identity(self) -> Mapping[str, Any]:
        """What alters the vectors of documents. The address does not: the same model may move to another one."""
        return {
            "embedder": "endpoint",
            "version": 1,
            "protocol": self.provider.wire,
            "model": self.options.model,
            "revision": self.options.revision,
            "dimensions": self.options.dimensions,
            "input_type": self.asked.document_type,
            "prompt": self.options.document_prompt,
            "max_tokens": self.max_tokens,
            "normalisation": "l2",
        }

    def resources(self) -> StageResources:
        """One worker, which waits most of the time: its requests are concurrent, and limits hold for it alone."""
        return StageResources(cpus=0.5, gpus=0, workers=1)

    def probe(self) -> Probed:
        """Ask for one vector, before the first shard.

        Raises
        ------
        ConfigError
            If the address, the model, the key or an option is wrong.
        EnvironmentFailure
            If nothing answers.
        """
        embedder: EndpointEmbedder = opened_embedder(self)
        return embedder.probe()

    def open(self, device: str = "cpu") -> EndpointEmbedder:
        """Read the key and make the client; nothing is sent.

        Raises
        ------
        ConfigError
            If a variable with a key is not set.
        MissingPackageError
            If httpx is not installed.
        """
        return self.connect(Clock())

    def connect(self, clock: Clock) -> EndpointEmbedder:
        """As :meth:`open`, with a clock for the waits."""
        options, provider, asked = self.options, self.provider, self.asked
        url = options.url or provider.url
        assert url is not None, "options refuse a provider without an address"
        # The usual variable belongs to the usual address: no other server is sent its key.
        key_env = options.api_key_env or (provider.key_env if options.url is None else None)
        # A key that is missing is said now, not by the first of many threads.
        self._headers(key_env)
        client = Client(
            asked,
            url=url,
            secrets=partial(self._headers, key_env),
            key_env=key_env,
            timeout=options.timeout,
            max_attempts=options.max_attempts,
            connections=options.concurrency,
            as_base64=options.encoding == "base64" or (options.encoding == "auto" and provider.base64),
            may_change=options.encoding == "auto",
            pacer=Pacer(options.requests_per_minute, options.tokens_per_minute, clock),
            clock=clock,
        )
        return EndpointEmbedder(
            client,
            document_prompt=options.document_prompt,
            query_prompt=options.query_prompt,
            max_tokens=self.max_tokens,
            max_texts=options.max_batch_texts or provider.max_texts,
            max_batch_tokens=options.max_batch_tokens or provider.max_tokens,
            concurrency=options.concurrency,
            dimensions=options.dimensions,
        )

    def _headers(self, key_env: str | None) -> dict[str, str]:
        return secret_headers(self.options.headers_env, key_env, where=_WHERE)
