"""What a checker of accessibility (axe) objects to in a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

AXE = Path(__file__).parents[2] / "latentscale/viewer/web/node_modules/axe-core/axe.min.js"


# What says nothing of a page: text that is cut where a list scrolls, below the panel's own edge, and single digits.
NOTHING = "n.any.some(a => /^(elmPartiallyObscured|shortTextContent)$/.test(a.data?.messageKey))"


def faults(page: Page, *within: str) -> list[object]:
    """What axe objects to in the page, and what it could not tell in parts of it, contrast included.

    Contrast it can tell of nothing that lies over a canvas without a ground of its own: then of what it could.
    """
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (npm ci in latentscale/viewer/web)")
    page.evaluate(AXE.read_text())
    told = "map(v => [v.id, v.nodes.map(n => [n.html, n.any.map(a => a.message)])])"
    found = page.evaluate(f"() => axe.run(document).then(r => r.violations.{told})")
    whole = f"r.incomplete.map(v => ({{ ...v, nodes: v.nodes.filter(n => !{NOTHING}) }})).filter(v => v.nodes.length)"
    for part in within:
        found += page.evaluate(f"part => axe.run(part).then(r => {whole}.{told})", part)
    return found
