"""Validation of labels: one short line that names something, without markup or commands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MAX_CHARACTERS = 80
MAX_DESCRIPTION = 300
# Tolerated words beyond the requested number.
_SPARE_WORDS = 3

_MARKUP = re.compile(r"</?[A-Za-z!?]|\*\*|__\w|`|\]\(|\[\[|[{}|\\]|&#?\w{1,8};|^\s*(?:[-*#>•]+|\d+[.)])\s")
_ADDRESS = re.compile(
    r"\b(?:https?|ftp|file|data|javascript|mailto):|\bwww\.|\S@\w[\w-]*\.\w|"
    r"\w\.(?:com|org|info|biz|xyz|ru|cn|link|site|online|shop|top|click)\b|\w\.\w{2,6}/\w",
    re.IGNORECASE,
)
_SPEAKS = re.compile(
    r"^(?:i (?:cannot|can't|can not|am|will|won't)\b|i'm\b|sorry\b|as an? (?:ai|language)|here (?:is|are)\b)", re.I
)
_EMPTY_NAMES = frozenset(
    [
        "label",
        "labels",
        "name",
        "string",
        "title",
        "unknown",
        "none",
        "null",
        "n/a",
        "na",
        "other",
        "others",
        "misc",
        "miscellaneous",
        "various",
        "untitled",
        "documents",
        "document",
        "topics",
        "topic",
        "general",
        "cluster",
        "group",
        "text",
        "texts",
    ]
)
# Sentences addressed to a language model. No pattern finds all of them: this is one safeguard of several.
_INSTRUCTIONS = re.compile(
    r"""
    \b(?:ignore|disregard|forget|override|bypass|skip)\b.{0,40}?
        \b(?:previous|prior|above|earlier|preceding|all|any|your|these|those|the|every)\b.{0,40}?
        \b(?:instruction|prompt|rule|direction|guideline|command|context|message|task|evidence|text)s?\b
    | \b(?:system|developer)\s+(?:prompt|message|note|override|instruction)
    | (?:^|[\r\n.!?>])\s*(?:system|assistant|developer|user|human)\s*:
    | <\|?\s*/?(?:im_start|im_end|system|assistant|user|endoftext|evidence|s)\b[^>]{0,40}>
    | \[/?INST\] | \#\#\#\s*(?:instruction|system|response|new\s+task)
    | \byou\s+(?:are\s+now|must|will\s+now|shall|have\s+to|should\s+now|are\s+required\s+to)\b
    | \b(?:dear|attention|hey|note\s+to|message\s+(?:to|for))\s+(?:the\s+|any\s+|all\s+)?
        (?:ai|llm|model|language\s+model|assistant|chatbot|labell?er|annotator)s?\b
    | \bas\s+an?\s+(?:ai|language\s+model|llm|assistant)\b
    | \b(?:answer|respond|reply|output|print|return|say|write|emit|produce|give)\b\s+
        (?:only\s+|just\s+|exactly\s+|always\s+|nothing\s+but\s+)?
        (?:with|the\s+(?:word|words|text|following|phrase|label|name|string|json)|[\"'`{])
    | \b(?:name|label|call|title|rename|relabel|tag|classify)\b\s+(?:this|the|all|every|each|any|it|them|that)\s+
        (?:\w+\s+)?(?:groups?|clusters?|labels?|topics?|categor\w+|documents?|sets?|as\b)
    | \bnew\s+(?:instructions?|task|rules?|orders?)\b
    | \b(?:the|your|its|correct|right|only|final)\s+(?:\w+\s+)?(?:label|name|title|answer|output|response)\s+
        (?:must|should|shall|has\s+to|is\s+to|will|is|for\s+this)\b
    | \b(?:label|description|confidence)["']?\s*[:=]\s*["'\w]
    | \b(?:jailbreak|prompt\s+injection|dan\s+mode)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SENTENCES = re.compile(r"(?<=[.!?。！？])\s+|[\r\n]+")
_WORDS = re.compile(r"[^\W_]+")
_FILLERS = frozenset(
    [
        "a",
        "an",
        "and",
        "as",
        "at",
        "by",
        "for",
        "from",
        "in",
        "into",
        "of",
        "on",
        "or",
        "the",
        "to",
        "with",
        "&",
        "und",
        "der",
        "die",
        "das",
        "de",
        "la",
        "le",
        "et",
        "y",
    ]
)


def instructs(text: str) -> bool:
    """Whether a text reads like a command to a language model."""
    return _INSTRUCTIONS.search(text) is not None


def without_instructions(text: str) -> str:
    """Remove the sentences of a text that read like commands to a language model."""
    if not instructs(text):
        return text
    sentences = [sentence for sentence in _SENTENCES.split(text) if sentence.strip() and not instructs(sentence)]
    # A command may also span two sentences.
    joined = " ".join(sentences)
    return "" if instructs(joined) else joined


def tidy(text: str) -> str:
    """Strip quotation marks and full stops that models tend to add."""
    label = unicodedata.normalize("NFC", text).strip()
    for opening, closing in (('"', '"'), ("'", "'"), ("“", "”"), ("„", "“"), ("«", "»"), ("「", "」")):
        if len(label) > 2 and label.startswith(opening) and label.endswith(closing):
            label = label[1:-1].strip()
    return label[:-1].rstrip() if label.endswith((".", "。")) and not label.endswith("..") else label


def fault_of_label(label: str, *, words: int | None = None) -> str | None:
    """Return what is wrong with a label, as part of a sentence, or None.

    Parameters
    ----------
    label : str
        As returned by ``tidy``.
    words : int, optional
        Requested maximum number of words; a few more are tolerated.
    """
    if not label:
        return "it is empty"
    if "\n" in label or "\r" in label or "\u2028" in label or "\u2029" in label:
        return "it has more than one line"
    if len(label) > MAX_CHARACTERS:
        return f"it has {len(label):,} characters, more than {MAX_CHARACTERS}"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Cn") for character in label):
        return "it holds characters that cannot be seen"
    if _ADDRESS.search(label):
        return "it holds an address"
    if _MARKUP.search(label):
        return "it holds markup"
    if _SPEAKS.search(label):
        return "it is an answer to somebody and no name"
    if instructs(label):
        return "it is a command"
    label_words = [word.lower() for word in _WORDS.findall(label)]
    if not label_words:
        return "it has no word"
    if set(label_words) <= _EMPTY_NAMES:
        return "it says nothing"
    if words is not None and len(label_words) > words + _SPARE_WORDS:
        return f"it has {len(label_words)} words, more than {words}"
    return None


def usable_description(text: str) -> str:
    """Return a description as one line; empty if it is too long or contains an address, markup or a command."""
    description = " ".join(unicodedata.normalize("NFC", text).split())
    if (
        len(description) > MAX_DESCRIPTION
        or _ADDRESS.search(description)
        or _MARKUP.search(description)
        or instructs(description)
    ):
        return ""
    return "".join(
        character for character in description if unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cs", "Cn")
    )


def sense_of(label: str) -> str:
    """Normalize a label for comparison: its words without case, order, plural and fillers."""
    words = {_singular(word.casefold()) for word in _WORDS.findall(label)}
    return " ".join(sorted(words - _FILLERS or words)) or label.casefold()


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def equivalent_labels(labels: Sequence[str]) -> list[list[int]]:
    """Group the positions of labels with the same meaning (see :func:`sense_of`): groups of two or more, in order."""
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        groups.setdefault(sense_of(label), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def shares_a_word(label: str, texts: Sequence[str]) -> bool:
    """Whether a word of a label, ignoring fillers, occurs in any of the texts."""
    words = set(sense_of(label).split())
    return any(_singular(word.casefold()) in words for text in texts for word in _WORDS.findall(text))
