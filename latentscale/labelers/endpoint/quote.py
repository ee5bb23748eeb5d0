"""What labels by a language model will cost, before any is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from latentscale.labelers.endpoint.options import EndpointLabelOptions
from latentscale.labelers.endpoint.prompts import label_prompt, system_prompt
from latentscale.labelers.protocol import ClusterEvidence
from latentscale.labelers.service import Quote
from latentscale.services.terms import ServiceTerms, Usage
from latentscale.services.tokens import about

# Of the clusters, so many are asked about once more: names that siblings share, and names that fail a test.
_AGAIN = 0.15
_ANSWER_TOKENS = 70
# Of a usual hosted model; a small one on a processor takes longer.
_SECONDS_A_REQUEST = 2.0
_TEXT_TOKENS = 300
_MORE_TOKENS = 150


def quote_labels(options: EndpointLabelOptions, terms: ServiceTerms, layers: Sequence[int], *, exemplars: int) -> Quote:
    """What the labels of so many clusters, layer by layer, will cost.

    Every cluster is counted with as much evidence as its exemplars hold at most, so that the bill is rather lower.
    """
    empty = ClusterEvidence(layer=0, cluster=0, size=1, suggestion="-", keyphrases=(), exemplars=())
    frame = about(f"{system_prompt(options)}\n{label_prompt(empty, words=options.words_of(0), tokens=0)}")
    evidence = min(options.evidence_tokens, exemplars * _TEXT_TOKENS + _MORE_TOKENS)
    clusters = sum(layers)
    prompts = round(clusters * (1 + _AGAIN))
    usage = Usage(prompts * (frame + evidence), prompts * min(_ANSWER_TOKENS, options.max_output_tokens))
    paces = [_SECONDS_A_REQUEST / options.concurrency]
    if options.requests_per_minute:
        paces.append(60 / options.requests_per_minute)
    if options.tokens_per_minute:
        paces.append((frame + evidence + _ANSWER_TOKENS) * 60 / options.tokens_per_minute)
    return Quote(
        clusters=clusters, prompts=prompts, usage=usage, cost=terms.cost(usage), minutes=prompts * max(paces) / 60
    )
