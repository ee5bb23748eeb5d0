"""Contrast of painted text over a canvas, which checkers of styles cannot measure."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Frame, Page

from tests.browser.opened import Opened

# Of WCAG 2.2, 1.4.3: what is large has 24 px, or 18.66 px and bold.
LEAST, LEAST_LARGE = 4.5, 3.0
# Screen pixels a CSS pixel: with one, strokes of small text are nowhere painted in their whole colour.
SCALE = 2
# Of the pixels around a text, so many may be worse: where a few lie on the edge of what is behind them.
SPARED = 0.05

# The parts of the marked texts that are seen: cut where an area that scrolls ends, and at the window's edges.
TEXTS = """() => [...document.querySelectorAll("[data-measured]")].map(node => {
  const within = (a, b) => [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
  const corners = ({ left, top, right, bottom }) => [left, top, right, bottom];
  const clips = [[0, 0, innerWidth, innerHeight]];
  for (let at = node; at; at = at.parentElement)
    if (getComputedStyle(at).overflow !== "visible") clips.push(corners(at.getBoundingClientRect()));
  const boxes = [];
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    boxes.push(...[...range.getClientRects()].map(rect => clips.reduce(within, corners(rect))));
  }
  const style = getComputedStyle(node);
  const size = parseFloat(style.fontSize);
  return {
    text: node.textContent.slice(0, 60),
    large: size >= 24 || (size >= 18.66 && +style.fontWeight >= 700),
    boxes: style.visibility === "hidden" ? [] : boxes.filter(box => box[2] - box[0] > 1 && box[3] - box[1] > 1),
  };
})"""
# By script: the policy of the page allows it no style of others.
PAINT = """hide => {
  const none = { "-webkit-text-fill-color": "transparent", "text-decoration-color": "transparent", transition: "none" };
  for (const node of document.querySelectorAll("[data-measured]"))
    for (const part of [node, ...node.querySelectorAll("*")])
      for (const [name, value] of Object.entries(part.ownerSVGElement ? { ...none, fill: "transparent" } : none))
        if (hide) part.style.setProperty(name, value, "important");
        else part.style.removeProperty(name);
}"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A text, the contrast of its colour with what is painted right around its strokes, and what that must be."""

    text: str
    contrast: float
    least: float


def measured(it: Opened) -> list[Measured]:
    """Measure the texts that have the attribute ``data-measured``, in all frames; those that are not seen are left out.

    A text is where the picture changes when the texts are painted transparent, halos and grounds as they were. Its
    colour is that of the pixels that change most; what it is read against are the pixels without the text up to one CSS
    pixel beside it, the worst twentieth of them left out.
    """
    shown = _picture(it.page)
    texts = [(one, _offset(frame)) for frame in it.page.frames for one in frame.evaluate(TEXTS)]
    for frame in it.page.frames:
        frame.evaluate(PAINT, True)
    bare = _picture(it.page)
    for frame in it.page.frames:
        frame.evaluate(PAINT, False)
    change = np.abs(shown.astype(int) - bare).max(axis=2)
    found = []
    for text, (x, y) in texts:
        ratios = [
            ratio
            for left, top, right, bottom in text["boxes"]
            if (ratio := _contrast(shown, bare, change, (left + x, top + y, right + x, bottom + y))) is not None
        ]
        if ratios:
            least = LEAST_LARGE if text["large"] else LEAST
            found.append(Measured(text=text["text"], contrast=min(ratios), least=least))
    return found


def _contrast(
    shown: NDArray[np.uint8], bare: NDArray[np.uint8], change: NDArray[np.int_], box: tuple[float, float, float, float]
) -> float | None:
    left, top, right, bottom = (round(SCALE * v) for v in box)
    part = np.s_[top:bottom, left:right]
    painted = change[part]
    if not painted.size or painted.max() < 8:
        # Nothing of the text is to be seen: it has nearly the colour of what is behind it, or something lies over it.
        return 1.0 if painted.any() else None
    colour = np.median(shown[part][painted >= 0.96 * painted.max()], axis=0)
    around = _spread(painted > 0.3 * painted.max(), SCALE) & (painted < 0.1 * painted.max())
    ratios = _ratio(_luminance(colour), _luminance(bare[part][around]))
    return float(np.quantile(ratios, SPARED))


def _spread(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """A mask and all that lies up to ``by`` pixels beside it, in rows and columns."""
    for axis in (0, 1):
        wide = mask.copy()
        for step in range(1, by + 1):
            cut = [slice(None)] * 2
            kept = [slice(None)] * 2
            cut[axis], kept[axis] = slice(step, None), slice(None, -step)
            wide[tuple(cut)] |= mask[tuple(kept)]
            wide[tuple(kept)] |= mask[tuple(cut)]
        mask = wide
    return mask


def _luminance(rgb: NDArray[np.floating] | NDArray[np.uint8]) -> NDArray[np.float64]:
    """Relative luminance by WCAG of sRGB from 0 to 255, the channels last."""
    part = np.asarray(rgb, float) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return (np.maximum(a, b) + 0.05) / (np.minimum(a, b) + 0.05)


def _picture(page: Page) -> NDArray[np.uint8]:
    """The window as it is, shape (height, width, 3), with ``SCALE`` pixels a CSS pixel: two pictures that are alike."""
    before, now = b"", page.screenshot()
    while before != now:
        before, now = now, page.screenshot()
    picture = np.asarray(Image.open(io.BytesIO(now)).convert("RGB"))
    assert picture.shape[1] == SCALE * page.evaluate("innerWidth"), "the page has another scale"
    return picture


def _offset(frame: Frame) -> tuple[float, float]:
    if frame.parent_frame is None:
        return 0.0, 0.0
    box = frame.frame_element().bounding_box()
    assert box, "a frame without a place"
    return box["x"], box["y"]
