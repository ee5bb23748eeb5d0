"""How many prompts and tokens labels by a chat model will take, before any is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from latentscale.labelers.chat.options import ChatOptions
from latentscale.labelers.chat.prompts import label_prompt, system_prompt
from latentscale.labelers.protocol import ClusterEvidence
from latentscale.services.terms import Usage
from latentscale.services.tokens import about

# Of the clusters, so many are asked about once more: names that siblings share, and names that fail a test.
_AGAIN = 0.15
ANSWER_TOKENS = 70
_TEXT_TOKENS = 300
_MORE_TOKENS = 150
_EMPTY = ClusterEvidence(layer=0, cluster=0, size=1, suggestion="-", keyphrases=(), exemplars=())


def frame(options: ChatOptions) -> str:
    """All of a request but the evidence."""
    return f"{system_prompt(options)}\n{label_prompt(_EMPTY, words=options.words_of(0), tokens=0)}"


def estimated_prompts(layers: Sequence[int]) -> int:
    """Requests for so many clusters, layer by layer."""
    return round(sum(layers) * (1 + _AGAIN))


def estimated_usage(options: ChatOptions, prompts: int, *, exemplars: int) -> Usage:
    """Tokens of so many requests and their answers.

    Every cluster is counted with as much evidence as its exemplars hold at most, so that it is rather less.
    """
    evidence = min(options.evidence_tokens, exemplars * _TEXT_TOKENS + _MORE_TOKENS)
    return Usage(prompts * (about(frame(options)) + evidence), prompts * min(ANSWER_TOKENS, options.max_output_tokens))
