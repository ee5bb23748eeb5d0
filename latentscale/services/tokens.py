"""Estimated and maximum number of tokens of a text, for a service with an unknown tokenizer.

Four bytes per token is a good estimate in most languages; a token of common tokenizers has at least one byte, which
bounds the cost of a request.
"""

from __future__ import annotations

BYTES_A_TOKEN = 4
# Special tokens for begin, end and roles, and the template that a service puts around a text.
EXTRA_TOKENS = 16

# Of one answer: a service that says more than this says no number of tokens.
_MOST = 10**12


def is_count(value: object) -> bool:
    """Whether what a service says is a number of tokens of one answer."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST


def size_of(text: str) -> int:
    """Size of a text in bytes of UTF-8."""
    return len(text.encode("utf-8", "replace"))


def about(text: str) -> int:
    """Estimated number of tokens of a text."""
    return max(-(-size_of(text) // BYTES_A_TOKEN), 1)


def at_most(text: str) -> int:
    """Upper bound of the number of tokens of a text."""
    return size_of(text) + EXTRA_TOKENS
