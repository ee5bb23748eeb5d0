"""What a checker of accessibility (axe) objects to in a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

AXE = Path(__file__).parents[2] / "latentscale/viewer/web/node_modules/axe-core/axe.min.js"


# One run tells both: each takes as long as opening the page. What says nothing of a page: text that is cut where a list
# scrolls, below the panel's own edge, and single digits.
ASK = """async within => {
  const { violations, incomplete } = await axe.run(document, { elementRef: true });
  const told = (rules, nodes) => rules
    .map(v => [v.id, v.nodes.filter(nodes).map(n => [n.html, n.any.map(a => a.message)])])
    .filter(([, nodes]) => nodes.length);
  const inside = n => within.some(part => n.element.closest(part));
  const nothing = n => n.any.some(a => /^(elmPartiallyObscured|shortTextContent)$/.test(a.data?.messageKey));
  return [...told(violations, () => true), ...told(incomplete, n => inside(n) && !nothing(n))];
}"""


def faults(page: Page, *within: str) -> list[object]:
    """What axe objects to in the page, and what it could not tell in parts of it, contrast included.

    Contrast it can tell of nothing that lies over a canvas without a ground of its own: then of what it could.
    """
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm ci in latentscale/viewer/web)")
    page.evaluate(AXE.read_text())
    return page.evaluate(ASK, list(within))


# Of contrast that axe could not tell, the nodes are marked to be measured.
OPEN = """async () => {
  const said = v => [v.id, v.nodes.map(n => [n.html, n.any.map(a => a.message)])];
  // Each frame is asked by itself, so that none need be asked from outside.
  const rules = { "frame-tested": { enabled: false } };
  const { violations, incomplete } = await axe.run(document, { elementRef: true, iframes: false, rules });
  const contrast = incomplete.filter(v => v.id === "color-contrast").flatMap(v => v.nodes);
  for (const node of document.querySelectorAll("[data-measured]")) node.removeAttribute("data-measured");
  for (const { element } of contrast) element.setAttribute("data-measured", "");
  const other = incomplete.filter(v => v.id !== "color-contrast");
  return [[...violations.map(said), ...other.map(said)], contrast.length];
}"""


def undecided(page: Page) -> tuple[list[object], int]:
    """What axe objects to in all frames of a page, and how many texts it could not tell the contrast of.

    These have the attribute ``data-measured`` afterwards. What it could not tell of anything else is an objection.
    """
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm ci in latentscale/viewer/web)")
    objections: list[object] = []
    count = 0
    for frame in page.frames:
        frame.evaluate(AXE.read_text())
        found, some = frame.evaluate(OPEN)
        objections += found
        count += some
    return objections, count
