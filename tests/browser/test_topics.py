"""The tree of topics: every layer of it, in step with the map, by keys alone, and of ten thousand clusters."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.assistive import faults
from tests.browser.opened import LIMIT, Opened

Open = Callable[..., Opened]
# No room for all topics at once.
LOW = {"width": 1200, "height": 740}

# When each letter is typed; the page's own clock decides what is one word.
KEY_TIMES = """() => {
  window.keyTimes = [];
  window.keyTimer ??= addEventListener("keydown", ({ timeStamp }) => keyTimes.push(timeStamp), true) ?? true;
}"""


def topic(page: Page, name: str) -> Locator:
    return page.get_by_role("treeitem", name=re.compile(f"^{name}"))


def names(page: Page, selector: str = ".tree .row") -> list[str]:
    return page.locator(f"{selector} .name").all_text_contents()


def test_the_tree_expands_and_highlights_topics_in_view(site, opened: Open) -> None:
    it = opened()
    it.page.set_viewport_size(LOW)
    page = it.goto(site.url())
    expect(topic(page, "amber region")).to_have_attribute("aria-expanded", "false")
    # Closer to the middle of one cluster: its region opens, and it alone of its parts is lit.
    x, y = site.data.coordinates[site.data.nearest_clusters == 5].mean(axis=0)
    it.goto("about:blank", ready=False)
    page = it.goto(site.url(f"#v={x:.4f},{y:.4f},1.5"))
    expect(topic(page, "basin region")).to_have_attribute("aria-expanded", "true")
    expect(topic(page, "amber region")).to_have_attribute("aria-expanded", "false")
    it.settled()
    assert names(page, ".tree .row.seen") == ["basin region", "fjord topic"]
    parts = {"ember topic", "fjord topic", "grove topic", "haven topic"}
    assert set(names(page, ".tree .row[aria-level='2']")) == parts
    expect(page.locator(".tree-head")).to_contain_text("1 of 16 in view")
    size = f"{int((site.data.clusters == 5).sum()):,}"
    expect(topic(page, "fjord topic").locator(".size")).to_have_text(size)
    # Back, and all of it is closed again; not where it is not followed, or while it is pointed at.
    it.point(".tree .row[aria-level='2'].seen")
    page.keyboard.press("Home")
    it.settled()
    expect(topic(page, "basin region")).to_have_attribute("aria-expanded", "true")
    it.point((700, 400))
    expect(topic(page, "basin region")).to_have_attribute("aria-expanded", "false")
    page.get_by_role("button", name="Follow the view").click()
    page.get_by_role("button", name="Open all topics").click()
    it.settled()
    assert page.locator(".tree .row[aria-level='2']").count() == 16
    page.get_by_role("button", name="Close all topics").click()
    expect(page.locator(".tree .row")).to_have_count(5)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_tree_is_usable_by_keyboard_alone(site, opened: Open, scheme: str) -> None:
    it = opened(scheme=scheme)
    it.page.set_viewport_size(LOW)
    page = it.goto(site.url())
    roots = names(page)
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("aria-level", "1")
    expect(focused.locator(".name")).to_have_text(roots[0])
    page.keyboard.press("ArrowRight")
    expect(focused).to_have_attribute("aria-expanded", "true")
    page.keyboard.press("ArrowRight")
    expect(focused).to_have_attribute("aria-level", "2")
    expect(focused).to_have_attribute("aria-setsize", "4")
    page.keyboard.press("ArrowLeft")
    expect(focused.locator(".name")).to_have_text(roots[0])
    page.keyboard.press("ArrowLeft")
    expect(focused).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("End")
    expect(focused).to_contain_text("In no cluster (noise)")
    expect(focused).to_have_attribute("aria-posinset", "5")
    page.keyboard.press("Home")
    # Letters are the name of a topic here, and not keys of the page: those that come within 0.7 s of the one before.
    end = time.monotonic() + LIMIT
    while True:
        page.evaluate(KEY_TIMES)
        page.keyboard.type("delta")
        if page.evaluate("Math.max(...keyTimes.slice(1).map((at, i) => at - keyTimes[i]))") < 700:
            break
        assert time.monotonic() < end, "this machine does not type"
        # What comes now would be taken for more of the same word.
        page.wait_for_timeout(1_000)
    expect(focused.locator(".name")).to_have_text("delta region")
    expect(page.locator("html")).to_have_attribute("data-theme", scheme)
    page.keyboard.press("Space")
    expect(focused).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("complementary", name="Chosen cluster")).to_contain_text("delta region")
    page.keyboard.press("*")
    it.settled()
    assert page.locator(".tree .row[aria-expanded='true']").count() == 4
    assert faults(page, ".tree") == []
    assert "i=1.3" in it.address()


def test_a_finger_opens_and_chooses(site, opened: Open) -> None:
    it = opened(has_touch=True, is_mobile=True)
    it.page.set_viewport_size({"width": 390, "height": 844})
    page = it.goto(site.url())
    page.locator(".panel-opener").tap()
    row = topic(page, "amber region")
    expect(row).to_be_visible()
    it.settled()
    box, caret = row.bounding_box(), row.locator(".caret").bounding_box()
    assert box is not None
    assert caret is not None
    assert box["height"] == 44
    assert min(caret["width"], caret["height"]) >= 40
    row.locator(".caret").tap()
    expect(row).to_have_attribute("aria-expanded", "true")
    topic(page, "cedar topic").tap()
    expect(page.get_by_role("complementary", name="Chosen cluster")).to_contain_text("cedar topic")
    expect(page.locator(".panel")).to_have_count(0)


@pytest.mark.slow
def test_ten_thousand_clusters_are_one_tree(make_site, opened: Open) -> None:
    site = make_site(20_000, clusters=10_000)
    finest = len(set(site.data.clusters.tolist()) - {-1})
    it = opened()
    page = it.goto(site.url())
    page.get_by_role("button", name="Open all topics").click()
    it.settled()
    assert page.locator(".tree .row").count() < 80, "only what is seen is there"
    page.locator(".tree [tabindex='0']").focus()
    page.keyboard.press("End")
    last = page.locator(":focus")
    expect(last).to_contain_text("In no cluster (noise)")
    layers = np.bincount(site.data.labels["layer"].to_numpy())
    assert layers[0] == finest
    expect(last).to_have_attribute("data-row", str(int(layers.sum())))
    page.get_by_label("Find documents and clusters").fill("cedar topic")
    expect(page.locator(".tree .row:not(.context) mark").first).to_have_text("cedar topic")
