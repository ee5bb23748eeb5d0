"""What labels by a service will cost, before any is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from latentscale.labelers.chat.quote import ANSWER_TOKENS, estimated_prompts, estimated_usage
from latentscale.labelers.endpoint.options import EndpointLabelOptions
from latentscale.labelers.model import Quote
from latentscale.services.terms import ServiceTerms

# Of a usual hosted model; a small one on a processor takes longer.
_SECONDS_A_REQUEST = 2.0


def quote_labels(options: EndpointLabelOptions, terms: ServiceTerms, layers: Sequence[int], *, exemplars: int) -> Quote:
    """What the labels of so many clusters, layer by layer, will cost at most, about."""
    prompts = estimated_prompts(layers)
    usage = estimated_usage(options, prompts, exemplars=exemplars)
    paces = [_SECONDS_A_REQUEST / options.concurrency]
    if options.requests_per_minute:
        paces.append(60 / options.requests_per_minute)
    if options.tokens_per_minute:
        paces.append((usage.tokens / max(prompts, 1) + ANSWER_TOKENS) * 60 / options.tokens_per_minute)
    return Quote(
        clusters=sum(layers), prompts=prompts, usage=usage, cost=terms.cost(usage), minutes=prompts * max(paces) / 60
    )
