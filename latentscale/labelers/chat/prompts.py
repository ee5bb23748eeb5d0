"""Render prompts from versioned template files, with the evidence of clusters as quoted data."""

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

# A changed prompt is a new file, so that labels with the old one keep their identity.
FILES = {"system": "system-1", "label": "label-1", "reconsider": "reconsider-1", "distinguish": "distinguish-1"}
SHAPE = '{"label": "...", "description": "...", "confidence": 0.9}'
GROUPS_SHAPE = '{"groups": [{"number": 1, "label": "...", "description": "...", "confidence": 0.9}]}'

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Share of the evidence budget for the neighbour, the most similar sibling.
_NEIGHBOUR_SHARE = 0.2
_MIN_TEXT_BYTES = 40
_MAX_PHRASES = 12
_MAX_TAKEN = 30


@cache
def template(name: str) -> str:
    """Read a prompt template."""
    return (resources.files("latentscale.labelers") / "prompts" / f"{FILES[name]}.txt").read_text(encoding="utf-8")


def prompts_identity() -> dict[str, str]:
    """Return the digest of each template, by its versioned name."""
    return {FILES[name]: digest(template(name), size=8) for name in FILES}


def _render(name: str, values: Mapping[str, str]) -> str:
    """Fill a template in one pass, so that placeholders in values are not expanded."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template(name)).strip()


def system_prompt(options: ChatOptions) -> str:
    """Return the system prompt, equal for all clusters so that servers can cache it."""
    return _render(
        "system",
        {
            "context": f"\nThe corpus, in the words of its owner: {options.context}\n" if options.context else "",
            "language": options.language or "the documents' own language",
            "shape": SHAPE,
        },
    )


def label_prompt(evidence: ClusterEvidence, *, words: int, tokens: int) -> str:
    """Return the prompt that asks for the label of a cluster."""
    return _render("label", _cluster_values(evidence, words=words, tokens=tokens))


def reconsider_prompt(
    evidence: ClusterEvidence, *, words: int, tokens: int, before: str, reason: str, taken: Sequence[str]
) -> str:
    """Return the prompt that asks for another label of a cluster."""
    # The model's previous answer may itself repeat a command from a document.
    previous = json.dumps(without_instructions(before[:200]) or "that you gave", ensure_ascii=False)
    values = {"before": previous, "reason": reason, "taken": _taken(taken)}
    return _render("reconsider", _cluster_values(evidence, words=words, tokens=tokens) | values)


def distinguish_prompt(
    members: Sequence[ClusterEvidence], labels: Sequence[str], taken: Sequence[str], *, words: int, tokens: int
) -> str:
    """Return the prompt that asks for new labels of siblings with equivalent labels."""
    tokens_per_member = max(tokens // max(len(members), 1), 60)
    groups = [
        {"number": number, "name": label, **_documents_and_phrases(member, tokens_per_member)}
        for number, (member, label) in enumerate(zip(members, labels, strict=True), start=1)
    ]
    values = {"words": str(words), "taken": _taken(taken), "shape": GROUPS_SHAPE}
    return _render("distinguish", values | _quote({"groups": groups}))


def _cluster_values(evidence: ClusterEvidence, *, words: int, tokens: int) -> dict[str, str]:
    rank = "It is one of the smallest groups of the map." if evidence.layer == 0 else "It joins several smaller groups."
    sibling = evidence.sibling
    has_texts = sibling is not None and bool(sibling.texts)
    values = _documents_and_phrases(evidence, round(tokens * (1 - _NEIGHBOUR_SHARE)) if has_texts else tokens)
    if evidence.columns:
        values["columns"] = [
            {
                "column": column.column,
                "value": column.value[:100],
                "inside": round(column.share, 2),
                "outside": round(column.elsewhere, 2),
            }
            for column in evidence.columns
            if not instructs(f"{column.column}. {column.value}")
        ]
    if evidence.numbers:
        values.setdefault("columns", []).extend(
            {"column": column.column, "median inside": column.median, "median outside": column.elsewhere}
            for column in evidence.numbers
            if not instructs(column.column)
        )
    if sibling is not None:
        phrases = _phrases(sibling.keyphrases)
        values["neighbour"] = {"keyphrases": phrases} | (
            {"documents": _truncate(sibling.texts, round(tokens * _NEIGHBOUR_SHARE) - _size(phrases))}
            if has_texts
            else {}
        )
    return {"rank": rank, "words": str(words)} | _quote(values)


def _documents_and_phrases(evidence: ClusterEvidence, tokens: int) -> dict[str, Any]:
    phrases = _phrases(evidence.keyphrases)
    return {"keyphrases": phrases, "documents": _truncate(evidence.texts, tokens - _size(phrases))}


def _phrases(keyphrases: Sequence[str]) -> list[str]:
    return [phrase[:100] for phrase in keyphrases if without_instructions(phrase)][:_MAX_PHRASES]


def _size(phrases: Sequence[str]) -> int:
    return sum(size_of(phrase) + 4 for phrase in phrases) // BYTES_A_TOKEN


def _truncate(texts: Sequence[str], tokens: int) -> list[str]:
    """Truncate texts, longest first, to about ``tokens`` tokens in total."""
    clean = [cleaned for cleaned in (" ".join(without_instructions(text).split()) for text in texts) if cleaned]
    remaining = max(tokens, 0) * BYTES_A_TOKEN
    # Fewer texts are better than beginnings too short to be informative.
    clean = clean[: max(1, remaining // _MIN_TEXT_BYTES)]
    lengths = sorted(size_of(text) for text in clean)
    limit = lengths[-1] if lengths else 0
    for index, length in enumerate(lengths):
        if length * (len(lengths) - index) > remaining:
            limit = max(remaining // (len(lengths) - index), _MIN_TEXT_BYTES)
            break
        remaining -= length
    return [_beginning(text, limit) for text in clean]


def _beginning(text: str, size: int) -> str:
    data = text.encode("utf-8", "replace")
    return text if len(data) <= size else data[:size].decode("utf-8", "ignore") + "…"


def _quote(evidence: Mapping[str, Any]) -> dict[str, str]:
    """Render evidence as JSON without characters that could end the quotation, and the mark that delimits it."""
    text = json.dumps(evidence, ensure_ascii=False, indent=1).encode("utf-8", "replace").decode()
    text = text.replace("<", "\\u003c").replace(">", "\\u003e")
    return {"evidence": text, "mark": digest(text, size=4)}


def _taken(labels: Sequence[str]) -> str:
    names = list(dict.fromkeys(labels))[:_MAX_TAKEN]
    return f"These names are taken: {json.dumps(names, ensure_ascii=False)}." if names else ""
