"""The public page: its manifest is written last, and it is small."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from latentscale.errors import ShapeError
from latentscale.viewer import static_files, write_page, write_tiles


def test_the_manifest_is_written_last_and_names_the_generation(synthetic: ModuleType, tmp_path: Path) -> None:
    disk = synthetic.Disk(tmp_path / "viewer")
    (tmp_path / "s").mkdir()
    entry = write_tiles(synthetic.make_data(200), synthetic.Disk(tmp_path / "g"), scratch=tmp_path / "s")
    write_page([{**entry, "url": "../maps/map-1/viewer/"}], disk, title="A map")
    assert disk.names[-1] == "manifest.json"
    assert disk.names[-2] == "index.html"
    manifest = json.loads((tmp_path / "viewer/manifest.json").read_bytes())
    assert manifest["title"] == "A map"
    assert manifest["generations"][0]["url"] == "../maps/map-1/viewer/"
    assert (tmp_path / "viewer/manifest.json").stat().st_size < 1500


def test_the_page_has_a_title_and_description_without_scripts(synthetic: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    entry = write_tiles(synthetic.make_data(1_200), synthetic.Disk(tmp_path / "g"), scratch=tmp_path / "s")
    write_page([{**entry, "url": "../maps/map-1/viewer/"}], synthetic.Disk(tmp_path), title='<b>"A" & B</b>')
    html = (tmp_path / "index.html").read_text()
    assert "<title>&lt;b&gt;&quot;A&quot; &amp; B&lt;/b&gt;</title>" in html
    assert '<meta property="og:title" content="&lt;b&gt;&quot;A&quot; &amp; B&lt;/b&gt;" />' in html
    assert '<meta name="description" content="Documents as a map, by what they are about." />' in html
    assert '<link rel="icon" href="data:image/svg+xml,' in html


@pytest.mark.parametrize("url", ["", "/maps/m/viewer/", "https://example.org/", "../maps/m/viewer"])
def test_a_generation_must_have_a_relative_folder(url: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="relative"):
        write_page([{"url": url}], lambda *_: None, title="t")


def test_the_page_requests_no_other_site_and_allows_no_inline_code() -> None:
    html = (static_files() / "index.html").read_text()
    assert "default-src 'none'" in html
    assert "unsafe" not in html
    assert "://" not in html
    assert "<style" not in html
    assert "style=" not in html


def test_the_page_and_its_code_are_within_300_kb_as_servers_send_them() -> None:
    import gzip

    sent = {p.name: len(gzip.compress(p.read_bytes())) for p in (static_files() / "assets").iterdir()}
    # The writer of parquet files comes with the first one that is saved.
    (writer,) = (name for name in sent if name.startswith("write-parquet"))
    assert sent.pop(writer) < 20_000
    assert sum(sent.values()) < 300_000
    # What the page names is there before the first picture; deck.gl comes after it, and panels when they are opened.
    html = (static_files() / "index.html").read_text()
    assert sum(size for name, size in sent.items() if name in html) < 100_000
    assert not any(name.startswith(("drawing", "pyramid-layer")) for name in sent if name in html)


def test_images_are_allowed_only_from_configured_origins(synthetic: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    entry = write_tiles(synthetic.make_data(200), synthetic.Disk(tmp_path / "g"), scratch=tmp_path / "s")
    entries = [{**entry, "url": "../maps/map-1/viewer/"}]
    plain, shown = tmp_path / "plain", tmp_path / "shown"
    write_page(entries, synthetic.Disk(plain), title="A map")
    images = {"column": "picture", "origins": ["https://a.example.org", "https://b.example.org:8443"]}
    write_page(entries, synthetic.Disk(shown), title="A map", images=images)
    assert "images" not in json.loads((plain / "manifest.json").read_bytes())
    assert json.loads((shown / "manifest.json").read_bytes())["images"] == images
    before, after = ((folder / "index.html").read_text() for folder in (plain, shown))
    named = "img-src 'self' data: blob: https://a.example.org https://b.example.org:8443;"
    assert after == before.replace("img-src 'self' data: blob:;", named) != before
