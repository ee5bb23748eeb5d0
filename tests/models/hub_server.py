"""A server on loopback that speaks as much of the hub's protocol as its client needs to list and fetch a model."""

from __future__ import annotations

import hashlib
import json
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEXT = "89abcdef0123456789abcdef0123456789abcdef"


@dataclass
class HubServer:
    """What it serves, and what it was asked for.

    Attributes
    ----------
    models : dict
        Files of each commit of each model: ``{"org/name": {commit: {file: bytes}}}``.
    refs : dict
        Commit of each branch or tag of each model.
    refusals : dict
        Status and error code with which a model is refused: ``{"org/name": (403, "GatedRepo")}``.
    asked : Counter
        GET requests by path.
    """

    models: dict[str, dict[str, Mapping[str, bytes]]] = field(default_factory=dict)
    refs: dict[str, dict[str, str]] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    endpoint: str = ""

    def add(self, name: str, files: Mapping[str, bytes], *, commit: str = COMMIT, branch: str = "main") -> None:
        self.models.setdefault(name, {})[commit] = files
        self.refs.setdefault(name, {})[branch] = commit

    def fetched(self, name: str) -> dict[str, int]:
        """How often each file of a model was sent."""
        return {path.split("/", 5)[-1]: n for path, n in self.asked.items() if path.startswith(f"/{name}/resolve/")}


@contextmanager
def hub_server() -> Iterator[HubServer]:
    served = HubServer()
    lock = Lock()

    connections: set[socket.socket] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self):
            super().setup()
            with lock:
                connections.add(self.connection)

        def finish(self):
            with lock:
                connections.discard(self.connection)
            super().finish()

        def log_message(self, format, *args):
            pass

        def do_HEAD(self):
            self._answer()

        def do_GET(self):
            with lock:
                served.asked[unquote(urlsplit(self.path).path)] += 1
            self._answer()

        def _answer(self):
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            parts = parts[2:] if api else parts
            name = "/".join(parts[:2])
            if name in served.refusals:
                return self._send(served.refusals[name][0], b"", {"X-Error-Code": served.refusals[name][1]})
            if name not in served.models:
                # As the hub answers someone who has not signed in.
                return self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            revision = parts[3] if len(parts) > 3 else "main"
            commit = served.refs[name].get(revision, revision)
            files = served.models[name].get(commit)
            if files is None:
                return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            if not api:
                content = files.get("/".join(parts[4:]))
                if content is None:
                    return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
                tag = hashlib.sha1(content).hexdigest()
                return self._send(200, content, {"ETag": f'"{tag}"', "X-Repo-Commit": commit})
            if parts[2:3] == ["tree"]:
                listing = [
                    {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}
                    for path, content in files.items()
                ]
                return self._send(200, json.dumps(listing).encode())
            siblings = [{"rfilename": path} for path in files]
            return self._send(200, json.dumps({"id": name, "sha": commit, "siblings": siblings, "tags": []}).encode())

        def _send(self, status, content, headers=None):
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        # The client opens eight connections at once: one that finds no room in the queue waits for a second or more.
        request_queue_size = 64

        def handle_error(self, request, client_address):
            """A client that is gone is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        # The hub's client keeps its connections for all tests of a process. One of this server, if it stayed open,
        # would be taken for that of the next server that gets the same port, and answer with the models of this one.
        with lock:
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
