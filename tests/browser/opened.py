"""A page under test: nothing is read from it, and nothing is pointed at, before it is at rest."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, Request, expect

# A liveness limit, not a measure: a machine with other work takes longer, and passes.
LIMIT = 60.0
REST = Path(__file__).with_name("rest.js")

Position = tuple[float, float]
Box = dict[str, float]

BOXES = """selector => [...document.querySelectorAll(selector)].map(node => {
  const { x, y, width, height } = node.getBoundingClientRect();
  return { x, y, width, height };
}).filter(({ width, height }) => width > 0 && height > 0)"""


@dataclass(kw_only=True)
class Opened:
    """A page, and everything that it did which it must not."""

    page: Page
    requests: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    # A page is told nothing of the scripts that an `import()` of its own waits for: Playwright is.
    scripts: set[Request] = field(default_factory=set)

    def asked(self, request: Request) -> None:
        self.requests.append(request.url)
        if request.is_navigation_request() and request.frame == self.page.main_frame:
            # Of what the page before had asked for, nothing may be heard any more.
            self.scripts.clear()
        elif request.resource_type == "script":
            self.scripts.add(request)

    def answered(self, request: Request) -> None:
        self.scripts.discard(request)

    def goto(self, url: str, *, ready: bool = True) -> Page:
        self.page.goto(url)
        if ready:
            self.ready()
        return self.page

    def ready(self) -> None:
        """Wait until every tile of the view is drawn, and nothing of the page changes any more."""
        expect(self.page.locator(".badge:not(:has(.pulse))")).to_have_count(1)
        self.settled()

    def settled(self) -> None:
        """Wait until what the page shows is the same for some frames, and no timer, request or animation is open.

        Frames of the page too, and the scripts that come when a part of the page is first used.

        Raises
        ------
        AssertionError
            The page did not come to rest; with what still changed.
        """
        end = time.monotonic() + LIMIT
        while True:
            for frame in self.page.frames:
                why = frame.evaluate("limit => atRest(limit)", 1000 * LIMIT)
                assert not why, f"the page did not come to rest within {LIMIT:.0f} s: {why}"
            if not self.scripts:
                return
            open_ = sorted(request.url for request in self.scripts)
            assert time.monotonic() < end, f"these scripts did not come within {LIMIT:.0f} s: {open_}"

    def picture(self) -> Image.Image:
        """What is seen at rest, RGB: two pictures in a row that are the same."""
        self.settled()
        end = time.monotonic() + LIMIT
        before, now = b"", self.page.screenshot()
        while before != now:
            assert time.monotonic() < end, f"the picture still changes after {LIMIT:.0f} s"
            before, now = now, self.page.screenshot()
        return Image.open(io.BytesIO(now)).convert("RGB")

    def hover(self, where: Position | str) -> Locator:
        """Rest the pointer on a position or the middle of an element, and again where that moves; gives the card.

        Raises
        ------
        AssertionError
            No card is shown there.
        """
        self.point(where)
        card = self.page.locator(".hover-card")
        expect(card).to_have_count(1)
        return card

    def point(self, where: Position | str) -> None:
        """Rest the pointer on a position or the middle of an element, whether something is there or not."""
        place = self._position(where)
        while True:
            self.page.mouse.move(*place)
            now = self._position(where)
            if now == place:
                return
            place = now

    def _position(self, where: Position | str) -> Position:
        if not isinstance(where, str):
            self.settled()
            return where
        (box,) = self.boxes(where)
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def boxes(self, selector: str) -> list[Box]:
        """Where the elements of a selector that have a size are at rest, in px: at once, for frames replace nodes."""
        self.settled()
        return self.page.evaluate(BOXES, selector)

    def box(self, selector: str) -> Box:
        """Where the one element of a selector is at rest, in px."""
        (only,) = self.boxes(selector)
        return only

    def on_top(self, x: float, y: float) -> str | None:
        """The id of the element that lies over all others at a position."""
        self.settled()
        return self.page.evaluate("([x, y]) => document.elementFromPoint(x, y)?.id", [x, y])

    def address(self) -> str:
        """The page's address at rest, which it writes a while after each change."""
        self.settled()
        return self.page.evaluate("location.href")

    def view(self) -> tuple[float, float, float]:
        """The centre and the span of the view, in units of the map, as the address has them."""
        address = self.address()
        found = re.search(r"[#&]v=([^&]+)", address)
        assert found, f"the address {address} has no view"
        x, y, span = (float(value) for value in found[1].split(","))
        return x, y, span

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait for an event outside the page's own state, while the page's events are heard."""
        end = time.monotonic() + LIMIT
        while not happened():
            assert time.monotonic() < end, f"after {LIMIT:.0f} s: {what}"
            self.page.evaluate("() => new Promise(requestAnimationFrame)")
