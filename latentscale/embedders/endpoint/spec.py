"""Spec of an embedding service, without credentials."""

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
from latentscale.embedders.endpoint.wire import RequestParameters
from latentscale.embedders.service import ProbeResult
from latentscale.embedders.spec import EmbedderSpec, opened_embedder, options_of
from latentscale.errors import ConfigError
from latentscale.services.address import secret_headers
from latentscale.services.pace import Clock, Pacer
from latentscale.services.terms import ServiceTerms

_WHERE = "embed.options"
# Input types that are used for queries as well as documents.
_SYMMETRIC_TYPES = ("clustering", "classification")


class EndpointSpec(EmbedderSpec):
    """A model of a service over HTTP."""

    kind: Literal["endpoint"] = "endpoint"
    deterministic = False
    options: EndpointOptions
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Maximum tokens of a text, by estimate."""

    @classmethod
    def from_settings(cls, config: EmbedConfig, *, vectors_column: str | None) -> Self:
        """Make the spec of the model ``embed.options.model``, else of ``embed.model`` if that is not ``endpoint``."""
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
        name = self.options.provider or ("compatible" if self.options.url else "openai")
        return PROVIDERS[name]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.options.model

    @property
    def dimensions(self) -> int | None:
        """Width of the vectors; None if not set."""
        return self.options.dimensions

    @property
    def token_limit(self) -> int:
        """Maximum tokens of a text, by estimate."""
        return self.max_tokens

    @property
    def terms(self) -> ServiceTerms:
        """Price and maximum cost."""
        return ServiceTerms(
            price_per_million_tokens=self.options.price_per_million_tokens, max_cost=self.options.max_cost
        )

    @property
    def parameters(self) -> RequestParameters:
        """Parameters common to all requests."""
        options, provider = self.options, self.provider
        document_type = options.input_type or provider.document_type
        query_type = document_type if document_type in _SYMMETRIC_TYPES else provider.query_type or document_type
        return RequestParameters(
            provider=provider,
            model=options.model,
            dimensions=options.dimensions,
            document_type=document_type,
            query_type=options.query_input_type or query_type,
        )

    def identity(self) -> Mapping[str, Any]:
        """Return all that alters the vectors of documents; not the URL, since a model may move to another one."""
        return {
            "embedder": "endpoint",
            "version": 1,
            "protocol": self.provider.wire,
            "model": self.options.model,
            "revision": self.options.revision,
            "dimensions": self.options.dimensions,
            "input_type": self.parameters.document_type,
            "prompt": self.options.document_prompt,
            "max_tokens": self.max_tokens,
            "normalisation": "l2",
        }

    def resources(self) -> StageResources:
        """Return one worker, which mostly waits: its requests are concurrent, and limits apply per worker."""
        return StageResources(cpus=0.5, gpus=0, workers=1)

    def probe(self) -> ProbeResult:
        """Request one vector, before the first shard.

        Raises
        ------
        ConfigError
            If the address, the model, the key or an option is wrong.
        EnvironmentFailure
            If the service does not answer.
        """
        embedder: EndpointEmbedder = opened_embedder(self)
        return embedder.probe()

    def open(self, device: str = "cpu") -> EndpointEmbedder:
        """Read the key and create the client; nothing is sent.

        Raises
        ------
        ConfigError
            If an environment variable with a key is not set.
        MissingPackageError
            If httpx is not installed.
        """
        return self.connect(Clock())

    def connect(self, clock: Clock) -> EndpointEmbedder:
        """Like :meth:`open`, with a clock for waiting."""
        options, provider, parameters = self.options, self.provider, self.parameters
        url = options.url or provider.url
        assert url is not None, "options refuse a provider without an address"
        # The provider's key is only sent to the provider's URL.
        key_env = options.api_key_env or (provider.key_env if options.url is None else None)
        # Reports a missing key now, not in one of many threads.
        self._headers(key_env)
        client = Client(
            parameters,
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
