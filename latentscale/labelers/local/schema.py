"""The schema of an answer for a decoder that follows it token by token: everything in it has an end."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from latentscale.labelers.chat import Question
from latentscale.labelers.checks import MAX_CHARACTERS, MAX_DESCRIPTION

# A number without a bound may go on for ever.
_CONFIDENCES = [number / 10 for number in range(11)]


def schema_text(question: Question) -> str:
    """The JSON schema of the answer to a question, as text, with lengths, numbers and entries bounded."""
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
    one = _object({"number": {"enum": list(range(1, groups + 1))}, **entry})
    many = {"type": "array", "items": one, "minItems": groups, "maxItems": groups}
    return json.dumps(_object({"groups": many}))


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
