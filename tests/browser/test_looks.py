"""Appearance of the page in small windows, without content, and with several messages."""

from __future__ import annotations

import dataclasses
import gzip
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from playwright.sync_api import Page, expect

from tests.browser.assistive import faults
from tests.browser.opened import Box, Opened

Open = Callable[..., Opened]
PHONE = {"width": 390, "height": 844}
LYING = {"width": 844, "height": 390}
# What the page's scripts may weigh, compressed, until the map is moved by hand.
MOST_SCRIPT = 227_000


def panel(page: Page, name: str):
    return page.get_by_role("complementary", name=name)


def apart(a: Box, b: Box) -> bool:
    return (
        a["x"] + a["width"] <= b["x"]
        or b["x"] + b["width"] <= a["x"]
        or a["y"] + a["height"] <= b["y"]
        or b["y"] + b["height"] <= a["y"]
    )


def test_all_scripts_until_the_map_is_moved_by_hand_weigh_little(site, opened: Open) -> None:
    it = opened()
    sent: dict[str, int] = {}
    it.page.on(
        "response",
        lambda r: sent.__setitem__(r.url, len(gzip.compress(r.body(), 9))) if r.url.endswith(".js") else None,
    )
    it.goto(site.url())
    assert 0 < sum(sent.values()) < MOST_SCRIPT, sent


@pytest.mark.parametrize(
    ("size", "touch"),
    [(PHONE, True), (LYING, True), ({"width": 640, "height": 400}, False)],
    ids=["phone", "lying", "200 %"],
)
def test_no_button_is_cut_off_or_covered_in_a_small_window(
    site, opened: Open, size: dict[str, int], touch: bool
) -> None:
    it = opened(has_touch=touch, is_mobile=touch)
    it.page.set_viewport_size(size)
    it.goto(site.url("#o=-list"))
    buttons = it.boxes(".toolbar button, .panel-opener, .badge")
    assert len(buttons) > 10
    for box in buttons:
        assert box["x"] >= 0, box
        assert box["y"] >= 0, box
        assert box["x"] + box["width"] <= size["width"], box
        assert box["y"] + box["height"] <= size["height"], box
    assert [(a, b) for a, b in combinations(buttons, 2) if not apart(a, b)] == []


def test_a_finger_finds_buttons_that_are_large_enough(site, opened: Open) -> None:
    it = opened(has_touch=True, is_mobile=True)
    it.page.set_viewport_size(PHONE)
    page = it.goto(site.url())
    for box in it.boxes(".toolbar button"):
        assert min(box["width"], box["height"]) >= 44
    page.get_by_role("button", name="Synthetic map").tap()
    for box in it.boxes(".panel button.icon, .panel select, .panel input, .panel [role=treeitem]"):
        assert box["height"] >= 44


@pytest.mark.parametrize("size", [{"width": 1200, "height": 800}, {"width": 640, "height": 400}])
def test_the_help_fits_into_the_window_and_moves_nothing(site, opened: Open, size: dict[str, int]) -> None:
    it = opened()
    it.page.set_viewport_size(size)
    page = it.goto(site.url())
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Help").get_by_role("button", name="Close")).to_be_focused()
    dialog = it.box(".help")
    assert dialog["y"] >= 0
    assert dialog["y"] + dialog["height"] <= size["height"]
    expect(page.get_by_role("heading", name="Around the map")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Close", exact=True)).to_be_in_viewport(ratio=1)
    assert page.evaluate("[scrollY, document.body.scrollTop, document.documentElement.scrollTop]") == [0, 0, 0]


def test_the_card_of_a_point_goes_when_a_shape_is_drawn_over_it(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#v=10,0,4"))
    page.keyboard.press("b")
    x, y = next(
        place for place in ((x, y) for y in range(200, 600, 20) for x in range(400, 800, 20)) if rests(it, place)
    )
    page.mouse.move(x, y)
    expect(page.locator(".hover-card")).to_have_count(1)
    page.mouse.down()
    page.mouse.move(x + 100, y + 80, steps=4)
    it.settled()
    expect(page.locator(".selection")).to_have_count(1)
    expect(page.locator(".hover-card")).to_have_count(0)
    page.mouse.up()


def rests(it: Opened, place: tuple[float, float]) -> bool:
    """Whether a point lies under a position."""
    it.page.mouse.move(*place)
    it.settled()
    return it.page.locator(".hover-card").count() == 1


def test_a_card_does_not_cover_panels(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#v=10,0,6&o=documents"))
    edge = it.box('[data-panel="documents"]')["x"]
    places = ((x, y) for x in range(int(edge) - 120, 500, -15) for y in range(200, 600, 25))
    assert next((place for place in places if rests(it, place)), None), "a point near the panel"
    card = it.box(".hover-card")
    assert card["x"] + card["width"] <= edge
    expect(page.locator(".hover-card")).to_have_count(1)


def test_a_search_without_results_gives_advice_and_leaves_the_map_unchanged(make_site, opened: Open) -> None:
    site = make_site(3_000, meaning=True)
    it = opened()
    page = it.goto(site.url())
    bright = np.asarray(it.picture().crop((340, 60, 700, 740))).astype(int)
    page.get_by_label("Find documents and clusters").fill("zzqq")
    documents = panel(page, "Documents")
    expect(documents.get_by_role("status")).to_have_text("No matching documents")
    expect(documents.get_by_role("grid")).to_have_count(0)
    assert it.box('[data-panel="documents"]')["height"] < 200
    coloured = np.asarray(it.picture().crop((340, 60, 700, 740))).astype(int)
    assert (np.ptp(coloured, axis=2) > 45).sum() > 0.5 * (np.ptp(bright, axis=2) > 45).sum(), "nothing was dimmed"
    documents.get_by_role("button", name="Search by meaning").click()
    expect(documents.get_by_role("button", name="Search by meaning")).to_have_count(0)
    documents.get_by_role("button", name="Clear the search").click()
    expect(page.get_by_label("Find documents and clusters")).to_have_value("")
    expect(documents).to_have_count(0)


def test_close_up_an_overview_shows_the_position_and_navigates(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    expect(page.locator(".overview")).to_have_count(0)
    for _ in range(4):
        page.get_by_role("button", name="Zoom in").click()
    expect(page.locator(".overview")).to_have_count(1)
    it.settled()
    x, y, span = it.view()
    picture, frame = it.box(".overview canvas"), it.box(".overview > div")
    assert frame["width"] < picture["width"]
    assert frame["height"] < picture["height"]
    colours = page.evaluate(
        """() => {
          const canvas = document.querySelector(".overview canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )
    assert colours > 10, "the points, in the colours of their clusters"
    page.mouse.click(picture["x"] + 0.8 * picture["width"], picture["y"] + 0.3 * picture["height"])
    it.settled()
    nx, ny, nspan = it.view()
    assert nspan == pytest.approx(span)
    assert nx > x + 0.1
    assert ny > y + 0.1
    moved = it.box(".overview > div")
    centre = moved["x"] + moved["width"] / 2, moved["y"] + moved["height"] / 2
    wanted = picture["x"] + 0.8 * picture["width"], picture["y"] + 0.3 * picture["height"]
    assert centre == pytest.approx(wanted, abs=3)
    assert faults(page, ".overview") == []
    page.keyboard.press("Home")
    expect(page.locator(".overview")).to_have_count(0)


def test_labels_have_no_hue_while_a_column_has_the_hues(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    hues = "() => new Set([...document.querySelectorAll('#labels .label')].map(n => getComputedStyle(n).color)).size"
    assert page.evaluate(hues) > 4
    page.get_by_label("Colour by").select_option(label="score")
    it.ready()
    assert page.evaluate(hues) == 1


def test_rings_of_nearby_results_do_not_overlap(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    page.get_by_label("Find documents and clusters").fill("amber")
    expect(page.locator("#overlay .hit").first).to_be_attached()
    it.settled()
    rings = page.evaluate(
        "[...document.querySelectorAll('#overlay .hit')].map(n => ['cx', 'cy', 'r'].map(a => +n.getAttribute(a)))"
    )
    assert len(rings) > 3
    for (x, y, r), (u, v, _) in combinations(rings, 2):
        assert np.hypot(x - u, y - v) > 2 * r - 0.3


def test_messages_are_stacked(site, opened: Open) -> None:
    it = opened(errors=True)
    it.page.route("**/clusters.json", lambda route: route.fulfill(status=404))
    page = it.goto(site.url("#p=77"))
    page.locator("#find").fill("#999999999")
    page.locator("#find").press("Enter")
    expect(page.locator(".notice")).to_have_count(2)
    first, second = it.boxes(".notice")
    assert apart(first, second)


def test_forced_colours_keep_labels_legible_and_choices_visible(site, opened: Open) -> None:
    it = opened(forced_colors="active")
    page = it.goto(site.url())
    style = "getComputedStyle(document.querySelector('#labels .label')).webkitTextStrokeWidth"
    assert page.evaluate(style) == "0px"
    page.get_by_role("treeitem", name=re.compile("^amber region")).click()
    outline = "getComputedStyle(document.querySelector('.tree [aria-selected=true]')).outlineStyle"
    assert page.evaluate(outline) == "solid"


def test_lines_of_equal_density_are_asked_for_follow_the_map_and_are_in_the_link(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url("#v=0,0,60"))
    expect(page.locator("#overlay .contours")).to_have_count(0)
    page.get_by_role("button", name="Size and opacity of the points").click()
    page.get_by_label("Lines of equal density").check()
    lines = page.locator("#overlay .contours")
    expect(lines).to_have_count(1)
    before = it.box("#overlay .contours")
    assert lines.get_attribute("d").count("M") >= 5, "one line a level at least"
    x, y, span = it.view()
    places = (site.data.coordinates - (x, y)) * 800 / span * (1, -1) + (600, 400)
    corner = np.array([before["x"], before["y"]])
    inside = ((places > corner) & (places < corner + np.array([before["width"], before["height"]]))).all(axis=1)
    assert 0.7 < inside.mean() < 1, "around the documents, and not around all that are far from others"
    page.keyboard.press("+")
    assert it.box("#overlay .contours")["width"] > 1.3 * before["width"]
    link = it.address()
    assert "g=1" in link
    again = opened()
    again.goto(link)
    expect(again.page.locator("#overlay .contours")).to_have_count(1)


def test_a_chosen_cluster_is_outlined_closely(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    page.get_by_role("treeitem", name=re.compile("^amber region")).click()
    outline = page.locator("#overlay .hull")
    expect(outline).to_have_count(1)
    assert outline.get_attribute("d").count("L") > 30, "a contour, not the few corners of a hull"


def test_labels_of_clusters_of_which_nothing_is_selected_are_faint(site, opened: Open) -> None:
    it = opened()
    page = it.goto(site.url())
    expect(page.locator("#labels .label")).not_to_have_count(0)
    expect(page.locator("#labels .faint")).to_have_count(0)
    it.settled()
    name = page.locator("#labels .label:not(.hidden)").first.text_content()
    box = it.boxes("#labels .label:not(.hidden)")[0]
    page.keyboard.press("b")
    page.mouse.move(box["x"] - 20, box["y"] - 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] + 20, box["y"] + box["height"] + 30, steps=4)
    page.mouse.up()
    expect(panel(page, "Documents").get_by_role("status")).to_contain_text("selected")
    it.settled()
    faint = page.locator("#labels .faint").all_text_contents()
    assert len(faint) > 3
    assert name not in faint


ROWS = """() => [...document.querySelectorAll('#labels .label')].map(label => {
  const texts = document.createTreeWalker(label, NodeFilter.SHOW_TEXT);
  const tops = new Set();
  while (texts.nextNode()) {
    const { data } = texts.currentNode;
    const start = data.indexOf('UTF-8');
    for (let i = start; start >= 0 && i < start + 5; i++) {
      const range = document.createRange();
      range.setStart(texts.currentNode, i);
      range.setEnd(texts.currentNode, i + 1);
      tops.add(range.getBoundingClientRect().top);
    }
  }
  return [label.textContent, tops.size];
})"""


def test_a_label_is_not_broken_within_a_short_word_with_a_hyphen(
    synthetic, tmp_path: Path, serve_folder: Callable[[Path], str], opened: Open
) -> None:
    data = synthetic.make_data(3000)
    # Of many lengths: at some of them a line ends where the hyphen is.
    names = [f"{'w' * (n % 20)} conversion UTF-8 of texts" for n in range(data.labels.num_rows)]
    at = data.labels.schema.get_field_index("label")
    labels = data.labels.set_column(at, "label", pa.array(names))
    synthetic.write_workspace(dataclasses.replace(data, labels=labels), tmp_path / "ws")
    it = opened()
    page = it.goto(f"{serve_folder(tmp_path / 'ws')}/viewer/index.html")
    rows = page.evaluate(ROWS)
    assert len(rows) > 10
    # The text is what it was: what a person copies and what is searched.
    assert {name for name, _ in rows} <= set(names)
    assert {count for _, count in rows} == {1}
