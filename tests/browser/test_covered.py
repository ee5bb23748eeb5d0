"""No control lies under another thing, in any state, on a phone, a tablet and at 200 %."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.opened import Opened

Open = Callable[..., Opened]
SIZES = {
    "320x568": ({"width": 320, "height": 568}, True),
    "375x667": ({"width": 375, "height": 667}, True),
    "667x375": ({"width": 667, "height": 375}, True),
    "768x1024": ({"width": 768, "height": 1024}, True),
    "200 % of 1280x800": ({"width": 640, "height": 400}, False),
}
STATES = [
    *("", "#o=list", "#p=5", "#i=1.0", "#d=3", "#d=3&p=5", "#o=documents", "#d=3&o=documents", "#o=quality"),
    *("#o=filters", "#o=time", "#o=time&p=5", "#o=time,list", "#o=tags,selection", "#o=edits&i=1.0", "#o=list&p=5"),
]

# What is seen of each control, where areas that scroll cut it; and what lies over five places of that.
COVERED = """() => {
  const seen = node => {
    if (getComputedStyle(node).visibility === "hidden") return null;
    let { left, top, right, bottom } = node.getBoundingClientRect();
    if (right - left < 1) return null;
    let fixed = false;
    for (let at = node.parentElement; at && !fixed; at = at.parentElement) {
      const { overflow, position } = getComputedStyle(at);
      fixed = position === "fixed";
      if (overflow === "visible") continue;
      const edge = at.getBoundingClientRect();
      [left, top] = [Math.max(left, edge.left), Math.max(top, edge.top)];
      [right, bottom] = [Math.min(right, edge.right), Math.min(bottom, edge.bottom)];
    }
    // Out of sight where something scrolls: the focus brings it back.
    return right - left < 2 || bottom - top < 2 ? null : { left, top, right, bottom };
  };
  const all = what => [...document.querySelectorAll(what)].map(node => [node, seen(node)]).filter(([, box]) => box);
  const found = new Set();
  const controls = "button, a[href], input, select, textarea, [role=treeitem], [role=row][tabindex]";
  for (const [node, { left, top, right, bottom }] of all(controls)) {
    const name = node.getAttribute("aria-label") || node.textContent.slice(0, 40);
    if (left < 0 || top < 0 || right > innerWidth + 0.5 || bottom > innerHeight + 0.5)
      found.add(`${name} leaves the window`);
    for (const [u, v] of [[0.5, 0.5], [0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]]) {
      const over = document.elementFromPoint(left + u * (right - left), top + v * (bottom - top));
      if (over && !node.contains(over) && !over.contains(node) && !over.closest("label")?.contains(node))
        found.add(`${name} is under ${over.closest("[aria-label]")?.getAttribute("aria-label") ?? over.className}`);
    }
  }
  // What says how much is drawn takes no taps, and is not found so.
  for (const [, badge] of all(".badge"))
    for (const [node, box] of all(".toolbar button, .panel-opener, .framed, .panel, .time-strip"))
      if (badge.left < box.right && box.left < badge.right && badge.top < box.bottom && box.top < badge.bottom)
        found.add(`the badge lies over ${node.getAttribute("aria-label") ?? node.textContent.slice(0, 40)}`);
  return [...found];
}"""


@pytest.fixture(scope="module")
def rich(make_site):
    return make_site(2_000, heights=True, similar=True, meaning=True)


@pytest.mark.parametrize(
    "name", [one if one == "375x667" else pytest.param(one, marks=pytest.mark.slow) for one in SIZES]
)
def test_no_control_is_covered_by_open_panels(rich, opened: Open, name: str) -> None:
    size, touch = SIZES[name]
    it = opened(has_touch=touch, is_mobile=touch)
    it.page.set_viewport_size(size)
    found = {}
    for rest in STATES:
        it.goto("about:blank", ready=False)
        page = it.goto(rich.url(rest))
        it.settled()
        if covered := page.evaluate(COVERED):
            found[rest] = covered
    assert found == {}


def test_a_button_that_has_no_room_above_a_sheet_is_scrolled_to(rich, opened: Open) -> None:
    it = opened(has_touch=True, is_mobile=True)
    it.page.set_viewport_size({"width": 375, "height": 667})
    page = it.goto(rich.url("#d=3&p=5"))
    page.get_by_role("button", name="Help").tap()
    expect(page.get_by_role("dialog", name="Help")).to_be_visible()
