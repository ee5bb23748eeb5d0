"""Filters on several columns: documents are highlighted, counted exactly, and kept in the link."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.assistive import faults
from tests.browser.opened import Opened
from tests.browser.test_select import PHONE, panel

Open = Callable[..., Opened]


def head(page: Page, name: str):
    return page.locator(".filters .filter-head .row").filter(has_text=re.compile(f"^{name}"))


def passing(it: Opened) -> int:
    """How many documents pass, as the panel says."""
    it.settled()
    text = panel(it.page, "Filters").get_by_role("status").first.text_content()
    return int(re.match(r"([\d,]+) of all 20,000 documents pass$", text)[1].replace(",", ""))


def coloured(picture: Image.Image) -> int:
    """Pixels of the map between the panels that have a colour."""
    pixels = np.asarray(picture.crop((340, 0, 740, 740))).astype(int)
    return int((np.ptp(pixels, axis=2) > 45).sum())


def legend(page: Page) -> int:
    """Documents of all topics at the top of the tree together, and the noise."""
    sizes = page.locator(".tree .row[aria-level='1'] .size").all_text_contents()
    return sum(int(size.replace(",", "")) for size in sizes)


def test_filters_on_several_columns_narrow_each_others_counts_and_the_legend(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    before = coloured(it.picture())
    page.keyboard.press("f")
    n = np.arange(20_000)
    kinds = site.data.nearest_clusters % 5
    proto = n % 3
    head(page, "kind").click()
    head(page, "__proto__").click()
    box = panel(page, "Filters").get_by_label(re.compile("^proto 1"))
    expect(box).to_be_checked()
    # Unfiltered counts are those of the whole map, as they were published.
    expect(box.locator("..").locator(".size")).to_have_text(f"{(proto == 1).sum():,}")
    panel(page, "Filters").get_by_label(re.compile("^kind 0")).uncheck()
    panel(page, "Filters").get_by_label(re.compile("^kind 2")).uncheck()
    told = ~np.isin(kinds, [0, 2])
    assert passing(it) == told.sum()
    expect(box.locator("..").locator(".size")).to_have_text(f"{(told & (proto == 1)).sum():,}")
    # A column's own filter does not change its counts.
    kind = panel(page, "Filters").get_by_label(re.compile("^kind 2")).locator("..").locator(".size")
    expect(kind).to_have_text(f"{(kinds == 2).sum():,}")
    box.uncheck()
    expect(kind).to_have_text(f"{((kinds == 2) & (proto != 1)).sum():,}")
    told &= proto != 1
    assert passing(it) == told.sum()
    assert legend(page) == told.sum()
    assert coloured(it.picture()) < 0.8 * before, "what is filtered out fades"
    # The colour is another matter, and so is the link.
    page.get_by_label("Colour by").select_option(label="score")
    assert passing(it) == told.sum()
    address = it.address()
    assert "f.%40kind=" in address
    again = opened()
    again.goto(address)
    assert legend(again.page) == told.sum()
    page.get_by_role("button", name="Clear all filters").click()
    expect(panel(page, "Filters").get_by_role("status").first).to_have_text("No filter")


def test_a_range_is_set_by_keys_and_by_the_pointer_and_counts_follow(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#o=filters"))
    head(page, "score").click()
    n = np.arange(20_000)
    scored = n % 10 != 0
    low = panel(page, "Filters").get_by_label("score from")
    low.focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    quarter = 1 + (19_999 - 1) / 4
    assert passing(it) == (scored & (n >= quarter)).sum()
    expect(low).to_have_attribute("aria-valuetext", "5001")
    # Letters mean the page wherever nothing can be typed.
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    without = panel(page, "Filters").get_by_label(re.compile("^no value"))
    expect(without).not_to_be_checked()
    without.check()
    assert passing(it) == (~scored | (n >= quarter)).sum()
    # What was drawn over the histogram takes the place of the range.
    chart = page.locator(".histogram").bounding_box()
    page.mouse.move(chart["x"] + 1, chart["y"] + 20)
    page.mouse.down()
    page.mouse.move(chart["x"] + chart["width"] / 2, chart["y"] + 30, steps=5)
    page.mouse.up()
    half = 1 + (19_999 - 1) / 2
    assert passing(it) == (~scored | (n <= half)).sum()
    assert re.search(r"f\.%40score=\.\.10000,255", it.address())
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert "f." not in it.address()


def test_texts_are_filtered_by_what_they_contain_and_the_filter_is_selected(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#o=filters"))
    head(page, "body").click()
    expect(panel(page, "Filters")).to_contain_text(re.compile(r"Reads all texts of the map, [\d.]+ MB"))
    field = panel(page, "Filters").get_by_label("body contains")
    field.fill("NUMBER 19")
    field.press("Enter")
    wanted = sum(str(i).startswith("19") for i in range(20_000))
    assert passing(it) == wanted
    page.keyboard.press("s")
    page.locator("#canvas").focus()
    page.keyboard.press("s")
    panel(page, "Selection").get_by_role("button", name="What passes the filters").click()
    expect(panel(page, "Selection").get_by_role("status").first).to_contain_text(f"{wanted:,} documents selected")
    again = opened()
    again.goto(it.address())
    assert passing(again) == wanted


def test_texts_are_filtered_by_a_regular_expression(site, opened: Open, synthetic: ModuleType) -> None:
    it = opened()
    page = it.goto(site.url("#o=filters"))
    head(page, "body").click()
    filters = panel(page, "Filters")
    filters.get_by_label("as a regular expression").check()
    field = filters.get_by_label("body matches")
    field.fill("number (19")
    expect(filters.get_by_role("alert")).to_have_text("Invalid regular expression: unterminated group.")
    expect(filters.get_by_role("button", name="Filter", exact=True)).to_be_disabled()
    field.fill(r"NUMBER \d*(19|7{2})\d about (cedar|fjord)")
    field.press("Enter")
    wanted = re.compile(r"number \d*(19|7{2})\d about (cedar|fjord)", re.IGNORECASE)
    count = sum(bool(wanted.search(synthetic.text_of(row))) for row in range(20_000))
    expect(filters.get_by_text(f"{count:,} documents of all")).to_be_visible()
    assert passing(it) == count
    again = opened()
    again.goto(it.address())
    expect(panel(again.page, "Filters").get_by_text(f"{count:,} documents of all")).to_be_visible()
    assert passing(again) == count


@pytest.mark.slow
def test_an_endless_regular_expression_is_stopped_and_the_page_stays_responsive(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#f.%40body=*%5E(%5Cw%2B%5Cs%3F)*%24&o=filters"), ready=False)
    expect(page.get_by_role("alert")).to_contain_text("body: this expression takes more than 20 seconds")
    it.ready()
    assert "f." not in it.address()


def test_a_filter_on_a_missing_column_is_ignored_and_reported(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#f.@nowhere=1..2&f.@kind=@kind%201"))
    expect(page.get_by_role("alert")).to_contain_text("This map has no column nowhere to filter by.")
    assert legend(page) == (site.data.nearest_clusters % 5 == 1).sum()


def test_filters_of_a_grown_map_count_all_generations(make_grown, opened: Open) -> None:
    site = make_grown("whole-files")
    map_ = site.data
    it = opened()
    page = it.goto(site.url("#f.@kind=@kind%202,@kind%209&f.@score=..900,255"))
    with np.errstate(invalid="ignore"):
        told = np.isin(map_.kinds, ["kind 2", "kind 9"]) & ~(map_.scores > 900)
    it.settled()
    assert 0 < told.sum() == legend(page)


@pytest.mark.parametrize("scheme", [pytest.param("dark", marks=pytest.mark.slow), "light"])
def test_the_filters_are_accessible(site, opened: Open, scheme: str) -> None:
    it = opened(scheme=scheme)
    it.page.set_viewport_size(PHONE if scheme == "light" else {"width": 1200, "height": 800})
    page = it.goto(site.url("#o=filters,-list&f.@score=..900,255&f.@kind=@kind%202&f.@body=~cedar"))
    it.settled()
    assert faults(page, "[data-panel=filters]") == []
