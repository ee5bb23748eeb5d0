"""Identity of work: canonical JSON and the digests taken of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Return the one JSON spelling of ``value``: sorted keys, no white space, no NaN, UTF-8.

    Raises
    ------
    TypeError, ValueError
        If ``value`` holds something that JSON cannot say exactly.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any, *, size: int = 16) -> str:
    """Return the BLAKE2b digest of ``value``'s canonical JSON, as ``2 * size`` hex characters."""
    return hashlib.blake2b(canonical_json(value), digest_size=size).hexdigest()


def digest_bytes(chunks: Iterable[bytes], *, size: int = 16) -> str:
    """Return the BLAKE2b digest of concatenated ``chunks``, as ``2 * size`` hex characters."""
    state = hashlib.blake2b(digest_size=size)
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()


def artifact_id(kind: str, request: Any) -> str:
    """Name an artifact by its request: ``<kind>-<16 hex>``, the same for the same request."""
    return f"{kind}-{digest({'kind': kind, 'request': request}, size=8)}"
