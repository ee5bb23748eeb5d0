"""Requests and answers of chat completions and of Anthropic's Messages, as bytes of JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson

from latentscale.labelers.chat.answers import object_in
from latentscale.labelers.chat.protocol import Reply
from latentscale.labelers.endpoint.options import EndpointLabelOptions
from latentscale.services.failures import BadAnswerError
from latentscale.services.terms import Usage
from latentscale.services.tokens import about, at_most, is_count

ANTHROPIC_VERSION = "2023-06-01"


@dataclass(frozen=True, slots=True)
class Form:
    """What a service is known to take; a refusal may cost it one of these."""

    schema: bool = True
    temperature: bool = True
    system: bool = True
    completion_tokens: bool = False


class Forms:
    """The form of all requests of a labeler, which its threads share.

    Parameters
    ----------
    notice : callable
        Told once what the service does not take.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self.now = Form()
        self._notice = notice
        self._lock = threading.Lock()

    def adapt(self, sent: Form, message: str) -> bool:
        """After a request in the form ``sent`` was refused: whether there is another one to try."""
        text = message.lower()
        with self._lock:
            if sent != self.now:
                return True
            if "context" in text or "too large" in text or "too long" in text:
                return False
            schema = ("response_format", "json_schema", "schema", "structured", "guided", "tool")
            if sent.schema and any(word in text for word in schema):
                self.now = replace(self.now, schema=False)
                self._notice("the language model's server takes no JSON schema: JSON was asked for in words")
            elif not sent.completion_tokens and "max_completion_tokens" in text:
                self.now = replace(self.now, completion_tokens=True)
            elif sent.temperature and "temperature" in text:
                self.now = replace(self.now, temperature=False)
                self._notice("the language model takes no temperature: its own was used")
            elif sent.system and "system" in text:
                self.now = replace(self.now, system=False)
            return sent != self.now


class ChatQuestion:
    """One request to a chat model; see :class:`latentscale.services.client.Question`."""

    def __init__(
        self, options: EndpointLabelOptions, forms: Forms, system: str, prompt: str, schema: Mapping[str, Any]
    ) -> None:
        self._options = options
        self._forms = forms
        self._system = system
        self._prompt = prompt
        self._schema = schema
        self._sent = forms.now
        text = f"{system}\n{prompt}"
        # Two keyed groups of a schema cost tokens too, as some services bill them.
        self.estimate = Usage(about(text) + 60, min(120, options.max_output_tokens))
        self.most = Usage(at_most(text) + 600, options.max_output_tokens)

    def body(self) -> bytes:
        """The request."""
        self._sent = form = self._forms.now
        options = self._options
        values: dict[str, Any] = {"model": options.model}
        values["max_completion_tokens" if form.completion_tokens else "max_tokens"] = options.max_output_tokens
        if form.temperature:
            values["temperature"] = options.temperature
        prompt = self._prompt if form.system else f"{self._system}\n\n{self._prompt}"
        messages = [{"role": "user", "content": prompt}]
        if options.provider == "anthropic":
            if form.system:
                values["system"] = self._system
            if form.schema:
                values["tools"] = [
                    {"name": "answer", "description": "Give the answer.", "input_schema": dict(self._schema)}
                ]
                values["tool_choice"] = {"type": "tool", "name": "answer"}
        else:
            if form.system:
                messages.insert(0, {"role": "system", "content": self._system})
            if form.schema:
                values["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "strict": True, "schema": dict(self._schema)},
                }
        return orjson.dumps(values | {"messages": messages})

    def read(self, data: bytes) -> tuple[Reply, Usage | None]:
        """Read an answer; what the model said may still be anything."""
        try:
            found: Any = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise BadAnswerError(f"its answer is not JSON ({error})" if data else "its answer is empty") from None
        if not isinstance(found, dict):
            raise BadAnswerError("its answer is no JSON object")
        values = cast("dict[str, Any]", found)
        reply = _message(values) if self._options.provider == "anthropic" else _completion(values)
        return reply, _usage(values)

    def adapt(self, message: str) -> bool:
        """Try another form, where the refusal names what is not taken."""
        return self._forms.adapt(self._sent, message)


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
    return Reply(values=object_in(text), text=text, cut=cut)


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
    return Reply(values=object_in(text), text=text, cut=cut)


def _text(part: Any) -> str:
    text = cast("dict[str, Any]", part).get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _usage(answer: dict[str, Any]) -> Usage | None:
    """Tokens that an answer says it cost: of both protocols, with what a cache had or took."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    known = cast("dict[str, Any]", usage)

    def number(*names: str) -> int | None:
        found = [int(known[name]) for name in names if is_count(known.get(name))]
        return sum(found) if found else None

    sent = number("prompt_tokens")
    if sent is None:
        sent = number("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    answered = number("completion_tokens")
    if answered is None:
        answered = number("output_tokens")
    return None if sent is None or answered is None else Usage(sent, answered)
