"""An embedding service on this machine: it speaks three protocols, counts what is paid, and misbehaves on demand."""

from __future__ import annotations

import base64
import json
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

KEY = "sk-test-0123456789abcdef"
WIDTH = 24


def vector_of(text: str, width: int = WIDTH) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A vector that texts with the same words share, not of length 1."""
    vector = np.zeros(width, np.float32)
    for word in text.lower().split():
        vector[zlib.crc32(word.encode()) % width] += 2
    return vector


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer that is not a good one.

    Attributes
    ----------
    status : int
    body : bytes
    headers : dict
    drop : bool
        Close the connection instead.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    drop: bool = False


def error(status: int, message: str = "no", *, code: str = "", **headers: str) -> Said:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return Said(status=status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


DROPPED = Said(drop=True)
Rule = Callable[["Request"], "Said | dict[str, Any] | None"]


@dataclass(slots=True, kw_only=True)
class Request:
    """One request.

    Attributes
    ----------
    path : str
    headers : dict
    values : dict
        Its JSON.
    number : int
        From 0.
    good : dict
        The answer that it would get.
    """

    path: str
    headers: dict[str, str]
    values: dict[str, Any]
    number: int
    good: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def texts(self) -> list[str]:
        return self.values["texts"] if "texts" in self.values else self.values["input"]


class EmbeddingServer:
    """The service.

    Attributes
    ----------
    rule : callable or None
        Called with each request: what it says instead of the good answer.
    requests : list of Request
    paid : Counter
        How often each text was embedded and billed.
    width : int
    base64 : bool
        Whether it honours ``encoding_format``.
    """

    def __init__(self) -> None:
        self.rule: Rule | None = None
        self.requests: list[Request] = []
        self.paid: Counter[str] = Counter()
        self.width = WIDTH
        self.base64 = True
        self.key: str | None = KEY
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                server.serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that was killed is no news."""

        self._http = Server(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.url = f"{self.base}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers["Content-Length"]))
        with self._lock:
            headers = {name.lower(): value for name, value in handler.headers.items()}
            request = Request(path=handler.path, headers=headers, values=json.loads(data), number=len(self.requests))
            self.requests.append(request)
        said = self._answer(request)
        if isinstance(said, dict):
            said = Said(body=json.dumps(said).encode())
        if said.drop:
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
            return
        handler.send_response(said.status)
        for name, value in {"Content-Type": "application/json", **said.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(said.body)))
        handler.end_headers()
        handler.wfile.write(said.body)

    def _answer(self, request: Request) -> Said | dict[str, Any]:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return error(401, f"Incorrect API key provided: {request.headers.get('authorization', '')}.")
        if request.path not in ("/v1/embeddings", "/v2/embed"):
            return error(404, "Not Found")
        if request.values["model"] == "unknown":
            return error(404, "The model `unknown` does not exist")
        request.good = self._good(request)
        said = None if self.rule is None else self.rule(request)
        if said is None:
            with self._lock:
                self.paid.update(request.texts)
            return request.good
        return said

    def _good(self, request: Request) -> dict[str, Any]:
        values = request.values
        width = values.get("dimensions") or values.get("output_dimension") or self.width
        vectors = [vector_of(text, width) for text in request.texts]
        tokens = sum(len(text.split()) for text in request.texts)
        if request.path == "/v2/embed":
            return {
                "id": "1",
                "embeddings": {"float": [vector.tolist() for vector in vectors]},
                "meta": {"billed_units": {"input_tokens": tokens}},
            }
        as_base64 = self.base64 and values.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if as_base64
                else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        return {"object": "list", "data": data, "model": values["model"], "usage": {"total_tokens": tokens}}

    def first(self, *said: Said | dict[str, Any] | None) -> None:
        """Say this to the next requests, in turn, and behave afterwards."""
        start, lock, left = len(self.requests), threading.Lock(), list(said)

        def rule(request: Request) -> Said | dict[str, Any] | None:
            with lock:
                return left.pop(0) if request.number >= start and left else None

        self.rule = rule


@contextmanager
def embedding_server() -> Iterator[EmbeddingServer]:
    """A service for a test."""
    server = EmbeddingServer()
    try:
        yield server
    finally:
        server.close()
