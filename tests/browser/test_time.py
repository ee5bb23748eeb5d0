"""The strip of time: its counts, a stretch that filters the map, how it moves, and its part of the link."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.assistive import faults
from tests.browser.opened import LIMIT, Opened
from tests.browser.test_select import PHONE, panel

Open = Callable[..., Opened]

N = np.arange(20_000)
WRITTEN = np.datetime64("1970-01-01") + N % 3650
"""The dates of the synthetic documents: ten years, which are forty quarters."""


# All that the strip says from now on, and whether it offers to pause then.
KEEP_SAID = """() => {
  window.said = [];
  const look = () => {
    const panel = document.querySelector("[data-panel=time]");
    const buttons = [...panel.querySelectorAll("button")];
    const pause = buttons.some((one) => `${one.ariaLabel} ${one.textContent}`.includes("Pause"));
    said.push([panel.querySelector("[role=status]").textContent.trim(), pause]);
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def strip(page: Page):
    return panel(page, "Over time")


def said(it: Opened) -> str:
    it.settled()
    return strip(it.page).get_by_role("status").text_content().strip()


def between(first: str, after: str) -> np.ndarray:
    return (np.datetime64(first) <= WRITTEN) & (np.datetime64(after) > WRITTEN)


def legend(page: Page) -> int:
    """Documents of all topics at the top of the tree together, and the noise."""
    sizes = page.locator(".tree .row[aria-level='1'] .size").all_text_contents()
    return sum(int(size.replace(",", "")) for size in sizes)


def test_a_stretch_of_time_filters_the_map_by_pointer_and_keys_and_is_in_the_link(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    page.keyboard.press("w")
    assert said(it) == "1970 Q1 – 1979 Q4 20,000 of all 20,000 documents"
    bars = strip(page).locator("[data-bar]")
    expect(bars).to_have_count(40)
    expect(bars.nth(4).locator("title")).to_have_text(f"1971 Q1: {between('1971-01-01', '1971-04-01').sum():,}")
    # From the middle of one bar to that of another.
    boxes = it.boxes("[data-bar] .reach")
    at = [(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2) for box in boxes]
    page.mouse.move(*at[4])
    page.mouse.down()
    page.mouse.move(*at[7], steps=4)
    page.mouse.up()
    year = between("1971-01-01", "1972-01-01")
    assert said(it).startswith(f"1971 Q1 – 1971 Q4 {year.sum():,} of all 20,000 documents")
    assert legend(page) == year.sum()
    # Taken hold of in its middle it moves, and by keys it grows.
    page.mouse.move(*at[5])
    page.mouse.down()
    page.mouse.move(*at[6], steps=2)
    page.mouse.up()
    strip(page).get_by_label("Start of the range").focus()
    page.keyboard.press("ArrowLeft")
    strip(page).get_by_label("End of the range").focus()
    page.keyboard.press("ArrowRight")
    told = between("1971-01-01", "1972-07-01")
    assert said(it).startswith(f"1971 Q1 – 1972 Q2 {told.sum():,} of")
    assert legend(page) == told.sum()
    # Other filters are in its counts; its own is not.
    page.locator("#canvas").focus()
    page.keyboard.press("f")
    page.locator(".filters .filter-head .row").filter(has_text=re.compile("^kind")).click()
    panel(page, "Filters").get_by_label(re.compile("^kind 0")).uncheck()
    kinds = site.data.nearest_clusters % 5 != 0
    assert said(it).startswith(f"1971 Q1 – 1972 Q2 {(told & kinds).sum():,} of")
    quarter = between("1977-07-01", "1977-10-01")
    title = f"1977 Q3: {(kinds & quarter).sum():,} of {quarter.sum():,}"
    expect(bars.nth(30).locator("title")).to_have_text(title)
    again = opened()
    again.goto(it.address())
    assert said(again).startswith(f"1971 Q1 – 1972 Q2 {(told & kinds).sum():,} of")
    assert legend(again.page) == (told & kinds).sum()


def test_a_filter_that_ends_between_bars_is_shown_exactly(site, opened: Open) -> None:
    it = opened()
    it.goto(site.url("#o=time&f.@published=100..500"))
    told = ((N % 3650 >= 100) & (N % 3650 <= 500)).sum()
    assert said(it).startswith(f"1970-04-11 – 1971-05-16 {told:,} of all 20,000 documents")


def test_clusters_over_time_are_distinguished_and_their_counts_saved(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#o=time&x.time=clusters"))
    it.settled()
    found = site.data.clusters
    names = strip(page).locator(".time-legend li")
    expect(names).to_have_count(5)
    amber = names.filter(has_text="amber region")
    expect(amber.locator(".size")).to_have_text(f"{((found >= 0) & (found < 4)).sum():,}")
    expect(names.filter(has_text="in no cluster").locator(".size")).to_have_text(f"{(found < 0).sum():,}")
    with page.expect_download() as download:
        strip(page).get_by_role("button", name="Save the counts").click()
    rows = download.value.path().read_text().splitlines()
    assert (
        rows[0]
        == 'time,documents,"amber region","delta region","basin region","cedar region","other clusters","in no cluster"'
    )
    quarter = between("1971-01-01", "1971-04-01")
    assert rows[5].startswith(f'"1971 Q1",{quarter.sum()},{(quarter & (found >= 0) & (found < 4)).sum()},')
    assert len(rows) == 41
    # What is isolated is told apart by itself.
    amber.get_by_role("button").click()
    it.settled()
    expect(names).to_have_count(1)
    expect(names.locator(".size")).to_have_text(f"{((found >= 0) & (found < 4)).sum():,}")


def test_a_time_range_plays_to_the_end_unless_motion_is_reduced(site, opened: Open) -> None:
    it = opened()
    it.page.emulate_media(reduced_motion="no-preference")
    page = it.goto(site.url("#o=time&x.time=fast"), ready=False)
    steps = page.evaluate("history.length")
    play = strip(page).get_by_role("button", name="Play")
    expect(play).to_have_count(1)
    # A step is gone after a quarter of a second, and who asks for it may be off the processor for longer.
    page.evaluate(KEEP_SAID)
    play.click()
    status = strip(page).get_by_role("status")
    # To the end, where it stops and waits for another start.
    last = between("1979-04-01", "1980-01-01").sum()
    expect(status).to_have_text(re.compile(f"^1979 Q2 – 1979 Q4 {last:,} of"), timeout=3000 * LIMIT)
    expect(play).to_have_count(1)
    said_then = page.evaluate("said")
    assert any(text.startswith("1970 Q") and pause for text, pause in said_then)
    moved = [text[:7] for text, pause in said_then if pause and re.match("19[0-9]{2} Q[1-4] – ", text)]
    assert moved == sorted(moved)
    assert {"1970 Q2", "1970 Q3", "1970 Q4"} & set(moved)
    it.settled()
    assert page.evaluate("history.length") <= steps + 1, "a step of Back for all that was played"
    page.emulate_media(reduced_motion="reduce")
    page.reload()
    it.ready()
    expect(strip(page).get_by_role("button", name="Play")).to_have_count(0)
    strip(page).get_by_role("button", name="Earlier").click()
    assert said(it).startswith("1979 Q1 – 1979 Q3")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert "f." not in it.address()


@pytest.mark.parametrize("scheme", [pytest.param("dark", marks=pytest.mark.slow), "light"])
def test_the_timeline_is_accessible(site, opened: Open, scheme: str) -> None:
    it = opened(scheme=scheme)
    it.page.set_viewport_size(PHONE if scheme == "light" else {"width": 1200, "height": 800})
    page = it.goto(site.url("#o=time,-list&x.time=shares&f.@published=100..500"))
    it.settled()
    assert faults(page, "[data-panel=time]") == []
