"""Contrast in ten states, light and dark: texts that axe cannot measure are measured in pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.assistive import undecided
from tests.browser.contrast import SCALE, measured
from tests.browser.opened import Opened
from tests.browser.test_compare import compared, drawn  # noqa: F401  (a fixture)

Open = Callable[..., Opened]
PHONE = {"width": 390, "height": 844}


def amber(it: Opened) -> None:
    it.page.get_by_label("Find documents and clusters").fill("amber")
    expect(it.page.locator("#overlay .hit").first).to_be_attached()


def a_box(it: Opened) -> None:
    page = it.page
    page.keyboard.press("b")
    page.mouse.move(430, 420)
    page.mouse.down()
    page.mouse.move(700, 720, steps=4)
    page.mouse.up()
    expect(page.get_by_role("complementary", name="Documents").get_by_role("status")).to_contain_text("selected")


def nothing(it: Opened) -> None:
    pass


# What is behind `#`, what is done then, and how the page is opened.
STATES: dict[str, tuple[str, Callable[[Opened], None], dict[str, object]]] = {
    "map": ("", nothing, {}),
    "search": ("", amber, {}),
    "table": ("#o=documents", nothing, {}),
    "document": ("#p=5&o=quality", nothing, {}),
    "cluster": ("#i=1.0", nothing, {}),
    "selection": ("", a_box, {}),
    "space": ("#d=3", nothing, {}),
    "columns": ("#c=@score&o=time,filters,tags,edits", nothing, {}),
    "phone": ("#p=5", nothing, {"has_touch": True, "is_mobile": True}),
    "forced colours": ("#i=1.0", nothing, {"forced_colors": "active"}),
}


@pytest.fixture(scope="module")
def rich(make_site):
    return make_site(20_000, heights=True, similar=True, meaning=True)


def is_decided(it: Opened, where: str) -> None:
    """Nothing that axe objects to, and of all that it cannot tell the pixels say that it can be read."""
    it.settled()
    objections, asked = undecided(it.page)
    assert objections == [], where
    bad = [f"{one.text!r}: {one.contrast:.2f} of {one.least}" for one in measured(it) if one.contrast < one.least]
    assert bad == [], f"{where}, of {asked} that axe could not tell"


# One with each change, all of them in `make test-slow`: without a GPU, screenshots of a large page take seconds.
@pytest.mark.parametrize(
    "state", [one if one == "document" else pytest.param(one, marks=pytest.mark.slow) for one in STATES]
)
def test_all_text_is_read_in_light_and_in_dark(rich, opened: Open, state: str) -> None:
    rest, act, options = STATES[state]
    it = opened(device_scale_factor=SCALE, **options)
    if options.get("is_mobile"):
        it.page.set_viewport_size(PHONE)
    it.goto(rich.url(rest))
    act(it)
    is_decided(it, "dark")
    it.page.get_by_role("button", name="Light page").click()
    it.page.mouse.move(5, 5)
    is_decided(it, "light")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_all_text_of_two_maps_is_read(
    compared: Path,  # noqa: F811
    serve_folder: Callable[[Path], str],
    opened: Open,
    scheme: str,
) -> None:
    it = opened(scheme=scheme, device_scale_factor=SCALE)
    it.page.set_viewport_size({"width": 1400, "height": 800})
    it.goto(f"{serve_folder(compared)}/index.html", ready=False)
    drawn(it)
    is_decided(it, scheme)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_labels_are_read_at_every_zoom_over_the_densest_part(rich, opened: Open, scheme: str) -> None:
    places, clusters = rich.data.coordinates, rich.data.clusters
    spread = {c: places[clusters == c].std(axis=0).max() for c in set(clusters.tolist()) - {-1}}
    x, y = np.median(places[clusters == min(spread, key=spread.__getitem__)], axis=0)
    it = opened(scheme=scheme, device_scale_factor=SCALE)
    # Points as large and opaque as they can be made, in the colours of clusters and of a column.
    for rest in ("z=3&a=1.25", "z=3&a=1.25&c=@score"):
        for span in (60, 14, 5, 1.5, 0.3):
            it.goto("about:blank", ready=False)
            it.goto(rich.url(f"#v={x:.4f},{y:.4f},{span}&{rest}&o=-list"))
            labels(it.page)
            found = measured(it)
            assert found, (rest, span)
            bad = [f"{one.text!r}: {one.contrast:.2f} of {one.least}" for one in found if one.contrast < one.least]
            assert bad == [], (rest, span)


def labels(page: Page) -> None:
    page.evaluate("document.querySelectorAll('.label:not(.hidden)').forEach(n => n.setAttribute('data-measured', ''))")
