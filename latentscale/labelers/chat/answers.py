"""JSON answers of chat models: their schema, and how they are extracted from generated text."""

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


def last_json_object(text: str) -> dict[str, Any] | None:
    """Return the last JSON object in generated text, ignoring surrounding text; None if there is none."""
    text = _THOUGHT.sub("", text)
    # Models put line breaks into strings, which strict JSON forbids.
    decoder = json.JSONDecoder(strict=False)
    last: dict[str, Any] | None = None
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        if isinstance(value, dict):
            last = cast("dict[str, Any]", value)
        start = text.find("{", end)
    return last
