"""Documents are selected by shapes, clusters, searches and filters, and the sets are combined and counted exactly."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect

from tests.browser.assistive import faults
from tests.browser.opened import Opened

Open = Callable[..., Opened]
PHONE = {"width": 390, "height": 844}


def panel(page: Page, name: str = "Selection"):
    return page.get_by_role("complementary", name=name)


def selected(it: Opened) -> int:
    """How many documents are selected, as the panel says."""
    it.settled()
    text = panel(it.page).get_by_role("status").first.text_content()
    return int(re.match(r"([\d,]+) documents? selected", text)[1].replace(",", ""))


def screen(data, view: tuple[float, float, float], height: int = 800, width: int = 1200) -> np.ndarray:
    """Where the documents lie on the screen, in px."""
    return (data.coordinates - view[:2]) * min(height, width) / view[2] * (1, -1) + (width / 2, height / 2)


def drag(page: Page, corners: list[tuple[int, int]]) -> None:
    page.mouse.move(*corners[0])
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*corner, steps=6)
    page.mouse.up()


def inside(places: np.ndarray, corners: list[tuple[int, int]]) -> np.ndarray:
    """Which places lie in a polygon, by the crossings of a ray."""
    found = np.zeros(len(places), bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay == by:
            continue
        at = (bx - ax) * (places[:, 1] - ay) / (by - ay) + ax
        found ^= ((ay > places[:, 1]) != (by > places[:, 1])) & (places[:, 0] < at)
    return found


def test_lasso_box_and_cluster_selections_are_united_subtracted_and_intersected(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#v=10,0,6"))
    view = it.view()
    page.keyboard.press("s")
    expect(panel(page).get_by_role("status").first).to_have_text("Nothing selected")
    places = screen(site.data, view)
    lasso = [(420, 220), (700, 300), (560, 420), (690, 600), (430, 560)]
    page.keyboard.press("l")
    expect(page.get_by_text("Draw a lasso around documents to select")).to_be_visible()
    drag(page, lasso)
    one = inside(places, lasso)
    assert abs(selected(it) - one.sum()) <= 6, "what the pointer's steps cut off the corners"
    assert it.view() == view, "the map does not move while the tool is chosen"
    # A box with Shift adds, with Alt it takes away, with both it keeps what is in both.
    page.keyboard.press("b")
    box = [(360, 250), (500, 250), (500, 700), (360, 700)]
    two = inside(places, box)
    told = selected(it)
    for keys, wanted in (
        (["Shift"], one | two),
        (["Alt"], one & ~two),
        (["Shift"], one | two),
        (["Shift", "Alt"], two),
    ):
        for key in keys:
            page.keyboard.down(key)
        drag(page, [box[0], box[2]])
        for key in keys:
            page.keyboard.up(key)
        assert abs(selected(it) - wanted.sum()) <= 8, keys
    assert selected(it) != told
    page.keyboard.press("Escape")
    expect(page.locator(".tool-hint")).to_have_count(0)
    # A cluster of the list, of all of the map whatever is in view.
    region = site.data.clusters == 3
    panel(page).get_by_role("button", name="Add", exact=True).click()
    page.evaluate("location.hash = '#v=10,0,6&i=0.3&o=selection'")
    panel(page).get_by_role("button", name="1 chosen cluster").click()
    assert abs(selected(it) - (two | region).sum()) <= 8


def test_all_results_of_a_search_or_filter_are_selected(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#x.documents=cedar%20fjord&o=selection"))
    n = np.arange(20_000)
    found = (((n % 16) == 2) & ((n // 16) % 16 == 5)) | (((n % 16) == 5) & ((n // 16) % 16 == 2))
    panel(page).get_by_role("button", name=f"{found.sum():,} found").click()
    assert selected(it) == found.sum()
    # A search after it: the list is of what it finds, and the selection is kept.
    page.get_by_label("Find documents and clusters").fill("cedar grove ")
    expect(panel(page, "Documents").get_by_role("status")).to_contain_text("found")
    assert selected(it) == found.sum()
    panel(page).get_by_role("button", name="Add", exact=True).click()
    panel(page).get_by_role("button", name=re.compile("found$")).click()
    assert selected(it) > found.sum()
    panel(page).get_by_role("button", name="Clear").click()
    expect(panel(page).get_by_role("status").first).to_have_text("Nothing selected")


def test_on_a_phone_a_finger_draws_the_lasso(site, opened: Open) -> None:
    it = opened(has_touch=True)
    it.page.set_viewport_size(PHONE)
    page = it.goto(site.url())
    page.get_by_role("button", name="Selection").tap()
    panel(page).get_by_role("button", name="Lasso").tap()
    expect(panel(page)).to_have_count(0)
    touch = page.context.new_cdp_session(page)
    corners = [(60, 250), (330, 250), (330, 560), (60, 560), (60, 260)]
    steps = [
        (a + (c - a) * k / 5, b + (d - b) * k / 5) for (a, b), (c, d) in itertools.pairwise(corners) for k in range(5)
    ]
    for i, (x, y) in enumerate(steps):
        kind = "touchStart" if i == 0 else "touchMove"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator(".tool-hint")).to_contain_text(re.compile(r"to select: [\d,]+ documents now"))
    expect(panel(page, "Documents")).to_have_count(0)
    it.settled()
    page.get_by_role("button", name="Done").click()
    expect(page.locator(".tool-hint")).to_have_count(0)
    expect(panel(page, "Documents").get_by_role("status")).to_contain_text("documents selected")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_selection_is_accessible(site, opened: Open, scheme: str) -> None:
    it = opened(scheme=scheme)
    page = it.goto(site.url("#v=10,0,6&o=selection"))
    panel(page).get_by_role("button", name="All in view").press("Enter")
    assert selected(it) > 0
    page.keyboard.press("b")
    panel(page).get_by_role("button", name="What distinguishes it").press("Enter")
    expect(panel(page)).to_contain_text("Against all 20,000 documents")
    it.settled()
    assert faults(page, "[data-panel=selection]") == []


def test_distinctive_values_of_a_selection_are_shown_with_counts(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#v=10,0,6&i=0.3&o=selection"))
    panel(page).get_by_role("button", name="1 chosen cluster").click()
    panel(page).get_by_role("button", name="What distinguishes it").click()
    expect(panel(page)).to_contain_text("Against all 20,000 documents")
    it.settled()
    inside = int((site.data.clusters == 3).sum())
    lines = panel(page).locator(".apart li").all_text_contents()
    assert lines[0].endswith(f"{inside:,} of {inside:,} · {20_000 / inside:.0f}×")
    kinds = site.data.nearest_clusters % 5 == 3
    assert f"kind: kind 3{inside:,} of {kinds.sum():,} · {20_000 / kinds.sum():.1f}×" in lines


def test_words_that_set_a_selection_apart_are_those_that_it_was_found_by(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#x.documents=cedar%20fjord&o=selection"))
    panel(page).get_by_role("button", name=re.compile("found$")).click()
    panel(page).get_by_role("button", name="What distinguishes it").click()
    expect(panel(page)).to_contain_text("Words of 120 texts")
    it.settled()
    words = [line.partition("120")[0] for line in panel(page).locator(".apart").last.locator("li").all_text_contents()]
    assert words[:2] in (["cedar", "fjord"], ["fjord", "cedar"])


def test_a_selection_leaves_as_parquet_with_the_values_and_types_of_the_map(site, opened: Open, tmp_path: Path) -> None:
    it = opened()
    page = it.goto(site.url("#x.documents=cedar%20fjord&o=selection"))
    panel(page).get_by_role("button", name=re.compile("found$")).click()
    told = selected(it)
    assert not [url for url in it.requests if "write-parquet" in url], "it comes when it is asked for"
    with page.expect_download() as download:
        panel(page).get_by_role("button", name="Columns (Parquet)").click()
    download.value.save_as(tmp_path / "documents.parquet")
    table = pq.ParquetFile(tmp_path / "documents.parquet").read()
    pack = pq.read_schema(next(site.folder.glob("maps/*/viewer/rows/0.parquet")))
    assert [(field.name, field.type) for field in table.schema] == [
        (field.name, pa.string() if field.type == pa.large_string() else field.type) for field in pack
    ]
    batches = pa.Table.from_batches(site.data.documents())
    wanted = batches.filter(pc.is_in(batches["row_id"], table["row_id"].combine_chunks())).sort_by("row_id")
    assert table.num_rows == told == wanted.num_rows
    for name in wanted.column_names:
        assert table[name].cast(wanted[name].type).to_pylist() == wanted[name].to_pylist(), name
    expect(panel(page).get_by_role("status").last).to_have_text("Columns saved")
