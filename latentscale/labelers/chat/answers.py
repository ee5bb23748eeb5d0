"""The JSON that a chat model answers with: its schema, and how it is found in what the model wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

_ENTRY = {"label": {"type": "string"}, "description": {"type": "string"}, "confidence": {"type": "number"}}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


ONE_LABEL = _object(_ENTRY)
SEVERAL_LABELS = _object({"groups": {"type": "array", "items": _object({"number": {"type": "integer"}, **_ENTRY})}})

_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)


def object_in(text: str) -> dict[str, Any] | None:
    """The last JSON object in what a model wrote, whatever is around it; None where there is none."""
    text = _THOUGHT.sub("", text)
    # Models put line breaks into strings, which strict JSON forbids.
    decoder = json.JSONDecoder(strict=False)
    found: dict[str, Any] | None = None
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        if isinstance(value, dict):
            found = cast("dict[str, Any]", value)
        at = text.find("{", end)
    return found
