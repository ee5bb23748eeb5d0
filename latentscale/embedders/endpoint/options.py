"""``embed.options`` of the kind ``endpoint``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from latentscale.config import Settings
from latentscale.embedders.endpoint.providers import PROVIDERS
from latentscale.services.address import Variable, checked_header_names, checked_url


class EndpointOptions(Settings):
    """Which service embeds, and how requests are sent."""

    model: str = ""
    """Name of the model at the service."""
    revision: str = ""
    """Any text that distinguishes versions of a model with one name at the service; part of the identity."""
    provider: str | None = None
    """`openai`, `cohere`, `voyage`, `mistral`, `together`, `vllm`, `tei`, `ollama`, `lmstudio`, or `compatible` for any
    other server with OpenAI's protocol; by default `openai`, or `compatible` if `url` is set."""
    url: str | None = None
    """Base URL, such as http://localhost:8000/v1; by default that of the provider."""
    api_key_env: Variable | None = None
    """Name of the environment variable with the key; by default that of the provider."""
    headers_env: Mapping[str, Variable] = {}
    """Additional headers, each with the name of the environment variable that contains its value."""
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Width of the vectors, for a model that supports several."""
    document_prompt: str = ""
    """Put before each document."""
    query_prompt: str = ""
    """Put before each query of a search."""
    input_type: str | None = None
    """Input type of documents (Cohere: `search_document`, `clustering`; Voyage: `document`)."""
    query_input_type: str | None = None
    """Input type of queries; by default the provider's, or `input_type` if that is not meant for search."""
    concurrency: Annotated[int, Field(ge=1, le=512)] = 8
    """Maximum concurrent requests of a worker."""
    requests_per_minute: Annotated[float, Field(gt=0, le=1e7)] | None = None
    """Limit per worker; there is one worker unless engine.resources.embed sets more."""
    tokens_per_minute: Annotated[float, Field(gt=0, le=1e11)] | None = None
    """Limit per worker, by estimated tokens."""
    max_batch_texts: Annotated[int, Field(ge=1, le=2_048)] | None = None
    """Maximum texts of a request; by default the provider's."""
    max_batch_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Maximum estimated tokens of a request; a text with more is sent alone."""
    timeout: Annotated[float, Field(gt=0, le=3_600)] = 60.0
    """Seconds to wait for an answer."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """Attempts at a request before its shard fails."""
    price_per_million_tokens: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """In any currency; used to report the cost of a run."""
    max_cost: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Maximum cost of a run, in the same currency: no request is sent that might exceed it."""
    encoding: Literal["auto", "base64", "float"] = "auto"
    """Encoding of vectors; `auto` requests base64, and falls back to numbers if a server does not support it."""

    @field_validator("provider")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in PROVIDERS:
            raise ValueError(f"there is no provider {value!r}: use one of {', '.join(PROVIDERS)}")
        return value

    @field_validator("url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return checked_url(value)

    @field_validator("headers_env")
    @classmethod
    def _headers(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        return checked_header_names(value)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.max_cost is not None and not self.price_per_million_tokens:
            raise ValueError("max_cost needs price_per_million_tokens: the service does not tell its price")
        if self.provider == "compatible" and self.url is None:
            raise ValueError("the provider 'compatible' needs a url")
        return self
