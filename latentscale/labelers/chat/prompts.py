"""The prompts: text files with a version in their names, filled with the evidence of clusters as quoted data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from latentscale.digest import digest
from latentscale.labelers.chat.options import ChatOptions
from latentscale.labelers.checks import instructs, without_instructions
from latentscale.labelers.protocol import ClusterEvidence
from latentscale.services.tokens import BYTES_A_TOKEN, size_of

# A new text is a new file: labels by the old one keep their identity.
FILES = {"system": "system-1", "label": "label-1", "reconsider": "reconsider-1", "distinguish": "distinguish-1"}
SHAPE = '{"label": "...", "description": "...", "confidence": 0.9}'
GROUPS_SHAPE = '{"groups": [{"number": 1, "label": "...", "description": "...", "confidence": 0.9}]}'

_PLACE = re.compile(r"\{(\w+)\}")
# Of the evidence that is left after keyphrases and columns: the part of the neighbour's documents.
_NEIGHBOUR_SHARE = 0.2
_LEAST_TEXT = 40
_MOST_PHRASES = 12
_MOST_TAKEN = 30


@cache
def template(name: str) -> str:
    """The text of a prompt."""
    return (resources.files("latentscale.labelers") / "prompts" / f"{FILES[name]}.txt").read_text(encoding="utf-8")


def prompts_identity() -> dict[str, str]:
    """Name and digest of each prompt."""
    return {FILES[name]: digest(template(name), size=8) for name in FILES}


def _filled(name: str, values: Mapping[str, str]) -> str:
    """A prompt with its places filled, in one pass: what a value holds is never a place."""
    return _PLACE.sub(lambda match: values[match[1]], template(name)).strip()


def system_prompt(options: ChatOptions) -> str:
    """The part that is the same for all clusters, which servers keep for the next request."""
    return _filled(
        "system",
        {
            "context": f"\nThe corpus, in the words of its owner: {options.context}\n" if options.context else "",
            "language": options.language or "the documents' own language",
            "shape": SHAPE,
        },
    )


def label_prompt(evidence: ClusterEvidence, *, words: int, tokens: int) -> str:
    """Ask for the name of a cluster."""
    return _filled("label", _about(evidence, words=words, tokens=tokens))


def reconsider_prompt(
    evidence: ClusterEvidence, *, words: int, tokens: int, before: str, reason: str, taken: Sequence[str]
) -> str:
    """Ask for another name of a cluster."""
    # What the model said may itself be a command that it found in a document.
    said = json.dumps(without_instructions(before[:200]) or "that you gave", ensure_ascii=False)
    more = {"before": said, "reason": reason, "taken": _taken(taken)}
    return _filled("reconsider", _about(evidence, words=words, tokens=tokens) | more)


def distinguish_prompt(
    members: Sequence[ClusterEvidence], labels: Sequence[str], taken: Sequence[str], *, words: int, tokens: int
) -> str:
    """Ask for new names of siblings whose names say the same."""
    each = max(tokens // max(len(members), 1), 60)
    groups = [
        {"number": number, "name": label, **_own(one, each)}
        for number, (one, label) in enumerate(zip(members, labels, strict=True), start=1)
    ]
    values = {"words": str(words), "taken": _taken(taken), "shape": GROUPS_SHAPE}
    return _filled("distinguish", values | _quoted({"groups": groups}))


def _about(evidence: ClusterEvidence, *, words: int, tokens: int) -> dict[str, str]:
    rank = "It is one of the smallest groups of the map." if evidence.layer == 0 else "It joins several smaller groups."
    sibling = evidence.sibling
    has_texts = sibling is not None and bool(sibling.texts)
    found = _own(evidence, round(tokens * (1 - _NEIGHBOUR_SHARE)) if has_texts else tokens)
    if evidence.columns:
        found["columns"] = [
            {
                "column": one.column,
                "value": one.value[:100],
                "inside": round(one.share, 2),
                "outside": round(one.elsewhere, 2),
            }
            for one in evidence.columns
            if not instructs(f"{one.column}. {one.value}")
        ]
    if evidence.numbers:
        found.setdefault("columns", []).extend(
            {"column": one.column, "median inside": one.median, "median outside": one.elsewhere}
            for one in evidence.numbers
            if not instructs(one.column)
        )
    if sibling is not None:
        phrases = _phrases(sibling.keyphrases)
        found["neighbour"] = {"keyphrases": phrases} | (
            {"documents": _cut(sibling.texts, round(tokens * _NEIGHBOUR_SHARE) - _size(phrases))} if has_texts else {}
        )
    return {"rank": rank, "words": str(words)} | _quoted(found)


def _own(evidence: ClusterEvidence, tokens: int) -> dict[str, Any]:
    phrases = _phrases(evidence.keyphrases)
    return {"keyphrases": phrases, "documents": _cut(evidence.texts, tokens - _size(phrases))}


def _phrases(keyphrases: Sequence[str]) -> list[str]:
    return [phrase[:100] for phrase in keyphrases if without_instructions(phrase)][:_MOST_PHRASES]


def _size(phrases: Sequence[str]) -> int:
    return sum(size_of(phrase) + 4 for phrase in phrases) // BYTES_A_TOKEN


def _cut(texts: Sequence[str], tokens: int) -> list[str]:
    """The beginnings of texts, of so many tokens together about: the longest are cut first."""
    clean = [one for one in (" ".join(without_instructions(text).split()) for text in texts) if one]
    left = max(tokens, 0) * BYTES_A_TOKEN
    # Rather fewer texts than beginnings that say nothing.
    clean = clean[: max(1, left // _LEAST_TEXT)]
    lengths = sorted(size_of(text) for text in clean)
    limit = lengths[-1] if lengths else 0
    for at, length in enumerate(lengths):
        if length * (len(lengths) - at) > left:
            limit = max(left // (len(lengths) - at), _LEAST_TEXT)
            break
        left -= length
    return [_beginning(text, limit) for text in clean]


def _beginning(text: str, size: int) -> str:
    data = text.encode("utf-8", "replace")
    return text if len(data) <= size else data[:size].decode("utf-8", "ignore") + "…"


def _quoted(evidence: Mapping[str, Any]) -> dict[str, str]:
    """Evidence as JSON on lines of its own, without a character that could end the quotation, and its mark."""
    text = json.dumps(evidence, ensure_ascii=False, indent=1).encode("utf-8", "replace").decode()
    text = text.replace("<", "\\u003c").replace(">", "\\u003e")
    return {"evidence": text, "mark": digest(text, size=4)}


def _taken(labels: Sequence[str]) -> str:
    names = list(dict.fromkeys(labels))[:_MOST_TAKEN]
    return f"These names are taken: {json.dumps(names, ensure_ascii=False)}." if names else ""
