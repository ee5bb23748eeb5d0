"""Serialise requests and parse responses of chat completions and Anthropic's Messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson

from latentscale.labelers.chat.answers import last_json_object
from latentscale.labelers.chat.protocol import Reply
from latentscale.labelers.endpoint.options import EndpointLabelOptions
from latentscale.services.failures import BadAnswerError
from latentscale.services.terms import Usage
from latentscale.services.tokens import about, at_most, is_count

ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Features:
    """Request features that a service supports; one that it rejects is switched off."""

    schema: bool = True
    temperature: bool = True
    system: bool = True
    completion_tokens: bool = False


class SupportedFeatures:
    """The supported features of all requests of a labeler. Thread-safe.

    Parameters
    ----------
    notice : callable
        Called once for each feature that the service does not support.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.current = Features()
        self._notice = notice
        self._lock = threading.Lock()

    def adapt(self, sent: Features, message: str) -> bool:
        """Adapt to the rejection of a request that used the features ``sent``; return whether to retry."""
        text = message.lower()
        with self._lock:
            if sent != self.current:
                return True
            if "context" in text or "too large" in text or "too long" in text:
                return False
            schema = ("response_format", "json_schema", "schema", "structured", "guided", "tool")
            if sent.schema and any(word in text for word in schema):
                self.current = replace(self.current, schema=False)
                self._notice("the language model's server takes no JSON schema: JSON was asked for in words")
            elif not sent.completion_tokens and "max_completion_tokens" in text:
                self.current = replace(self.current, completion_tokens=True)
            elif sent.temperature and "temperature" in text:
                self.current = replace(self.current, temperature=False)
                self._notice("the language model takes no temperature: its own was used")
            elif sent.system and "system" in text:
                self.current = replace(self.current, system=False)
            return sent != self.current


class ChatQuestion:
    """One request to a chat model; see :class:`latentscale.services.client.Question`."""

    def __init__(
        self,
        options: EndpointLabelOptions,
        features: SupportedFeatures,
        system: str,
        prompt: str,
        schema: Mapping[str, Any],
    ) -> None:
        self._options = options
        self._features = features
        self._system = system
        self._prompt = prompt
        self._schema = schema
        self._sent = features.current
        text = f"{system}\n{prompt}"
        # Some services also bill tokens of the schema.
        self.estimate = Usage(about(text) + 60, min(120, options.max_output_tokens))
        self.most = Usage(at_most(text) + 600, options.max_output_tokens)

    def body(self) -> bytes:
        """Return the body of the request."""
        self._sent = features = self._features.current
        options = self._options
        values: dict[str, Any] = {"model": options.model}
        values["max_completion_tokens" if features.completion_tokens else "max_tokens"] = options.max_output_tokens
        if features.temperature:
            values["temperature"] = options.temperature
        prompt = self._prompt if features.system else f"{self._system}\n\n{self._prompt}"
        messages = [{"role": "user", "content": prompt}]
        if options.provider == "anthropic":
            if features.system:
                values["system"] = self._system
            if features.schema:
                values["tools"] = [
                    {"name": "answer", "description": "Give the answer.", "input_schema": dict(self._schema)}
                ]
                values["tool_choice"] = {"type": "tool", "name": "answer"}
        else:
            if features.system:
                messages.insert(0, {"role": "system", "content": self._system})
            if features.schema:
                values["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": dict(self._schema)},
                }
        return orjson.dumps(values | {"messages": messages})

    def read(self, data: bytes) -> tuple[Reply, Usage | None]:
        """Parse a response; the generated text is not validated."""
        try:
            answer: Any = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadAnswerError(f"its answer is not JSON ({error})" if data else "its answer is empty") from None
        if not isinstance(answer, dict):
            raise BadAnswerError("its answer is not a JSON object")
        values = cast("dict[str, Any]", answer)
        reply = _message(values) if self._options.provider == "anthropic" else _completion(values)
        return reply, _usage(values)

    def adapt(self, message: str) -> bool:
        """Switch off the feature that a rejection names; return whether to retry."""
        return self._features.adapt(self._sent, message)


def _completion(answer: dict[str, Any]) -> Reply:
    choices = answer.get("choices")
    first = cast("list[Any]", choices)[0] if isinstance(choices, list) and choices else None
    message = cast("dict[str, Any]", first).get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        raise BadAnswerError("its answer has no message")
    content = cast("dict[str, Any]", message).get("content")
    if isinstance(content, list):
        content = "".join(_text(part) for part in cast("list[Any]", content))
    text = content if isinstance(content, str) else str(cast("dict[str, Any]", message).get("refusal") or "")
    cut = cast("dict[str, Any]", first).get("finish_reason") == "length"
    return Reply(values=last_json_object(text), text=text, cut=cut)


def _message(answer: dict[str, Any]) -> Reply:
    content = answer.get("content")
    if not isinstance(content, list):
        raise BadAnswerError("its answer has no list 'content'")
    cut = answer.get("stop_reason") == "max_tokens"
    parts = [cast("dict[str, Any]", part) for part in cast("list[Any]", content) if isinstance(part, dict)]
    for part in parts:
        if part.get("type") == "tool_use" and isinstance(part.get("input"), dict):
            values = cast("dict[str, Any]", part["input"])
            return Reply(values=values, text=json.dumps(values, ensure_ascii=False), cut=cut)
    text = "".join(_text(part) for part in parts)
    return Reply(values=last_json_object(text), text=text, cut=cut)


def _text(part: Any) -> str:
    text = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _usage(answer: dict[str, Any]) -> Usage | None:
    """Return the billed tokens in a response of either protocol, including cached ones."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    fields = cast("dict[str, Any]", usage)

    def total(*names: str) -> int | None:
        counts = [int(fields[name]) for name in names if is_count(fields.get(name))]
        return sum(counts) if counts else None

    input_tokens = total("prompt_tokens")
    if input_tokens is None:
        input_tokens = total("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    output_tokens = total("completion_tokens")
    if output_tokens is None:
        output_tokens = total("output_tokens")
    return None if input_tokens is None or output_tokens is None else Usage(input_tokens, output_tokens)
