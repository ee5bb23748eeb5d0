"""A map's page as one HTML file: self-contained, without requests, with a documented size limit."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

import latentscale
from latentscale.errors import ConfigError, RequestError
from latentscale.explore import export as exports
from latentscale.viewer.page import single_page


@pytest.fixture(scope="module")
def exported_map(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> latentscale.Map:
    out = tmp_path_factory.mktemp("single") / "ws"
    settings = {"cluster": {"min_cluster_size": 15}, "publish": {"title": "A <b>map</b>"}}
    return latentscale.run(str(small_corpus), out=out, progress="quiet", **settings)


def parts(text: str) -> tuple[str, dict[str, bytes], str]:
    """The policy, the files and the script of a page."""
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    files = re.search(r'<script type="application/json" id="files">(.*?)</script>', text, re.DOTALL)
    script = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert policy
    assert files
    assert script
    return policy[1], {k: base64.b64decode(v) for k, v in json.loads(files[1]).items()}, script[1]


def test_a_single_file_page_contains_its_data_and_a_strict_policy(
    exported_map: latentscale.Map, tmp_path: Path
) -> None:
    written = exported_map.export(tmp_path / "map.html")
    folder = exported_map.export(tmp_path / "folder")
    policy, files, script = parts(written.read_text(encoding="utf-8"))
    top = folder.parents[1]
    beside = {p.relative_to(top).as_posix(): p.read_bytes() for p in top.rglob("*") if p.is_file()}
    expected = {k: v for k, v in beside.items() if not re.match(r"viewer/(assets/|index\.html|link\.png)", k)}
    assert files == expected
    assert "viewer/manifest.json" in files
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert "connect-src" not in policy
    assert policy.startswith("default-src 'none'")
    text = written.read_text(encoding="utf-8")
    assert "<title>A &lt;b&gt;map&lt;/b&gt;</title>" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text.replace(script, ""))
    assert {p.name for p in tmp_path.iterdir()} == {"map.html", "folder"}


def test_a_map_that_is_too_large_is_refused_before_anything_is_written(
    exported_map: latentscale.Map, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "SINGLE_PAGE_DOCUMENTS", 599)
    with pytest.raises(RequestError, match=r"600 documents, and a page in one file holds at most 599"):
        exported_map.export(tmp_path / "map.html", what="page")
    assert list(tmp_path.iterdir()) == []


def test_an_html_file_is_a_page_and_nothing_else(exported_map: latentscale.Map, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.html is not written"):
        exported_map.export(tmp_path / "points.html", what="points")


def test_no_embedded_file_can_end_its_script_element() -> None:
    page = b"".join(single_page("t", {"viewer/</script><b>": b"</script>"})).decode()
    _, files, _ = parts(page)
    assert files == {"viewer/</script><b>": b"</script>"}
