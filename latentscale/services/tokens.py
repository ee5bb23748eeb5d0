"""How many tokens a text has, about and at most, for a service whose tokenizer is not known.

Four bytes a token is close for text in most languages; a token of any common tokenizer is at least a byte, which bounds
what a request can cost.
"""

from __future__ import annotations

BYTES_A_TOKEN = 4
# Marks of beginning, end and roles, and what a service puts around a text.
EXTRA_TOKENS = 16


def size_of(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text.encode("utf-8", "replace"))


def about(text: str) -> int:
    """Tokens of a text, about."""
    return max(-(-size_of(text) // BYTES_A_TOKEN), 1)


def at_most(text: str) -> int:
    """Tokens of a text, at most."""
    return size_of(text) + EXTRA_TOKENS
