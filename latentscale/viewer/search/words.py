"""Tokenise one text without polars, for the few documents of a small update."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from pathlib import Path

_RULES = json.loads((Path(__file__).parent / "tokens.json").read_bytes())
LONGEST: int = _RULES["longest"]
# The words of lower-case ASCII texts, which are most; the full pattern takes longer to compile than to apply.
_PLAIN_RUN = re.compile("[0-9a-z]+")


def _ranges(*kinds: str) -> str:
    return "".join(rf"\U{int(low, 16):08x}-\U{int(high, 16):08x}" for kind in kinds for low, high in _RULES[kind])


@cache
def _dropped() -> re.Pattern[str]:
    return re.compile(f"[{_ranges('dropped')}]")


@cache
def _unspaced() -> re.Pattern[str]:
    return re.compile(f"[{_ranges('unspaced')}]")


@cache
def _run() -> re.Pattern[str]:
    return re.compile(f"[{_ranges('unspaced')}]+|[^{_ranges('between', 'unspaced')}]+")


def normalised(text: str) -> str:
    """As ``tokens.normalised``."""
    plain = text.lower()
    if plain.isascii():
        return plain
    return unicodedata.normalize("NFC", _dropped().sub("", unicodedata.normalize("NFKD", plain))).lower()


def words(text: str) -> list[str]:
    """The words of a text, with repetitions, as from ``tokens.tokens``."""
    plain = normalised(text)
    if plain.isascii():
        return [run[:LONGEST] for run in _PLAIN_RUN.findall(plain)]
    terms: list[str] = []
    for run in _run().findall(plain):
        if not _unspaced().match(run):
            terms.append(run[:LONGEST])
        elif len(run) == 1:
            terms.append(run)
        else:
            terms += [run[i : i + 2] for i in range(len(run) - 1)]
    return terms
