"""The link preview image of a page."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

import latentscale
from latentscale.stages.publish import write_public_page
from latentscale.stages.publish.link_picture import MAX_BYTES, draw_link_picture, link_picture_address
from latentscale.storage.artifacts import Record
from latentscale.storage.objects import Store

URL = "https://example.org/maps/viewer/"


@pytest.fixture(scope="module")
def workspace_folder(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    folder = tmp_path_factory.mktemp("links")
    demo.head(400).write_parquet(folder / "a.parquet")
    out = folder / "made"
    settings = {"title": 'A "map" & more', "url": URL}
    latentscale.run(
        folder / "a.parquet", out=out, text="text", progress="quiet", publish=settings, project={"n_epochs": 50}
    )
    return out


@pytest.fixture
def record(workspace_folder: Path) -> Record:
    return latentscale.open(workspace_folder).the_map().record


def meta_properties(page: str) -> dict[str, str]:
    return dict(re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)"', page))


def test_the_page_names_the_link_picture_by_its_absolute_address(workspace_folder: Path) -> None:
    said = meta_properties((workspace_folder / "viewer/index.html").read_text())
    path = workspace_folder / "viewer/link.png"
    assert re.fullmatch(re.escape(URL) + r"link\.png\?[0-9a-f]{10}", said["og:image"])
    assert said["og:url"] == URL
    assert said["og:title"] == "A &quot;map&quot; &amp; more"
    assert said["twitter:card"] == "summary_large_image"
    picture = Image.open(path)
    assert picture.size == (1200, 630) == (int(said["og:image:width"]), int(said["og:image:height"]))
    assert path.stat().st_size < MAX_BYTES
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    coloured = np.ptp(pixels, axis=2) > 60
    assert coloured[:, 500:].sum() > 300, "points in the colours of clusters"
    bright = pixels.min(axis=2) > 200
    assert bright[:, 60:500].sum() > 1_000, "the title"
    assert coloured[:, :60].sum() == 0


def test_the_picture_depends_on_map_and_title(workspace_folder: Path, record: Record) -> None:
    title = 'A "map" & more'
    assert draw_link_picture(record, title) == (workspace_folder / "viewer/link.png").read_bytes()
    named = meta_properties((workspace_folder / "viewer/index.html").read_text())["og:image"]
    assert named == f"{URL}{link_picture_address(record, title)}"
    assert named != f"{URL}{link_picture_address(record, 'Another')}"


def test_the_picture_is_redrawn_only_if_its_content_changes(record: Record, tmp_path: Path) -> None:
    store, path = Store(str(tmp_path)), tmp_path / "one/link.png"
    write_public_page(store, record, folder="one")
    drawn = path.read_bytes()
    path.write_bytes(b"another")
    write_public_page(store, record, folder="one")
    assert path.read_bytes() == b"another"
    write_public_page(store, record, folder="one", again=True)
    assert path.read_bytes() == drawn
    manifest = tmp_path / "one/manifest.json"
    manifest.write_text(manifest.read_text().replace("link.png?", "link.png?0"))
    path.write_bytes(b"of another map")
    write_public_page(store, record, folder="one")
    assert path.read_bytes() == drawn


def test_without_an_address_the_picture_is_relative_to_the_page(record: Record, tmp_path: Path) -> None:
    write_public_page(Store(str(tmp_path)), record, folder="one")
    said = meta_properties((tmp_path / "one/index.html").read_text())
    assert re.fullmatch(r"\./link\.png\?[0-9a-f]{10}", said["og:image"])
    assert "og:url" not in said
    assert (tmp_path / "one/link.png").is_file()
    # The manifest, which is written last, says it too: from it the page can be compared.
    assert json.loads((tmp_path / "one/manifest.json").read_bytes())["picture"] == said["og:image"]


@pytest.mark.parametrize(
    "title",
    [
        "",
        "a",
        "word " * 60,
        "w" * 300,
        "<b>&amp;</b>",
        "Документи",
        "地図 – a map",
        "\u202eright to left",
        "\U0001f5fa",
    ],
)
def test_every_title_gives_a_picture(record: Record, title: str) -> None:
    content = draw_link_picture(record, title)
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert picture.shape == (630, 1200, 3)
    assert len(content) < MAX_BYTES
    left = picture[:, :60]
    assert (left == left[0, 0]).all(), "nothing leaves the margin"


def test_a_title_with_characters_missing_in_the_font_is_omitted(record: Record) -> None:
    titles = ("地図", "日本語の文書")
    pictures = {hashlib.sha256(draw_link_picture(record, title)).hexdigest() for title in titles}
    assert len(pictures) == 1
    assert hashlib.sha256(draw_link_picture(record, "Map")).hexdigest() not in pictures


def test_a_single_file_page_has_no_link_picture(workspace_folder: Path, tmp_path: Path) -> None:
    latentscale.open(workspace_folder).the_map().export(tmp_path / "map.html", what="page")
    assert "link.png" not in (tmp_path / "map.html").read_text()
