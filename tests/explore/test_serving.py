"""The server of a page while files of the workspace are replaced and dropped."""

from __future__ import annotations

import http.client
import selectors
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from latentscale.explore import serve
from latentscale.explore.page import ServedPage
from latentscale.explore.serve import PageServer
from latentscale.storage.objects import Store

OLD, NEW = b'{"title": "old"}', b'{"title": "a new one, and longer"}'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """The manifest of a page, and the port of its server."""
    manifest = tmp_path / "viewer/manifest.json"
    manifest.parent.mkdir()
    manifest.write_bytes(OLD)
    with PageServer(Store(str(tmp_path)), port=0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield manifest, server.server_address[1]
        server.shutdown()


def get(port: int) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/viewer/manifest.json")
    answer = connection.getresponse()
    return answer.status, answer.read()


def at_the_first_header(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> None:
    sent = serve._Handler.send_response

    def send_response(self: Any, *given: Any) -> None:
        happens()
        sent(self, *given)

    monkeypatch.setattr(serve._Handler, "send_response", send_response)


@pytest.mark.parametrize(("before", "after"), [(OLD, NEW), (NEW, OLD)], ids=["longer", "shorter"])
def test_a_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was(
    served: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes
) -> None:
    manifest, port = served
    manifest.write_bytes(before)

    def replace() -> None:
        beside = manifest.with_name("new")
        beside.write_bytes(after)
        beside.replace(manifest)

    at_the_first_header(monkeypatch, replace)
    assert get(port) == (200, before)


def test_a_file_deleted_during_a_lookup_is_missing(served: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, port = served
    is_file = Path.is_file

    def looked_for(path: Path) -> bool:
        found = is_file(path)
        if path == manifest.resolve():
            manifest.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", looked_for)
    assert get(port)[0] == 404


def test_a_server_looks_often_whether_it_is_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "viewer").mkdir()
    (tmp_path / "viewer/manifest.json").write_bytes(OLD)
    waited: list[float] = []

    class Selector(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> Any:
            waited.append(60.0 if timeout is None else timeout)
            return super().select(timeout)

    monkeypatch.setattr("socketserver._ServerSelector", Selector)
    page = ServedPage(Store(str(tmp_path)), None)
    get(int(page.address.split(":")[2].split("/")[0]))
    page.close()
    assert 0 < max(waited) <= 0.1
