"""Points whose size follows a column of numbers: as large as the legend says, chosen by keys, and in the link."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import expect
from scipy.spatial import cKDTree

from tests.browser.assistive import faults
from tests.browser.opened import Opened

Open = Callable[..., Opened]
LEAST, MOST = 0.6, 2.8


def painted(picture: Image.Image) -> float:
    """Area of the point in the middle of the window, in px: the sum of how much of each pixel it covers."""
    pixels = np.asarray(picture.crop((580, 380, 620, 420))).astype(float)
    colour = np.linalg.norm(pixels - (14, 17, 23), axis=2)
    return float((colour / colour[20, 20]).clip(0, 1)[colour > 12].sum())


def keep(it: Opened, name: str) -> None:
    """Leave a picture for somebody to look at, if they said where."""
    folder = os.environ.get("LATENTSCALE_PICTURES")
    if folder:
        it.picture().save(Path(folder) / f"{name}.png")


def test_points_are_as_large_as_their_values_say(make_site, opened: Open) -> None:
    site = make_site(1_000)
    data = site.data
    alone = cKDTree(data.coordinates).query(data.coordinates, k=2)[0][:, 1]
    alone[data.clusters < 0] = 0
    largest = int(900 + alone[900:].argmax())
    largest += largest % 10 == 0
    empty = int(np.where(np.arange(1_000) % 10 == 0, alone, 0).argmax())
    share = np.log(largest) / np.log(999)
    factors = {largest: np.sqrt(LEAST**2 + share * (MOST**2 - LEAST**2)), empty: LEAST}
    it = opened()
    for row, factor in factors.items():
        x, y = data.coordinates[row]
        # So close that it is alone in the middle of the window, and no point comes to the limit of 32 px.
        where = f"v={x:.6f},{y:.6f},{max(8 * alone[row], 0.05):.5f}&z=0.5&o=-list"
        it.goto("about:blank", ready=False)
        it.goto(site.url(f"#{where}"))
        before = painted(it.picture())
        it.goto("about:blank", ready=False)
        it.goto(site.url(f"#{where}&w=%40score"))
        after = painted(it.picture())
        assert 0.8 * factor**2 < after / before < 1.25 * factor**2, (row, before, after, factor)


def test_the_size_is_chosen_by_keys_has_a_legend_and_is_in_the_link(make_site, opened: Open) -> None:
    site = make_site(1_000)
    it = opened(scheme="light")
    page = it.goto(site.url())
    plain = np.asarray(it.picture())
    page.get_by_role("button", name="Size and opacity of the points").press("Enter")
    sizes = page.get_by_label("Size by")
    expect(sizes.locator("option")).to_have_text(["All the same", "score"])
    sizes.focus()
    page.keyboard.press("ArrowDown")
    legend = page.get_by_role("region", name="Sizes by score")
    expect(legend).to_contain_text("Size by score (logarithmic)")
    expect(legend).to_contain_text("100 of 1,000 documents have no value: they have the smallest size")
    assert legend.locator(".ramp-ends span").all_text_contents() == [" 1", " 31.61", " 999"]
    assert "w=%40score" in it.address()
    keep(it, "size-by")
    assert faults(page, "[data-panel=list]") == []
    page.get_by_role("button", name="Size and opacity of the points").click()
    assert (np.abs(np.asarray(it.picture()).astype(int) - plain).max(axis=2) > 60).sum() > 2_000
    legend.get_by_role("button", name="All the same").click()
    expect(legend).to_have_count(0)
    assert "w=" not in it.address()
    assert (np.asarray(it.picture()) == plain)[100:, 340:].mean() > 0.999
    it.goto("about:blank", ready=False)
    it.goto(site.url("#w=%40kind"))
    expect(page.get_by_role("alert")).to_have_text("This map has no numbers kind to size points by.")


def test_a_map_in_space_has_the_sizes_too(make_site, opened: Open) -> None:
    site = make_site(1_000, heights=True)
    it = opened()
    it.goto(site.url("#d=3"))
    plain = np.asarray(it.picture()).astype(int)
    it.goto("about:blank", ready=False)
    it.goto(site.url("#d=3&w=%40score"))
    keep(it, "size-by-space")
    assert (np.abs(np.asarray(it.picture()).astype(int) - plain).max(axis=2) > 60).sum() > 2_000
