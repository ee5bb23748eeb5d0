"""Label clusters with a language model over HTTP: OpenAI's chat completions and Anthropic's Messages."""

from __future__ import annotations

from latentscale.labelers.endpoint.labeler import EndpointLabeler

__all__ = ["EndpointLabeler"]
