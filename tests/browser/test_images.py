"""Columns of text that are more on the page: images, from named origins and the map's folder only, and dates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

import latentscale as ls
from tests.browser.opened import Opened

Open = Callable[..., Opened]
PAYLOADS = (
    "javascript:alert(1)",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "../../../secret.png",
    # A name of a file, and no more.
    "<img src=x onerror=alert(1)>",
)


class Served:
    def __init__(self, page: str, named: str, other: str, workspace: Path) -> None:
        self.page, self.named, self.other, self.workspace = page, named, other, workspace


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, serve_folder: Callable[[Path], str]) -> Served:
    top = tmp_path_factory.mktemp("images")
    for name, colour in (("named", "red"), ("other", "blue"), ("own", "green")):
        (top / name).mkdir()
        Image.new("RGB", (400, 300), colour).save(top / name / "a.png")
    named, other = serve_folder(top / "named"), serve_folder(top / "other")
    addresses = [f"{named}/a.png", "images/a.png", f"{other}/a.png", f"{named}/gone.png", None, *PAYLOADS]
    n = 60
    frame = pl.DataFrame(
        {
            "text": [f"a text of number {i} and of {'apples' if i % 2 else 'pears'}" for i in range(n)],
            "title": [f"Title {i}" for i in range(n)],
            "created": [f"2024-{1 + i % 12:02d}-03T10:00:00Z" for i in range(n)],
            "picture": [addresses[i] if i < len(addresses) else None for i in range(n)],
        }
    )
    publish = {"images": "picture", "image_origins": [named]}
    ls.run(frame, out=top / "site/map", text="text", publish=publish, progress="quiet")
    (top / "own").rename(top / "site/map/images")
    return Served(serve_folder(top / "site") + "/map/viewer/", named, other, top / "site/map")


def card(it: Opened, served: Served, row: int) -> Locator:
    it.goto("about:blank", ready=False)
    page = it.goto(f"{served.page}#p={row}")
    panel = page.get_by_role("complementary", name="Pinned document")
    expect(panel.locator("h2")).to_have_text(f"Title {row}")
    it.settled()
    return panel


def pixel(it: Opened) -> Any:
    box = it.box(".picture")
    return it.picture().getpixel((int(box["x"] + box["width"] / 2), int(box["y"] + box["height"] / 2)))


def test_images_of_named_origins_and_of_the_map_are_shown(served: Served, opened: Open) -> None:
    it = opened()
    for row, colour in ((0, (255, 0, 0)), (1, (0, 128, 0))):
        panel = card(it, served, row)
        image = panel.get_by_role("img", name=f"Image of Title {row}")
        expect(image).to_have_attribute("loading", "lazy")
        assert pixel(it) == colour
        assert it.box(".picture")["height"] == 220
    assert card(it, served, 4).locator(".picture").count() == 0
    policy = (served.workspace / "viewer/index.html").read_text()
    assert f"img-src 'self' data: blob: {served.named};" in policy
    assert ls.open(served.workspace).verify().faults == []


def test_text_that_is_all_dates_is_named_by_the_run_and_has_a_strip_of_time(served: Served, opened: Open) -> None:
    counts = ls.open(served.workspace).current.record.counts
    assert counts["page"]["text_dates"] == ["created"]
    assert str(counts["published"]).endswith("; of text, as dates: created")
    it = opened()
    page = it.goto(f"{served.page}#o=time&p=1")
    expect(page.locator(".time-strip")).to_contain_text("2024")
    expect(page.get_by_role("complementary", name="Pinned document")).to_contain_text("2024-02-03T10:00:00Z")


def test_other_values_load_and_run_nothing(served: Served, opened: Open) -> None:
    it = opened()
    other = card(it, served, 2)
    expect(other).to_contain_text(f"Images of {served.other.removeprefix('http://')} are not shown")
    said = ("This is not the address", "This is not the address", "outside the map's folder")
    for row, sentence in enumerate(said, 5):
        panel = card(it, served, row)
        expect(panel).to_contain_text(sentence)
        assert panel.locator("img").count() == 0
    assert not [url for url in it.requests if url.startswith(served.other) or "secret" in url]


def test_a_missing_image_is_reported_without_shifting_the_layout(served: Served, opened: Open) -> None:
    it = opened(errors=True)
    for row, origin in ((3, served.named), (8, served.page.removesuffix("/map/viewer/"))):
        panel = card(it, served, row)
        expect(panel.locator(".picture")).to_have_text(
            f"The image could not be loaded from {origin.removeprefix('http://')}."
        )
        assert it.box(".picture")["height"] == 220
        assert panel.locator("img").count() == 0
    assert [problem for problem in it.problems if "404" not in problem] == []
