"""The link preview image (og:image) of a map's page: the map, its title and its size."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, cast

import numpy as np

from latentscale.storage.artifacts import Record
from latentscale.viewer.page import PICTURE, PICTURE_SIZE
from latentscale.viewer.palette import grey

if TYPE_CHECKING:
    from PIL import Image, ImageFont

WIDTH, HEIGHT = PICTURE_SIZE
# Part of the address: increase it if the drawing changes.
VERSION = 1
_THUMBNAIL = "thumbnail.png"
_MARGIN = 64
_TITLE_WIDTH = 400
_TITLE_SIZES = (62, 54, 46, 38)
_TITLE_LINES = 4
_BACKGROUND = grey("ground", theme="dark")
_INK, _MUTED, _ACCENT = (238, 240, 245), (160, 168, 182), (127, 178, 255)
# Width in px over which the map fades in next to the text.
_FADE = 130
# Size limit in bytes, met by reducing the number of colours: some sites omit large images.
MAX_BYTES = 150_000
_COLOURS = (256, 96, 32, 16)


def link_picture_address(record: Record, title: str) -> str | None:
    """Return the address of the picture relative to ``viewer/``; None if the map has no thumbnail to draw it from.

    The query string is a hash of the content of the picture, so that caches fetch a changed one. Not a hash of its
    bytes, which may depend on the version of the drawing library.
    """
    # Not from the list of parts: a map can be shown without it.
    if not record.store.exists(f"{record.folder}/{_THUMBNAIL}"):
        return None
    content = json.dumps([VERSION, record.id, title, _figures(record)]).encode()
    return f"{PICTURE}?{hashlib.sha256(content).hexdigest()[:10]}"


def draw_link_picture(record: Record, title: str) -> bytes:
    """Draw the picture from the map's thumbnail: a PNG of 1200 by 630 px, deterministic for a version of the library.

    A title with characters that are missing in the font is omitted: sites show it next to the picture anyway.
    """
    from PIL import Image, ImageDraw

    thumbnail = Image.open(io.BytesIO(record.store.read_bytes(f"{record.folder}/{_THUMBNAIL}"))).convert("RGB")
    lines, font = _title(title)
    figures, figures_font = _figures(record), _font(27)
    lines_with_font = [(line, font) for line in lines] + [(line, figures_font) for line in figures]
    picture = _compose(thumbnail, _MARGIN + max(line_font.getlength(line) for line, line_font in lines_with_font))
    draw = ImageDraw.Draw(picture)
    step = 1.16 * font.size
    top = (HEIGHT - step * len(lines) - 28 - 38 * len(figures)) / 2
    draw.rectangle((_MARGIN, top - 30, _MARGIN + 56, top - 25), fill=_ACCENT)
    for line in lines:
        # The font has a single weight: an outline makes it bolder.
        draw.text((_MARGIN, top), line, font=font, fill=_INK, stroke_width=1, stroke_fill=_INK)
        top += step
    top += 28
    for line in figures:
        draw.text((_MARGIN, top), line, font=figures_font, fill=_MUTED)
        top += 38
    return _png(picture)


def _compose(thumbnail: Image.Image, edge: float) -> Image.Image:
    """Place the thumbnail with its body centred right of ``edge``, and fade it out to the left of that for the text."""
    from PIL import Image

    scale = HEIGHT / thumbnail.height
    # The body excludes pixel columns of the few outlying points.
    columns = np.cumsum((np.asarray(thumbnail) != np.array(_BACKGROUND, np.uint8)).any(axis=2).sum(axis=0))
    low, high = np.searchsorted(columns, [0.005 * columns[-1], 0.995 * columns[-1]])
    centre = scale * (low + high) / 2
    resized = thumbnail.resize((round(thumbnail.width * scale), HEIGHT), Image.Resampling.LANCZOS)
    picture = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
    picture.paste(resized, (round((edge + 12 + WIDTH) / 2 - centre), 0))
    fade = np.clip((np.arange(WIDTH) - edge - 12) / _FADE, 0, 1)
    veil = np.broadcast_to(255 * (1 - fade * fade * (3 - 2 * fade)), (HEIGHT, WIDTH)).astype(np.uint8)
    picture.paste(Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND), mask=Image.fromarray(veil))
    return picture


def _figures(record: Record) -> list[str]:
    documents, clusters = int(record.counts["documents"]), int(record.counts.get("clusters", 0))
    figures = [f"{documents:,} {'document' if documents == 1 else 'documents'}"]
    return [*figures, f"{clusters:,} {'cluster' if clusters == 1 else 'clusters'}"] if clusters else figures


def _font(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size=size))


def _title(title: str) -> tuple[list[str], ImageFont.FreeTypeFont]:
    """Wrap the title; return its lines and the largest font in which they fit."""
    words = title.split()
    font = _font(_TITLE_SIZES[-1])
    if not all(_has_glyph(character, font) for character in set(title) if not character.isspace()):
        return [], font
    lines: list[str] = []
    for size in _TITLE_SIZES:
        font = _font(size)
        lines = []
        for word in words:
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and font.getlength(longer) <= _TITLE_WIDTH:
                lines[-1] = longer
            else:
                lines.append(word)
        if len(lines) <= _TITLE_LINES and all(font.getlength(line) <= _TITLE_WIDTH for line in lines):
            return lines, font
    # Too long in any size: truncate it.
    truncated = len(lines) > _TITLE_LINES
    lines = lines[:_TITLE_LINES]
    fitted = [_cut(line, font, more=truncated and i == len(lines) - 1) for i, line in enumerate(lines)]
    return fitted, font


def _cut(line: str, font: ImageFont.FreeTypeFont, *, more: bool) -> str:
    if not more and font.getlength(line) <= _TITLE_WIDTH:
        return line
    while line and font.getlength(f"{line}…") > _TITLE_WIDTH:
        line = line[:-1]
    return f"{line.rstrip()}…"


def _has_glyph(character: str, font: ImageFont.FreeTypeFont) -> bool:
    """Whether a font has a glyph for a character: for others it draws a replacement glyph."""
    from PIL import Image, ImageDraw

    def drawn(text: str) -> bytes:
        picture = Image.new("L", (96, 96))
        ImageDraw.Draw(picture).text((8, 8), text, font=font, fill=255)
        return picture.tobytes()

    return drawn(character) != drawn("\uffff")


def _png(picture: Image.Image) -> bytes:
    """Encode with an adaptive palette: a third of the bytes, and points of a cluster have the same colour."""
    from PIL import Image

    encoded = b""
    for colours in _COLOURS:
        out = io.BytesIO()
        quantised = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        quantised.save(out, format="PNG", compress_level=9)
        encoded = out.getvalue()
        if len(encoded) < MAX_BYTES:
            break
    return encoded
