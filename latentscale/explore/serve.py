"""Serve a workspace's static page on this machine, with Range requests, on loopback only."""

from __future__ import annotations

import gzip
import io
import os
import re
import threading
import webbrowser
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, cast

from latentscale.errors import EnvironmentFailure, RequestError, WorkspaceError
from latentscale.explore.page_selection import ADDRESS, HEADER, MOST_BYTES, PageSelection
from latentscale.file_names import argument
from latentscale.stages.publish.preview import NAME as PREVIEW
from latentscale.storage.objects import Store

LOOPBACK = "127.0.0.1"
# The standard library looks twice a second whether it is to end, and the cell of a notebook that ends it waits.
POLL_SECONDS = 0.05
HOSTS = ("localhost", LOOPBACK, "[::1]")
_RANGE = re.compile(r"^bytes=(\d*)-(\d*)$")
# Worth compressing from so many bytes on.
_TEXTS, _WORTH = (".css", ".html", ".js", ".json"), 1_000
# What a page needs; the documents and vectors of the workspace are not served.
_PUBLIC = ("viewer", "maps", PREVIEW)
_PAGE, _MANIFEST = "viewer/index.html", "viewer/manifest.json"


class _Handler(SimpleHTTPRequestHandler):
    """The standard library's handler, with single byte ranges and without listings."""

    protocol_version = "HTTP/1.1"
    extensions_map = {  # noqa: RUF012 - the base class declares it so
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".parquet": "application/vnd.apache.parquet",
    }

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_POST(self) -> None:
        """Receive the selection of the page, if enabled; no other request has an effect."""
        # An unread body would be parsed as the next request.
        self.close_connection = True
        selection = cast("PageServer", self.server).selection
        length = self.headers.get("Content-Length", "")
        origin = f"http://{self.headers.get('Host', '').strip().lower()}"
        if not self._is_for_this_machine() or self.headers.get("Origin", "").lower() != origin:
            status = HTTPStatus.FORBIDDEN
        elif selection is None or self.path != ADDRESS:
            status = HTTPStatus.NOT_FOUND
        elif not selection.knows(self.headers.get(HEADER, "")):
            status = HTTPStatus.FORBIDDEN
        elif not length.isdecimal() or "Transfer-Encoding" in self.headers:
            status = HTTPStatus.LENGTH_REQUIRED
        elif int(length) > MOST_BYTES:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        else:
            is_json = self.headers.get_content_type() == "application/json"
            is_valid = is_json and selection.receive(self.rfile.read(int(length)))
            status = HTTPStatus.NO_CONTENT if is_valid else HTTPStatus.BAD_REQUEST
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def _serve(self, *, body: bool) -> None:
        if not self._is_for_this_machine():
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        if self.path.split("?")[0] in ("", "/"):
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", cast("PageServer", self.server).first_page)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = Path(self.translate_path(self.path))
        root = Path(self.directory).resolve()
        if path.is_dir():
            path /= "index.html"
        resolved = path.resolve()
        inside = resolved.is_relative_to(root) and resolved.relative_to(root).parts[:1] in {(p,) for p in _PUBLIC}
        if not inside or not resolved.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            file = resolved.open("rb")
        except OSError:  # It went after it was looked for.
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        # What is sent is of the file that was measured: an update may give its name to another meanwhile.
        with file:
            self._send(resolved, file, body=body)

    def _send(self, path: Path, file: BinaryIO, *, body: bool) -> None:
        size = os.fstat(file.fileno()).st_size
        # As servers on the web do: this one is behind a tunnel, too. Parquet is compressed already.
        packed = path.suffix in _TEXTS and size >= _WORTH and "Range" not in self.headers and self._takes_gzip()
        if packed:
            content = gzip.compress(file.read(), 6, mtime=0)
            file, size = io.BytesIO(content), len(content)
        first, last, status = 0, size - 1, HTTPStatus.OK
        match = _RANGE.match(self.headers.get("Range", ""))
        if match and any(match.groups()):
            status = HTTPStatus.PARTIAL_CONTENT
            if match[1]:
                first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
            else:
                first = max(0, size - int(match[2]))
            if first > last:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(status)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        if path.suffix in _TEXTS:
            self.send_header("Vary", "Accept-Encoding")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        # Only hashed assets never change; the rest is asked for again, so that a new map shows.
        lasting = "/assets/" in self.path
        self.send_header("Cache-Control", "public, max-age=31536000, immutable" if lasting else "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if body:
            file.seek(first)
            left = last - first + 1
            while left > 0 and (chunk := file.read(min(left, 1 << 16))):
                self.wfile.write(chunk)
                left -= len(chunk)

    def _takes_gzip(self) -> bool:
        for part in self.headers.get("Accept-Encoding", "").split(","):
            name, _, weight = part.replace(" ", "").lower().partition(";q=")
            if name == "gzip":
                return weight.strip("0.") != "" or weight == ""
        return False

    def _is_for_this_machine(self) -> bool:
        """Whether the request names this machine.

        Another site's name may be made to lead here (DNS rebinding): its page would then read the map as its own.
        """
        host = self.headers.get("Host", "").strip().lower()
        port = f":{cast(tuple[str, int], self.server.server_address)[1]}"
        return host.removesuffix(port) in HOSTS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a map requests hundreds of small files."""


class PageServer(ThreadingHTTPServer):
    """A server of one workspace's page, bound to loopback.

    Parameters
    ----------
    store : Store
        On a local disk.
    port : int
        0 for any that is free.
    selection : PageSelection, optional
        Takes what the page says is selected, and its address tells the page to say so.

    Raises
    ------
    RequestError
        If the workspace is in a bucket, which serves its page itself, or there is no such port.
    WorkspaceError
        If there is no page.
    """

    daemon_threads = True

    def __init__(self, store: Store, *, port: int, selection: PageSelection | None = None) -> None:
        self.selection = selection
        if not 0 <= port < 1 << 16:
            raise RequestError(f"there is no port {port}", hint="Choose one from 1 to 65535, or 0 for any free one.")
        if not store.is_local:
            raise RequestError(
                f"{store.url} is not on this disk",
                hint="Open viewer/index.html at the bucket's own address, or copy the workspace here.",
            )
        self._store = store
        if self.first_page == _PAGE and not store.exists(_MANIFEST):
            raise WorkspaceError(f"{store.url} has no page yet", hint=f"latentscale publish {argument(store.url)}")
        try:
            super().__init__((LOOPBACK, port), partial(_Handler, directory=str(store.local_root)))
        except OSError as error:
            raise EnvironmentFailure(
                f"port {port} on {LOOPBACK} cannot be used: {error.strerror}", hint="Choose another with --port."
            ) from error

    def serve_forever(self, poll_interval: float = POLL_SECONDS) -> None:
        """Answer until ``shutdown``, which waits for up to ``poll_interval`` seconds."""
        super().serve_forever(poll_interval)

    @property
    def first_page(self) -> str:
        """The page of the current map, or the preview of the first one that is being made."""
        return PREVIEW if not self._store.exists(_MANIFEST) and self._store.exists(PREVIEW) else _PAGE

    @property
    def address(self) -> str:
        """URL of the page."""
        page = f"http://{LOOPBACK}:{self.server_address[1]}/{self.first_page}"
        return page if self.selection is None else f"{page}?tell={self.selection.token}"


def serve(store: Store, *, port: int, open_browser: bool) -> None:
    """Serve a workspace's page until interrupted."""
    with PageServer(store, port=port) as server:
        print(f"The map is at {server.address} (Ctrl-C ends it)", flush=True)
        if open_browser:
            threading.Timer(0.3, webbrowser.open, [server.address]).start()
        server.serve_forever()
