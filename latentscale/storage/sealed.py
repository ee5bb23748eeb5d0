"""JSON objects of a workspace, each with a schema number and a digest of its content, which detects changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from latentscale.config import SCHEMA_VERSION
from latentscale.storage.objects import Store
from latentscale.storage.schema import check_schema

DIGEST = "digest"
WITHOUT_DIGEST = 2
"""The only schema version whose objects may lack the digest."""


def seal(values: Mapping[str, Any]) -> bytes:
    """Return ``values`` as an indented JSON document with its schema number first and its digest last."""
    plain = cast(dict[str, Any], json.loads(json.dumps({**values, "schema": SCHEMA_VERSION}, ensure_ascii=False)))
    ordered = {"schema": SCHEMA_VERSION, **{key: value for key, value in plain.items() if key != DIGEST}}
    return json.dumps({**ordered, DIGEST: _digest(ordered)}, indent=1, ensure_ascii=False).encode()


def unseal(store: Store, name: str, data: bytes) -> dict[str, Any]:
    """Read what ``seal`` wrote, without the schema number and the digest.

    An object of schema 2 may lack the digest, as early versions of that schema wrote none.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is not such a document, or its digest does not match.
    WorkspaceError
        If it has another schema version.
    """
    read: object = json.loads(data)
    if not isinstance(read, dict):
        raise TypeError("it is no JSON object")
    values = cast(dict[str, Any], read)
    # Checked first: a later version may compute the digest differently.
    check_schema(store, name, values)
    found = values.pop(DIGEST, None)
    if found != _digest(values) and not (found is None and values["schema"] == WITHOUT_DIGEST):
        raise ValueError("a value in it was changed since it was written (its digest differs)")
    del values["schema"]
    return values


def _digest(values: Mapping[str, Any]) -> str:
    """Digest of the values in any order; they may contain NaN, which ``canonical_json`` refuses."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
