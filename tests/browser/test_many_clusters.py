"""A map of so many clusters that their names weigh more than its first picture."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Route, expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]
DRAWS = re.compile(r"/assets/(drawing|pyramid-layer)\..*js")


@pytest.fixture(scope="module")
def many(make_site):
    return make_site(20_000, clusters=2_000)


def test_the_first_picture_has_its_colours_before_names_and_details_are_asked_for(many, opened: Open) -> None:
    it = opened()
    held: list[Route] = []
    it.page.route(re.compile(r"/(labels|clusters)\.json"), lambda route: held.append(route))
    page = it.goto(many.url(), ready=False)
    it.until(lambda: bool(held), "the names are asked for")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert [route.request.url.rpartition("/")[2] for route in held] == ["labels.json"]
    canvas = page.locator(".first-picture")
    hues = canvas.evaluate(
        """canvas => {
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          let coloured = 0;
          for (let i = 0; i < data.length; i += 4) {
            const rgb = data.slice(i, i + 3);
            coloured += Math.max(...rgb) - Math.min(...rgb) > 60;
          }
          return coloured;
        }"""
    )
    assert hues > 5_000
    before = [
        url for url in it.requests if not url.endswith(("/labels.json", "/clusters.json")) and not DRAWS.search(url)
    ]
    root = many.folder.parents[2]
    sent = sum(len(gzip.compress((root / unquote(urlsplit(url).path)[1:]).read_bytes())) for url in before)
    assert sent < 300_000
    for route in held:
        route.continue_()
    page.unroute(re.compile(r"/(labels|clusters)\.json"))
    it.ready()
    names = [url.rpartition("/")[2] for url in it.requests]
    assert names.index("hues.json") < names.index("labels.json") < names.index("clusters.json")
    assert next(i for i, name in enumerate(names) if name.startswith("drawing.")) < names.index("clusters.json")
    before_names = np.asarray(it.picture()).astype(int)
    expect(page.locator("#labels .label").first).to_be_visible()
    page.locator(".tree .row").first.click()
    expect(page.get_by_role("complementary", name="Chosen cluster")).to_contain_text("region")
    assert (np.abs(np.asarray(it.picture()).astype(int) - before_names) > 40).any()


def test_without_the_file_of_colours_they_come_with_the_names(many, opened: Open) -> None:
    it = opened(errors=True)
    it.page.route("**/hues.json", lambda route: route.fulfill(status=404, body=""))
    page = it.goto(many.url())
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("#labels .label").first).to_be_visible()
    expect(page.locator(".tree .row").first).to_be_visible()
