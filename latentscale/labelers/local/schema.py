"""JSON schema of answers for constrained decoding; everything in it is bounded."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from latentscale.labelers.chat import Question
from latentscale.labelers.checks import MAX_CHARACTERS, MAX_DESCRIPTION

# A number of unbounded length may never end.
_CONFIDENCES = [number / 10 for number in range(11)]


def schema_text(question: Question) -> str:
    """Return the JSON schema of the answer to a question as text, with bounded lengths, numbers and entries."""
    return _text(question.answers if "groups" in question.schema["properties"] else 0)


@cache
def _text(groups: int) -> str:
    entry: dict[str, Any] = {
        "label": {"type": "string", "minLength": 1, "maxLength": MAX_CHARACTERS},
        "description": {"type": "string", "maxLength": MAX_DESCRIPTION},
        "confidence": {"enum": _CONFIDENCES},
    }
    if not groups:
        return json.dumps(_object(entry))
    item = _object({"number": {"enum": list(range(1, groups + 1))}, **entry})
    items = {"type": "array", "items": item, "minItems": groups, "maxItems": groups}
    return json.dumps(_object({"groups": items}))


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
