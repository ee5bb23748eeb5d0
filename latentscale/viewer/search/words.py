"""Words of one text, without a library of tables: for the few documents of a small update."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

_RULES = json.loads((Path(__file__).parent / "tokens.json").read_bytes())
LONGEST: int = _RULES["longest"]


def _ranges(*kinds: str) -> str:
    return "".join(rf"\U{int(low, 16):08x}-\U{int(high, 16):08x}" for kind in kinds for low, high in _RULES[kind])


_DROPPED = re.compile(f"[{_ranges('dropped')}]")
_UNSPACED = re.compile(f"[{_ranges('unspaced')}]")
_RUN = re.compile(f"[{_ranges('unspaced')}]+|[^{_ranges('between', 'unspaced')}]+")


def normalised(text: str) -> str:
    """As ``tokens.normalised`` of many texts."""
    plain = text.lower()
    if plain.isascii():
        return plain
    return unicodedata.normalize("NFC", _DROPPED.sub("", unicodedata.normalize("NFKD", plain))).lower()


def words(text: str) -> list[str]:
    """The words of a text, each as often as it is there; as ``tokens.tokens`` of many texts."""
    found: list[str] = []
    for run in _RUN.findall(normalised(text)):
        if not _UNSPACED.match(run):
            found.append(run[:LONGEST])
        elif len(run) == 1:
            found.append(run)
        else:
            found += [run[i : i + 2] for i in range(len(run) - 1)]
    return found
