"""The density of all documents behind the sample of a large map that is drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import expect
from scipy.ndimage import binary_erosion

from tests.browser.opened import Opened

Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def large(make_site):
    return make_site(70_000, batch=8_192)


def bare(it: Opened) -> np.ndarray:
    """The map's own part of the picture without points and labels: those are hidden, and what lies behind is left."""
    it.page.evaluate("for (const id of ['canvas', 'labels']) document.getElementById(id).style.opacity = 0")
    return np.asarray(it.picture()).astype(int)[:760, 340:1130]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_raster_is_where_the_documents_are_and_is_reported(large, opened: Open, scheme: str) -> None:
    it = opened(scheme=scheme)
    page = it.goto(large.url("?budget=1000"))
    expect(page.locator(".badge")).to_contain_text("the shading behind them shows all")
    raster = page.locator("canvas.raster")
    expect(raster).to_be_visible()
    page.keyboard.press("+")
    x, y, span = it.view()
    picture = bare(it)
    # Most of the ring's picture is ground.
    shade = np.abs(picture - np.median(picture.reshape(-1, 3), axis=0)).max(axis=2)
    points = large.data.coordinates.astype(float)
    left = 600 + (points[:, 0] - x) * 800 / span - 340
    top = 400 - (points[:, 1] - y) * 800 / span
    seen = (left > 8) & (top > 8) & (left < 780) & (top < 750)
    assert shade[top[seen].astype(int), left[seen].astype(int)].mean() > 9, "where documents lie"
    far = np.ones(shade.shape, bool)
    for dx in range(-40, 41, 8):
        for dy in range(-40, 41, 8):
            columns, rows = np.clip(left + dx, 0, 789).astype(int), np.clip(top + dy, 0, 759).astype(int)
            far[rows, columns] = False
    far = binary_erosion(far, iterations=10)
    assert far.sum() > 5_000
    assert shade[far].mean() < 2, "and nowhere else"


def test_the_raster_is_hidden_close_up_during_highlights_and_on_small_maps(large, site, opened: Open) -> None:
    it = opened()
    page = it.goto(large.url("?budget=1000"))
    raster = page.locator("canvas.raster")
    expect(raster).to_be_visible()
    page.locator(".tree .row").first.click()
    expect(raster).to_be_hidden()
    expect(page.locator(".badge")).not_to_contain_text("shade")
    page.keyboard.press("Escape")
    expect(raster).to_be_visible()
    x, y = large.data.coordinates[0].tolist()
    page.evaluate(f"location.hash = 'v={x},{y},0.4'")
    it.ready()
    expect(raster).to_be_hidden()
    page = it.goto(site.url("?budget=1000"))
    assert not [url for url in it.requests if "density.parquet" in url and site.folder.as_posix() in url]
    expect(page.locator("canvas.raster")).to_have_count(0)


def test_without_its_file_the_map_is_drawn_and_the_file_is_asked_for_again(large, opened: Open) -> None:
    it = opened(errors=True)
    it.page.route("**/density.parquet", lambda route: route.fulfill(status=404, body=""))
    page = it.goto(large.url("?budget=1000"))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The density of all documents:")
    expect(alert).to_contain_text("density.parquet is missing on the server")
    page.unroute("**/density.parquet")
    alert.get_by_role("button", name="Try again").click()
    expect(page.locator("canvas.raster")).to_be_visible()
    expect(alert).to_have_count(0)
