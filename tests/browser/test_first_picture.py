"""The first picture is drawn before deck.gl's script is requested, and equals what deck.gl draws."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from latentscale.viewer import static_files
from tests.browser.opened import Opened

Open = Callable[..., Opened]
DECK = re.compile(r"/assets/(drawing|pyramid-layer)\..*js")


def shot(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def inked(picture: np.ndarray) -> int:
    """Pixels of the map's own part that are not the dark ground."""
    return int((np.abs(picture[:760, 330:1130] - (14, 17, 23)).max(axis=2) > 30).sum())


def sent(url: str) -> int:
    """Bytes of a script or style, as servers that compress send it."""
    path = static_files() / "assets" / urlsplit(url).path.rpartition("/")[2]
    return len(gzip.compress(path.read_bytes()))


@pytest.mark.parametrize(
    ("scheme", "address"), [("dark", ""), ("light", ""), ("dark", "#i=1.0"), ("dark", "#c=@kind&a=0.5&z=1.5")]
)
def test_the_first_picture_equals_deck_with_less_than_half_of_the_scripts(
    site, opened: Open, scheme: str, address: str
) -> None:
    it = opened(scheme=scheme)
    held: list[Route] = []
    it.page.route(DECK, lambda route: held.append(route))
    page = it.goto(site.url(address), ready=False)
    it.until(lambda: sum(sent(route.request.url) for route in held) > 100_000, "deck.gl is asked for")
    asked = {url for url in it.requests if re.search(r"/assets/.*\.(js|css)$", url) and not DECK.search(url)}
    assert 40_000 < sum(map(sent, asked)) < 100_000
    expect(page.locator("#labels .label").first).to_be_visible()
    # Deeper tiles and colours may come after it.
    expect(page.locator(".badge")).to_have_text("All 20,000 documents drawn")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    before = shot(page)
    expect(page.locator(".badge .pulse")).to_have_count(1)
    for route in held:
        route.continue_()
    page.unroute(DECK)
    it.ready()
    expect(page.locator(".first-picture")).to_have_count(0)
    after = np.asarray(it.picture()).astype(int)
    part = np.abs(after - before)[:700, 400:1130].max(axis=2)
    ground = after[790, 700]
    points = np.abs(after - ground)[:700, 400:1130].max(axis=2) > 30
    assert points.sum() > 10_000
    assert part[points].mean() < 6, "the same colours at the same places"
    assert (part > 60).sum() < 0.02 * points.sum()


def test_without_the_script_that_draws_the_map_is_read_by_keys_and_the_script_asked_for_again(
    site, opened: Open
) -> None:
    it = opened(errors=True)
    it.page.route(DECK, lambda route: route.abort())
    page = it.goto(site.url())
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Moving and zooming:")
    first = np.asarray(it.picture()).astype(int)
    assert inked(first) > 10_000
    page.locator("#canvas").focus()
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary", name="Pinned document")).to_be_visible()
    assert (np.abs(np.asarray(it.picture()).astype(int) - first) > 30).sum() > 10_000, "another view is drawn"
    page.unroute(DECK)
    alert.get_by_role("button", name="Try again").click()
    expect(alert).to_have_count(0)
    expect(page.locator(".first-picture")).to_have_count(0)
    span = it.view()[2]
    page.mouse.move(600, 400)
    page.mouse.wheel(0, -400)
    assert it.view()[2] < 0.9 * span, "the wheel zooms"
