"""The overview page of several maps: plain HTML and CSS without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from latentscale.viewer.page import page_icon

_POLICY = "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The entry of a map on the overview page.

    Attributes
    ----------
    id, name : str
    href : str
        Address of its page, relative to this one.
    picture : str or None
        Relative address of its thumbnail.
    current : bool
        Whether it is the current map of the workspace.
    created : str
        ISO 8601, UTC.
    documents, clusters : int
    noise_share, trustworthiness : float or None
        From 0 to 1.
    about : sequence of (name, value)
        The settings that differ between the maps.
    """

    id: str
    name: str
    href: str
    picture: str | None
    current: bool
    created: str
    documents: int
    clusters: int
    noise_share: float | None
    trustworthiness: float | None
    about: Sequence[tuple[str, str]]


def gallery_files(title: str, cards: Sequence[Card]) -> Iterator[tuple[str, bytes]]:
    """The files of the page as (name, content); names and titles are HTML-escaped."""
    yield "gallery.css", _STYLE.encode()
    maps = "1 map" if len(cards) == 1 else f"{len(cards)} maps"
    yield (
        "index.html",
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="dark light">\n'
            f"<title>{escape(title)}</title>\n{page_icon()}\n"
            '<link rel="stylesheet" href="./gallery.css">\n</head>\n<body>\n'
            f'<header><h1 dir="auto">{escape(title)}</h1><p>{maps}</p></header>\n<main>\n<ul>\n'
            + "".join(map(_card, cards))
            + "</ul>\n</main>\n</body>\n</html>\n"
        ).encode(),
    )


def _card(card: Card) -> str:
    picture = f'<img src="{escape(card.picture)}" alt="" loading="lazy">' if card.picture else ""
    figures = [f"{card.documents:,} documents", f"{card.clusters:,} clusters"]
    if card.noise_share is not None:
        figures.append(f"{card.noise_share:.0%} noise")
    if card.trustworthiness is not None:
        figures.append(f"trustworthiness {card.trustworthiness:.3f}")
    about = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in card.about)
    created = card.created[:16].replace("T", " ")
    return (
        f'<li><a href="{escape(card.href)}">{picture}<strong dir="auto">{escape(card.name)}</strong></a>'
        f"<p>{' · '.join(figures)}</p>"
        f"<p><time>{escape(created)} UTC</time> · {escape(card.id)}{' · <b>current</b>' if card.current else ''}</p>"
        f"{f'<dl>{about}</dl>' if about else ''}</li>\n"
    )


_STYLE = """\
:root {
  --ground: light-dark(#fbfbf9, #0e1117);
  --surface: light-dark(#ffffff, #161a22);
  --line: light-dark(#e3e5e8, #262c38);
  --ink: light-dark(#1b2029, #e6e9ef);
  --muted: light-dark(#5f6878, #939cab);
  --accent: light-dark(#1f5fbf, #7fb2ff);
  color-scheme: light dark;
  font: 14px/1.45 Inter, ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    Arial, sans-serif;
}
* { box-sizing: border-box; margin: 0; }
body { background: var(--ground); color: var(--ink); padding: 24px clamp(12px, 4vw, 48px); }
h1 { font-size: 22px; letter-spacing: -0.015em; }
p, dl { color: var(--muted); font-size: 13px; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
ul { list-style: none; padding: 0; margin-top: 20px; display: grid; gap: 20px;
  grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); }
li { padding: 0 16px 14px; background: var(--surface); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; }
a { display: block; margin: 0 -16px; color: inherit; text-decoration: none; }
a:focus-visible { outline: 2px solid var(--accent); outline-offset: -2px; border-radius: 10px; }
img { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: cover; }
strong { display: block; padding: 10px 16px 2px; font-size: 16px; font-weight: 650; overflow-wrap: anywhere; }
a:hover strong { color: var(--accent); }
b { color: var(--ink); font-weight: 600; }
dl { margin-top: 8px; padding-top: 8px; border-top: 1px solid var(--line); }
dl div { display: grid; grid-template-columns: 96px 1fr; gap: 8px; }
dd { color: var(--ink); }
"""
