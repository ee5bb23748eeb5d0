"""Estimate the cost of labels by a service."""

from __future__ import annotations

from collections.abc import Sequence

from latentscale.labelers.chat.quote import ANSWER_TOKENS, estimated_prompts, estimated_usage
from latentscale.labelers.endpoint.options import EndpointLabelOptions
from latentscale.labelers.model import Quote
from latentscale.services.terms import ServiceTerms

# Typical for a hosted model; a small model on a CPU takes longer.
_SECONDS_A_REQUEST = 2.0


def quote_labels(options: EndpointLabelOptions, terms: ServiceTerms, layers: Sequence[int], *, exemplars: int) -> Quote:
    """Estimate the maximum cost of labels; ``layers`` is the number of clusters by layer."""
    prompts = estimated_prompts(layers)
    usage = estimated_usage(options, prompts, exemplars=exemplars)
    seconds_per_request = [_SECONDS_A_REQUEST / options.concurrency]
    if options.requests_per_minute:
        seconds_per_request.append(60 / options.requests_per_minute)
    if options.tokens_per_minute:
        seconds_per_request.append((usage.tokens / max(prompts, 1) + ANSWER_TOKENS) * 60 / options.tokens_per_minute)
    return Quote(
        clusters=sum(layers),
        prompts=prompts,
        usage=usage,
        cost=terms.cost(usage),
        minutes=prompts * max(seconds_per_request) / 60,
    )
