"""A proxy before an S3 server that throttles, delays, resets and truncates, at a rate or for a time.

What happens to a request follows from the seed, the request itself and how often it came before, not from the order in
which threads send: ``random.Random(f"{seed}|{method}|{target}|{times}")``.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO
from urllib.parse import urlsplit

FAULTS = (
    "unavailable",  # 503 ServiceUnavailable
    "slow-down",  # 503 SlowDown
    "too-many",  # 429 without a body
    "internal",  # 500 InternalError
    "refused",  # the connection is reset before the server sees the request
    "lost",  # the server does what is asked, and the connection is reset before the answer
    "reset",  # the connection is reset in the middle of the answer
    "truncated",  # the connection ends in the middle of the answer
    "short",  # half an answer that says that it is all
)
_CODES = {
    "unavailable": (503, "ServiceUnavailable", "Please try again."),
    "slow-down": (503, "SlowDown", "Please reduce your request rate."),
    "internal": (500, "InternalError", "We encountered an internal error."),
}


# With these, the server sees nothing of the request.
_UNSEEN = (*_CODES, "too-many", "refused")


@dataclass
class Request:
    """A request as it came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header; empty where it was not sent."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass
class FaultyProxy:
    """Settings may be changed while it runs.

    Attributes
    ----------
    upstream : str
        Address of the server.
    tls : ssl.SSLContext, optional
        Speak HTTPS with it.
    rate : float
        Share of requests that fail.
    faults : sequence of str
        What may happen to one of them, drawn evenly.
    latency : float
        Seconds before each request is passed on.
    only : sequence of str
        Methods that fail; empty for all.
    read_only : bool
        Writes are refused for good.
    planned : list of (str, str)
        Regular expressions and faults: the first request that one matches (as "METHOD target") meets that fault.
    answers : list of (int, str, str)
        Status, code and message with which the next requests are refused, one after another.
    seen : list of Request
        What has come, in order, without the bodies.
    most_at_once : int
        The most concurrent requests. One ends before its answer is sent: who has the answer may send the next.
    together : int
        Requests wait until so many have been there at once, for a minute at most.
    at : list of (str, callable)
        Regular expressions and what is done, once, when a request has come that one matches, before it is answered.
    """

    upstream: str
    seed: int = 0
    tls: ssl.SSLContext | None = None
    rate: float = 0.0
    faults: Sequence[str] = ("slow-down",)
    latency: float = 0.0
    only: Sequence[str] = ()
    read_only: bool = False
    planned: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[int, str, str]] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)
    requests: list[str] = field(default_factory=list)
    seen: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    together: int = 0
    at: list[tuple[str, Callable[[], None]]] = field(default_factory=list)
    _at_once: int = 0
    _down_until: float = 0.0
    _silent: bool = False
    _times: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _met: threading.Condition = field(default_factory=threading.Condition)

    def start(self) -> None:
        parts = urlsplit(self.upstream)
        assert parts.hostname is not None
        self._server = (parts.hostname, parts.port or 80)
        self._socket = _new_port()
        self.endpoint = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # Closing alone does not wake a thread that waits for a connection.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def outage(self, seconds: float, *, silent: bool = False) -> None:
        """From now on every connection is reset, or never answered, for some seconds."""
        self._silent = silent
        self._down_until = time.monotonic() + seconds

    def recover(self) -> None:
        """End an outage and all faults."""
        self._down_until, self.rate, self.latency = 0.0, 0.0, 0.0
        self.answers.clear()
        self.planned.clear()

    @property
    def is_down(self) -> bool:
        return time.monotonic() < self._down_until

    # ------------------------------------------------------------------------------------------------- connections

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException), self._secured(client) as client:
            stream = client.makefile("rb")
            while (request := self._read(stream, client)) is not None:
                if not self._answer(client, request):
                    return

    def _secured(self, client: socket.socket) -> socket.socket:
        return client if self.tls is None else self.tls.wrap_socket(client, server_side=True)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a request as one that is under way."""
        with self._met:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._met.notify_all()
            self._met.wait_for(lambda: self.most_at_once >= self.together, timeout=60)
        try:
            yield
        finally:
            with self._met:
                self._at_once -= 1

    def _read(self, stream: BinaryIO, client: socket.socket) -> Request | None:
        first = stream.readline().decode("latin-1").split()
        if len(first) != 3:
            return None
        headers: list[tuple[str, str]] = []
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers.append((name.strip(), value.strip()))
        named = {name.lower(): value for name, value in headers}
        assert "transfer-encoding" not in named, "clients of these tests send a Content-Length"
        if named.get("expect", "").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return Request(first[0], first[1], headers, stream.read(int(named.get("content-length", 0))))

    def _arrived(self, request: Request) -> None:
        """Do what was to be done when such a request comes."""
        with self._lock:
            due = [one for one in self.at if re.search(one[0], f"{request.method} {request.target}")]
            self.at = [one for one in self.at if one not in due]
        for _, do in due:
            do()

    def _draw(self, request: Request) -> str | None:
        # The server draws the ids of uploads, so that they are no part of it.
        identity = re.sub("uploadId=[^&]+", "uploadId", f"{request.method}|{request.target}")
        with self._lock:
            self.requests.append(f"{request.method} {request.target}")
            self.seen.append(replace(request, body=b""))
            self._times[identity] += 1
            for plan in self.planned:
                if re.search(plan[0], f"{request.method} {request.target}"):
                    self.planned.remove(plan)
                    self.happened[plan[1]] += 1
                    return plan[1]
            drawn = random.Random(f"{self.seed}|{identity}|{self._times[identity]}")
            chosen = drawn.choice(list(self.faults))
            if drawn.random() >= self.rate or (self.only and request.method not in self.only):
                return None
            self.happened[chosen] += 1
            return chosen

    def _answer(self, client: socket.socket, request: Request) -> bool:
        """Answer one request; False ends the connection."""
        self._arrived(request)
        if self.is_down:
            with self._lock:
                self.happened["outage"] += 1
            while self._silent and self.is_down:
                time.sleep(0.05)
            _reset(client)
            return False
        if self.read_only and request.method in ("PUT", "POST", "DELETE"):
            _refuse(client, request, 403, "AccessDenied", "Access Denied.")
            return True
        with self._lock:
            refusal = self.answers.pop(0) if self.answers else None
        if refusal is not None:
            _refuse(client, request, *refusal)
            return True
        head, body = b"", b""
        with self._counted():
            fault = self._draw(request)
            time.sleep(self.latency)
            if fault not in _UNSEEN:
                head, body = self._forward(request)
        if fault in _CODES:
            _refuse(client, request, *_CODES[fault])
            return True
        if fault == "too-many":
            client.sendall(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
            return True
        if fault == "refused":
            _reset(client)
            return False
        if fault == "lost":
            _reset(client)
            return False
        if fault == "short" and len(body) > 1:
            half = body[: len(body) // 2]
            kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
            client.sendall(b"\r\n".join([*kept, b"Content-Length: %d" % len(half)]) + b"\r\n\r\n" + half)
            return True
        if fault in ("reset", "truncated", "short"):
            whole = head + b"\r\n\r\n" + body
            client.sendall(whole[: len(head) // 2 if len(body) < 2 else len(whole) - len(body) // 2])
            if fault == "reset":
                time.sleep(0.02)
                _reset(client)
            return False
        if fault == "flip" and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        client.sendall(head + b"\r\n\r\n" + body)
        return True

    def _forward(self, request: Request) -> tuple[bytes, bytes]:
        connection = http.client.HTTPConnection(*self._server, timeout=60)
        with contextlib.closing(connection):
            # A client that takes this for its HTTP proxy sends the whole address.
            target = re.sub("^http://[^/]+", "", request.target)
            connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(request.body or None)
            answer = connection.getresponse()
            body = answer.read()
            lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "keep-alive"):
                    lines.append(f"{name}: {value}")
            length = answer.getheader("Content-Length") if request.method == "HEAD" else str(len(body))
            if answer.status != 204:
                lines.append(f"Content-Length: {length or 0}")
            return "\r\n".join(lines).encode("latin-1"), body


def _refuse(client: socket.socket, request: Request, status: int, code: str, message: str) -> None:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + (b"" if request.method == "HEAD" else body))


def _reset(client: socket.socket) -> None:
    """End a connection without the polite end: what the peer still expects becomes an error there."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


_used_ports: set[int] = set()


def _new_port() -> socket.socket:
    """A socket at a port that no proxy of this process has had: stores keep their connections by address.

    One that an earlier test left would go on with the earlier proxy, and would not be at its first contact.
    """
    with contextlib.ExitStack() as others:
        while True:
            made = socket.create_server(("127.0.0.1", 0), backlog=256)
            port = made.getsockname()[1]
            if port not in _used_ports:
                _used_ports.add(port)
                return made
            others.enter_context(made)


@contextlib.contextmanager
def faulty_proxy(upstream: str, *, seed: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[FaultyProxy]:
    """Run a proxy before ``upstream`` until the block ends; at first it lets everything pass."""
    proxy = FaultyProxy(upstream=upstream, seed=seed, tls=tls)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
