"""Chromium, two kinds of server, and maps to open: everything on loopback."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, expect

from tests.browser.opened import LIMIT, REST, Opened
from tests.conftest import absent, load

expect.set_options(timeout=1000 * LIMIT)

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 1200, 800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    return load("viewer_synthetic", ROOT / "tests/viewer/synthetic.py")


@pytest.fixture(scope="session", autouse=True)
def built_page() -> None:
    """The page of the source as it is now."""
    hook = load("hatch_build_for_tests", ROOT / "hatch_build.py")
    if not hook.is_current(ROOT) and hook.node_command() is None:
        absent(f"the page is not built and there is no Node {hook.LEAST_NODE} or later")
    hook.build(ROOT)


class WholeFiles(http.server.SimpleHTTPRequestHandler):
    """``python -m http.server``: every answer is a whole file, whatever range was asked for."""

    def log_message(self, *_: Any) -> None:
        pass


class Ranges(WholeFiles):
    """A server that answers single byte ranges."""

    def do_GET(self) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not match or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()[int(match[1]) : int(match[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {match[1]}-{match[2]}/{path.stat().st_size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(http.server.ThreadingHTTPServer):
    # Where more than the usual five wait for a thread that is off the processor, the next is asked to try again later.
    request_queue_size = 128


@contextlib.contextmanager
def serve(folder: Path, handler: type[WholeFiles]) -> Iterator[str]:
    server = Server(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass(kw_only=True)
class Site:
    """A workspace below a sub-path of a server."""

    origin: str
    folder: Path
    data: Any

    def url(self, rest: str = "") -> str:
        return f"{self.origin}/some/path/{self.folder.name}/viewer/index.html{rest}"


@pytest.fixture(scope="session")
def make_site(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    with contextlib.ExitStack() as stack:

        @functools.cache
        def make(n: int, handler: type[WholeFiles] = WholeFiles, **options: Any) -> Site:
            top = tmp_path_factory.mktemp("served")
            data = synthetic.make_data(n, **options)
            folder = synthetic.write_workspace(data, top / "some/path/work space")
            return Site(origin=stack.enter_context(serve(top, handler)), folder=folder, data=data)

        yield make


@pytest.fixture(scope="session")
def make_grown(synthetic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Serve a map of several generations; ``data`` is what ``synthetic.write_grown`` returns."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def make(kind: str, **options: Any) -> Site:
            top = tmp_path_factory.mktemp("served")
            folder = top / "some/path/grown map"
            handler = {"whole-files": WholeFiles, "ranges": Ranges}[kind]
            data = synthetic.write_grown(folder, **options)
            return Site(origin=stack.enter_context(serve(top, handler)), folder=folder, data=data)

        yield make


@pytest.fixture(scope="session")
def serve_folder() -> Iterator[Callable[[Path], str]]:
    """Serve a folder until the end of the session; gives its address."""
    with contextlib.ExitStack() as stack:
        yield lambda folder: stack.enter_context(serve(folder, WholeFiles))


@pytest.fixture(scope="session")
def site(make_site: Callable[..., Site]) -> Site:
    """20,000 documents from a server without ranges."""
    return make_site(20_000)


@pytest.fixture(scope="session", params=[WholeFiles, Ranges], ids=["whole-files", "ranges"])
def either(request: pytest.FixtureRequest, site: Site, make_site: Callable[..., Site]) -> Site:
    """The same from both kinds of server."""
    return site if request.param is WholeFiles else make_site(20_000, request.param)


def is_problem(message: ConsoleMessage) -> bool:
    """Whether a line of the console is one that no page may write: not that reading pixels back is slow."""
    return message.type in {"error", "warning"} and "GPU stall due to ReadPixels" not in message.text


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Opened]]:
    """Open pages; after the test, none may have logged an error or asked another site."""
    with contextlib.ExitStack() as stack:
        pages: list[tuple[Opened, bool]] = []

        def make(*, scheme: str = "dark", errors: bool = False, **options: Any) -> Opened:
            context = browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme, reduced_motion="reduce", **options
            )
            stack.callback(context.close)
            context.add_init_script(path=REST)
            context.set_default_timeout(1000 * LIMIT)
            page = context.new_page()
            it = Opened(page=page)
            page.on("request", it.asked)
            page.on("requestfinished", it.answered)
            page.on("requestfailed", it.answered)
            page.on("pageerror", lambda error: it.problems.append(f"error: {error}"))
            page.on("console", lambda m: it.problems.append(m.text) if is_problem(m) else None)
            page.on("dialog", lambda dialog: (it.problems.append("dialog"), dialog.dismiss()))
            pages.append((it, errors))
            return it

        yield make
        for it, errors in pages:
            assert errors or it.problems == []
            foreign = [u for u in it.requests if not re.match(r"(http://127\.0\.0\.1:\d+/|data:|blob:|file:)", u)]
            assert foreign == []
