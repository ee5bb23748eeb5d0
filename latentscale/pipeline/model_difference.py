"""Describe how the embedding model of the settings differs from that of a map."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_DIGEST = re.compile(r"[0-9a-f]{24,}")
_SHOWN = 60


def describe_difference(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, str]:
    """Describe in what two models differ.

    Parameters
    ----------
    held, wanted : mapping
        Identities of two models: everything that alters their vectors.

    Returns
    -------
    held, wanted : str
        The entries of each that the other lacks or has with another value, such as ``max_tokens 512``; digests are
        shortened.
    """
    return _entries(held, wanted), _entries(wanted, held)


def _entries(identity: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    entries = [f"{key} {_shown(value)}" for key, value in identity.items() if key not in other or other[key] != value]
    return ", ".join(entries) or "none of these"


def _shown(value: Any) -> str:
    # A prompt may be empty, or end with a space.
    text = value if isinstance(value, str) and value.isalnum() else repr(value)
    text = _DIGEST.sub(lambda found: f"{found[0][:12]}…", text)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
