"""A language model on this machine: it speaks two protocols, counts what it answers, and misbehaves on demand.

What it names a group it reads from the evidence in the prompt, as a model does; it may also be gullible, and then does
whatever a text of the corpus asks of it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.embedders.embedding_server import KEY, EmbeddingServer, Request, Said, error

EVIDENCE = re.compile(r'<evidence id="(\w+)">\n(.*)\n</evidence id="\1">', re.DOTALL)
PROBE = "When is the library open on holidays?"
Naming = Callable[[dict[str, Any], str], dict[str, Any]]


def by_keyphrases(group: dict[str, Any], prompt: str) -> dict[str, Any]:
    """An honest model: the first keyphrases, and a sentence."""
    phrases = [one for one in group["keyphrases"] if re.fullmatch(r"[\w ]+", one)] or ["Papers"]
    label = " and ".join(phrases[:2]).capitalize()
    return {"label": label, "description": f"Packages about {', '.join(phrases[:3])}.", "confidence": 0.75}


@dataclass(frozen=True, slots=True)
class Chat:
    """What a request asks.

    Attributes
    ----------
    prompt, system : str
    evidence : dict
        As it was quoted.
    """

    prompt: str
    system: str
    evidence: dict[str, Any]

    @property
    def kind(self) -> str:
        """``probe``, ``label``, ``reconsider`` or ``distinguish``."""
        if PROBE in self.prompt:
            return "probe"
        if "groups" in self.evidence:
            return "distinguish"
        return "reconsider" if "was not accepted" in self.prompt else "label"


def chat_of(request: Request) -> Chat:
    """The parts of a request of either protocol."""
    messages = request.values["messages"]
    prompt = messages[-1]["content"]
    system = request.values.get("system") or "".join(one["content"] for one in messages if one["role"] == "system")
    found = EVIDENCE.search(prompt)
    assert found is not None, "every prompt quotes evidence"
    return Chat(prompt=prompt, system=system, evidence=json.loads(found[2]))


class ChatServer(EmbeddingServer):
    """The service; see :class:`tests.embedders.embedding_server.EmbeddingServer`.

    Attributes
    ----------
    naming : callable
        From a group of the evidence, and the prompt, to the answer about it.
    answered : Counter
        How often each prompt was answered and billed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.naming: Naming = by_keyphrases
        self.answered: Counter[str] = Counter()

    def asked(self, *kinds: str) -> list[str]:
        """Prompts that were answered, of these kinds."""
        return [text for text in self.answered.elements() if kind_of(text) in kinds]

    def forget(self) -> None:
        """Count from zero."""
        self.answered.clear()
        self.requests.clear()

    def _answer(self, request: Request) -> Said | dict[str, Any]:
        given = request.headers.get("authorization", "").removeprefix("Bearer ") or request.headers.get("x-api-key")
        if self.key is not None and given != self.key:
            return error(401, f"Incorrect API key provided: {given}.")
        if request.path not in ("/v1/chat/completions", "/v1/messages"):
            return error(404, "Not Found")
        if request.path == "/v1/messages" and request.headers.get("anthropic-version") is None:
            return error(400, "anthropic-version: header is required")
        if request.values["model"] == "unknown":
            return error(404, "The model `unknown` does not exist")
        chat = chat_of(request)
        if chat.kind == "distinguish":
            values: dict[str, Any] = {
                "groups": [
                    {"number": one["number"], **self.naming(one, chat.prompt)} for one in chat.evidence["groups"]
                ]
            }
        else:
            values = self.naming(chat.evidence, chat.prompt)
        request.good = says(request, json.dumps(values, ensure_ascii=False))
        said = None if self.rule is None else self.rule(request)
        if said is None or (isinstance(said, dict) and "stalled" not in said):
            with self._lock:
                self.answered[chat.prompt] += 1
        return request.good if said is None else said


def says(request: Request, text: str, *, finish: str | None = None) -> dict[str, Any]:
    """The answer with this text, in the protocol of the request."""
    sent = len(json.dumps(request.values)) // 4
    if request.path == "/v1/messages":
        content: list[dict[str, Any]] = [{"type": "text", "text": text}]
        if "tools" in request.values and text.startswith("{"):
            content = [{"type": "tool_use", "id": "1", "name": "answer", "input": json.loads(text)}]
        usage = {"input_tokens": sent, "output_tokens": len(text) // 4}
        return {"type": "message", "content": content, "stop_reason": finish or "end_turn", "usage": usage}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish or "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": sent, "completion_tokens": len(text) // 4}}


def kind_of(prompt: str) -> str:
    """The kind of a prompt."""
    found = EVIDENCE.search(prompt)
    assert found is not None
    return Chat(prompt=prompt, system="", evidence=json.loads(found[2])).kind


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A model for a test."""
    server = ChatServer()
    try:
        yield server
    finally:
        server.close()


__all__ = ["KEY", "Chat", "ChatServer", "Request", "Said", "by_keyphrases", "chat_of", "chat_server", "error", "says"]
