"""The picture that is seen where the address of a map's page is shared: the map, its title, and how large it is."""

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
# A picture that is drawn in another way has another address.
VERSION = 1
_THUMBNAIL = "thumbnail.png"
_MARGIN = 64
_TITLE_WIDTH = 400
_TITLE_SIZES = (62, 54, 46, 38)
_TITLE_LINES = 4
_GROUND = grey("ground", theme="dark")
_INK, _MUTED, _ACCENT = (238, 240, 245), (160, 168, 182), (127, 178, 255)
# Beside the text the map comes out of the ground over so many pixels.
_RISE = 130
# Fewer where it is larger than this otherwise: some sites leave out large pictures.
MOST_BYTES = 150_000
_COLOURS = (256, 96, 32, 16)


def link_picture_address(record: Record, title: str) -> str | None:
    """Address of the picture relative to ``viewer/``; None for a map without a thumbnail, of which none is made.

    After ``?`` it says what the picture was drawn from: those who keep pictures by their address ask again for another
    one. Not its bytes, which another version of the drawing library may write otherwise.
    """
    # Not by the list of parts, without which a map can be shown, too.
    if not record.store.exists(f"{record.folder}/{_THUMBNAIL}"):
        return None
    shown = json.dumps([VERSION, record.id, title, _figures(record)]).encode()
    return f"{PICTURE}?{hashlib.sha256(shown).hexdigest()[:10]}"


def draw_link_picture(record: Record, title: str) -> bytes:
    """Draw the picture from the map's thumbnail: a PNG of 1200 by 630, the same bytes for the same map and library.

    A title in signs that the font does not have is left out: whoever shows the link writes it beside the picture.
    """
    from PIL import Image, ImageDraw

    thumbnail = Image.open(io.BytesIO(record.store.read_bytes(f"{record.folder}/{_THUMBNAIL}"))).convert("RGB")
    lines, font = _title(title)
    figures, figures_font = _figures(record), _font(27)
    written = [(line, font) for line in lines] + [(line, figures_font) for line in figures]
    picture = _beside(thumbnail, _MARGIN + max(own.getlength(line) for line, own in written))
    draw = ImageDraw.Draw(picture)
    step = 1.16 * font.size
    top = (HEIGHT - step * len(lines) - 28 - 38 * len(figures)) / 2
    draw.rectangle((_MARGIN, top - 30, _MARGIN + 56, top - 25), fill=_ACCENT)
    for line in lines:
        # The font has one weight: an edge of its own colour makes it bolder.
        draw.text((_MARGIN, top), line, font=font, fill=_INK, stroke_width=1, stroke_fill=_INK)
        top += step
    top += 28
    for line in figures:
        draw.text((_MARGIN, top), line, font=figures_font, fill=_MUTED)
        top += 38
    return _png(picture)


def _beside(thumbnail: Image.Image, edge: float) -> Image.Image:
    """The thumbnail, its body in the middle of what is right of ``edge``; hidden up to there, for what is written."""
    from PIL import Image

    scale = HEIGHT / thumbnail.height
    # Without the columns of the few points that are far from all others.
    columns = np.cumsum((np.asarray(thumbnail) != np.array(_GROUND, np.uint8)).any(axis=2).sum(axis=0))
    low, high = np.searchsorted(columns, [0.005 * columns[-1], 0.995 * columns[-1]])
    body = scale * (low + high) / 2
    small = thumbnail.resize((round(thumbnail.width * scale), HEIGHT), Image.Resampling.LANCZOS)
    picture = Image.new("RGB", (WIDTH, HEIGHT), _GROUND)
    picture.paste(small, (round((edge + 12 + WIDTH) / 2 - body), 0))
    along = np.clip((np.arange(WIDTH) - edge - 12) / _RISE, 0, 1)
    veil = np.broadcast_to(255 * (1 - along * along * (3 - 2 * along)), (HEIGHT, WIDTH)).astype(np.uint8)
    picture.paste(Image.new("RGB", (WIDTH, HEIGHT), _GROUND), mask=Image.fromarray(veil))
    return picture


def _figures(record: Record) -> list[str]:
    documents, clusters = int(record.counts["documents"]), int(record.counts.get("clusters", 0))
    figures = [f"{documents:,} {'document' if documents == 1 else 'documents'}"]
    return [*figures, f"{clusters:,} {'cluster' if clusters == 1 else 'clusters'}"] if clusters else figures


def _font(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size=size))


def _title(title: str) -> tuple[list[str], ImageFont.FreeTypeFont]:
    """Lines of the title, and the largest font in which they have room."""
    words = title.split()
    font = _font(_TITLE_SIZES[-1])
    if not all(_is_drawn(sign, font) for sign in set(title) if not sign.isspace()):
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
    # Too long in any size: what has room, and a sign that there is more.
    cut = len(lines) > _TITLE_LINES
    lines = lines[:_TITLE_LINES]
    shown = [_cut(line, font, more=cut and i == len(lines) - 1) for i, line in enumerate(lines)]
    return shown, font


def _cut(line: str, font: ImageFont.FreeTypeFont, *, more: bool) -> str:
    if not more and font.getlength(line) <= _TITLE_WIDTH:
        return line
    while line and font.getlength(f"{line}…") > _TITLE_WIDTH:
        line = line[:-1]
    return f"{line.rstrip()}…"


def _is_drawn(sign: str, font: ImageFont.FreeTypeFont) -> bool:
    """Whether a font has a sign: for others it draws the one that stands for all that it lacks."""
    from PIL import Image, ImageDraw

    def drawn(text: str) -> bytes:
        picture = Image.new("L", (96, 96))
        ImageDraw.Draw(picture).text((8, 8), text, font=font, fill=255)
        return picture.tobytes()

    return drawn(sign) != drawn("\uffff")


def _png(picture: Image.Image) -> bytes:
    """Of few colours, chosen for this picture: a third of the bytes, and points of one cluster have one colour."""
    from PIL import Image

    written = b""
    for colours in _COLOURS:
        out = io.BytesIO()
        few = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(out, format="PNG", compress_level=9)
        written = out.getvalue()
        if len(written) < MOST_BYTES:
            break
    return written
