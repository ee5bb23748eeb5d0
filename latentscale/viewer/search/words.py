"""Words of one text, without a library of tables: for the few documents of a small update."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from pathlib import Path

_RULES = json.loads((Path(__file__).parent / "tokens.json").read_bytes())
LONGEST: int = _RULES["longest"]
# What the rules leave of lower-case ASCII; most texts need no others, which take longer to compile than those to read.
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
    """As ``tokens.normalised`` of many texts."""
    plain = text.lower()
    if plain.isascii():
        return plain
    return unicodedata.normalize("NFC", _dropped().sub("", unicodedata.normalize("NFKD", plain))).lower()


def words(text: str) -> list[str]:
    """The words of a text, each as often as it is there; as ``tokens.tokens`` of many texts."""
    plain = normalised(text)
    if plain.isascii():
        return [run[:LONGEST] for run in _PLAIN_RUN.findall(plain)]
    found: list[str] = []
    for run in _run().findall(plain):
        if not _unspaced().match(run):
            found.append(run[:LONGEST])
        elif len(run) == 1:
            found.append(run)
        else:
            found += [run[i : i + 2] for i in range(len(run) - 1)]
    return found
