"""``label.options`` of the labeler ``endpoint``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from latentscale.config import LabelConfig
from latentscale.labelers.chat import ChatOptions, read_options
from latentscale.services.address import Variable, checked_header_names, checked_url

_URLS = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com/v1"}
_KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}

# Options that affect how requests are sent but not the answers.
TRANSPORT = frozenset(
    {
        "url",
        "api_key_env",
        "headers_env",
        "concurrency",
        "requests_per_minute",
        "tokens_per_minute",
        "timeout",
        "max_attempts",
        "price_per_million_input_tokens",
        "price_per_million_output_tokens",
        "max_cost",
    }
)


class EndpointLabelOptions(ChatOptions):
    """Which language model labels clusters, and how requests are sent."""

    model: Annotated[str, Field(min_length=1)]
    """Name of the model at the service."""
    provider: Literal["openai", "anthropic"] = "openai"
    """The protocol: chat completions (OpenAI, vLLM, Ollama, LM Studio and most others), or Anthropic's Messages."""
    url: str | None = None
    """Base URL, such as http://localhost:11434/v1; by default that of the provider."""
    api_key_env: Variable | None = None
    """Name of the environment variable with the key; by default that of the provider, unless `url` is set."""
    headers_env: Mapping[str, Variable] = {}
    """Additional headers, each with the name of the environment variable that contains its value."""
    revision: str = ""
    """Any text that distinguishes versions of a model with one name at the service; part of the identity."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Sampling temperature; omitted for models that do not support it."""
    concurrency: Annotated[int, Field(ge=1, le=512)] = 32
    """Maximum concurrent requests."""
    requests_per_minute: Annotated[float, Field(gt=0, le=1e7)] | None = None
    """Limit within which requests are spaced evenly."""
    tokens_per_minute: Annotated[float, Field(gt=0, le=1e11)] | None = None
    """Limit of estimated tokens, likewise."""
    timeout: Annotated[float, Field(gt=0, le=3_600)] = 60.0
    """Seconds to wait for an answer."""
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """Attempts at a request before its cluster falls back to keyphrases."""
    price_per_million_input_tokens: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """In any currency; used to report the cost of a run."""
    price_per_million_output_tokens: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """In the same currency."""
    max_cost: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Maximum cost of the labels of a run, in the same currency: no request is sent that might exceed it."""

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
        if self.max_cost is not None and not (
            self.price_per_million_input_tokens and self.price_per_million_output_tokens is not None
        ):
            raise ValueError(
                "max_cost needs price_per_million_input_tokens and price_per_million_output_tokens: the service does "
                "not tell its prices"
            )
        return self

    @property
    def base_url(self) -> str:
        """Base URL of the service."""
        return self.url or _URLS[self.provider]

    @property
    def key_env(self) -> str | None:
        """Environment variable with the key; the provider's key is only sent to the provider's URL."""
        return self.api_key_env or (_KEYS[self.provider] if self.url is None else None)


def label_options(config: LabelConfig) -> EndpointLabelOptions:
    """Parse ``label.options`` of this labeler.

    Raises
    ------
    ConfigError
        The message names the first unknown or invalid option.
    """
    return read_options(
        config,
        EndpointLabelOptions,
        example="For instance --set label.options.model=gpt-4o-mini, or with a server of your own "
        "--set label.options.url=http://localhost:11434/v1 --set label.options.model=qwen3:4b.",
    )
