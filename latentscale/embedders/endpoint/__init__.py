"""Embed by a service over HTTP: the OpenAI-compatible protocol, Cohere's and Voyage's."""

from __future__ import annotations

from latentscale.embedders.endpoint.spec import EndpointSpec

__all__ = ["EndpointSpec"]
