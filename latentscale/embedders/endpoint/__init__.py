"""Embed with a service over HTTP: OpenAI-compatible, Cohere or Voyage."""

from __future__ import annotations

from latentscale.embedders.endpoint.spec import EndpointSpec

__all__ = ["EndpointSpec"]
