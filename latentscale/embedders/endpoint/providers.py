"""Known embedding services: address, protocol, limits and names of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Wire = Literal["openai", "cohere"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An embedding service or self-hosted server.

    Attributes
    ----------
    url : str or None
        Base URL; None if it must be configured.
    wire : {"openai", "cohere"}
        Format of requests and responses.
    key_env : str or None
        Usual environment variable for the key; None if no key is needed.
    max_texts, max_tokens : int
        Limits of a request: within the service's, and small enough for a killed run to lose little.
    dimensions : str
        Name of the request parameter for the width.
    document_type, query_type : str or None
        ``input_type`` of documents and of queries; None if not supported.
    more : mapping
        Additional parameters of every request.
    base64 : bool
        Whether to request vectors as base64; a server without support rejects that, or sends numbers.
    """

    url: str | None
    wire: Wire = "openai"
    key_env: str | None = None
    max_texts: int = 128
    max_tokens: int = 32_000
    dimensions: str = "dimensions"
    document_type: str | None = None
    query_type: str | None = None
    more: Mapping[str, object] = field(default_factory=dict[str, object])
    base64: bool = True


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider(url="https://api.openai.com/v1", key_env="OPENAI_API_KEY"),
    "compatible": Provider(url=None),
    # By default vLLM rejects texts longer than the model's context; -1 truncates them to it.
    "vllm": Provider(url="http://localhost:8000/v1", more={"truncate_prompt_tokens": -1}),
    # By default TEI accepts 32 texts per request, and does not truncate.
    "tei": Provider(url="http://localhost:8080/v1", max_texts=32),
    "ollama": Provider(url="http://localhost:11434/v1", max_texts=32),
    "lmstudio": Provider(url="http://localhost:1234/v1", max_texts=32),
    # Limited to 16,384 tokens per request; rejects unknown fields.
    "mistral": Provider(
        url="https://api.mistral.ai/v1",
        key_env="MISTRAL_API_KEY",
        max_texts=64,
        max_tokens=12_000,
        dimensions="output_dimension",
        base64=False,
    ),
    "together": Provider(url="https://api.together.xyz/v1", key_env="TOGETHER_API_KEY"),
    "voyage": Provider(
        url="https://api.voyageai.com/v1",
        key_env="VOYAGE_API_KEY",
        dimensions="output_dimension",
        document_type="document",
        query_type="query",
        more={"truncation": True},
    ),
    "cohere": Provider(
        url="https://api.cohere.com/v2",
        wire="cohere",
        key_env="COHERE_API_KEY",
        max_texts=96,
        dimensions="output_dimension",
        document_type="search_document",
        query_type="search_query",
        more={"embedding_types": ["float"], "truncate": "END"},
        base64=False,
    ),
}
"""By name; ``compatible`` is any other server with OpenAI's protocol."""
