"""The settings of ``embed.options`` for an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from latentscale.config import Settings
from latentscale.embedders.endpoint.providers import PROVIDERS
from latentscale.services.address import Variable, checked_header_names, checked_url


class EndpointOptions(Settings):
    """Which service embeds, and how it is asked."""

    model: str = ""
    """Name of the model, as the service knows it."""
    revision: str = ""
    """Any text that distinguishes versions of a model that the service calls by one name; part of the identity."""
    provider: str | None = None
    """`openai`, `cohere`, `voyage`, `mistral`, `together`, `vllm`, `tei`, `ollama`, `lmstudio`, or `compatible` for any
    other server with OpenAI's protocol; by default `openai`, and `compatible` where a `url` is given."""
    url: str | None = None
    """Base address, such as http://localhost:8000/v1; by default that of the provider."""
    api_key_env: Variable | None = None
    """Name of the environment variable with the key; by default that of the provider."""
    headers_env: Mapping[str, Variable] = {}
    """Further headers: each with the name of the environment variable that holds its value."""
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Width of the vectors, for a model that offers several."""
    document_prompt: str = ""
    """Put before each document."""
    query_prompt: str = ""
    """Put before each query of a search."""
    input_type: str | None = None
    """What the service is told of documents (Cohere: `search_document`, `clustering`; Voyage: `document`)."""
    query_input_type: str | None = None
    """The same of queries; by default the provider's, and `input_type` where that is not meant for searching."""
    concurrency: Annotated[int, Field(ge=1, le=512)] = 8
    """Requests at a time, of one worker."""
    requests_per_minute: Annotated[float, Field(gt=0, le=1e7)] | None = None
    """Limit of one worker; there is one, unless engine.resources.embed says more."""
    tokens_per_minute: Annotated[float, Field(gt=0, le=1e11)] | None = None
    """Limit of one worker, of tokens as they are estimated."""
    max_batch_texts: Annotated[int, Field(ge=1, le=2_048)] | None = None
    """Texts of a request at most; by default the provider's."""
    max_batch_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Tokens of a request at most, as they are estimated: a text of more goes alone."""
    timeout: Annotated[float, Field(gt=0, le=3_600)] = 60.0
    """Seconds to wait for an answer."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """Attempts at a request, before its shard is given up."""
    price_per_million_tokens: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """In any currency: the cost of a run is reported with it."""
    max_cost: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Of one run, in the same currency: no request is sent that might exceed it."""
    encoding: Literal["auto", "base64", "float"] = "auto"
    """How vectors are sent; `auto` asks for base64 and takes numbers where a server knows no other."""

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
