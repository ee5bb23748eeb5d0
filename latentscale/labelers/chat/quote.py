"""Estimate the prompts and tokens of labels by a chat model."""

from __future__ import annotations

from collections.abc import Sequence

from latentscale.labelers.chat.options import ChatOptions
from latentscale.labelers.chat.prompts import label_prompt, system_prompt
from latentscale.labelers.protocol import ClusterEvidence
from latentscale.services.terms import Usage
from latentscale.services.tokens import about

# Estimated share of clusters with a follow-up question, for labels equivalent to a sibling's or that fail a test.
_FOLLOW_UP_SHARE = 0.15
ANSWER_TOKENS = 70
_TEXT_TOKENS = 300
_OTHER_EVIDENCE_TOKENS = 150
_EMPTY = ClusterEvidence(layer=0, cluster=0, size=1, suggestion="-", keyphrases=(), exemplars=())


def frame(options: ChatOptions) -> str:
    """Return the text of a request without the evidence."""
    return f"{system_prompt(options)}\n{label_prompt(_EMPTY, words=options.words_of(0), tokens=0)}"


def estimated_prompts(layers: Sequence[int]) -> int:
    """Estimate the number of requests; ``layers`` is the number of clusters by layer."""
    return round(sum(layers) * (1 + _FOLLOW_UP_SHARE))


def estimated_usage(options: ChatOptions, prompts: int, *, exemplars: int) -> Usage:
    """Estimate the tokens of ``prompts`` requests and their answers.

    An upper estimate: every cluster is counted with the maximum evidence of its exemplars.
    """
    evidence = min(options.evidence_tokens, exemplars * _TEXT_TOKENS + _OTHER_EVIDENCE_TOKENS)
    return Usage(prompts * (about(frame(options)) + evidence), prompts * min(ANSWER_TOKENS, options.max_output_tokens))
