"""A contact sheet: the pictures of the maps of a sweep beside their settings and figures, as one page."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from latentscale.errors import RequestError
from latentscale.explore.tables import FIGURES
from latentscale.explore.targets import check_new_file, check_no_document
from latentscale.storage.objects import Store

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }
body { margin: 1.5rem }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.25rem }
figure { margin: 0 }
img { width: 100%; border: 1px solid #8886 }
figcaption { overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 0.75rem; margin: 0.25rem 0; font-size: 0.9em }
dd { margin: 0 }
"""
_SHOWN = ("documents", "clusters", "noise_share", *FIGURES)


def check_sheet(path: Path, corpus: Mapping[str, Any]) -> None:
    """Refuse a file that cannot be written, before the maps are made.

    Parameters
    ----------
    corpus : mapping
        The settings of the corpus, of which the file must not be a part.

    Raises
    ------
    RequestError
        If it is no ``.html`` file, its folder does not exist or cannot be written to, or it would be read as documents.
    """
    if path.suffix.lower() != ".html":
        raise RequestError(f"a contact sheet is a page: {path} has another ending", hint="Name it sweep.html.")
    if not path.absolute().parent.is_dir():
        raise RequestError(
            f"there is no folder {path.absolute().parent} for the contact sheet", hint="Make it, or name another."
        )
    check_new_file(path)
    check_no_document(path, corpus)


def write_sheet(store: Store, frame: pl.DataFrame, to: Path) -> None:
    """Write the maps of a sweep as one HTML file with their pictures in it.

    Parameters
    ----------
    frame : polars.DataFrame
        As ``Workspace.sweep`` gives it: settings have a dot in their names.
    """
    figures = "\n".join(_figure(store, row) for row in frame.iter_rows(named=True))
    title = html.escape(f"{len(frame)} maps of {store.url}")
    # Renamed when it is whole: a killed command leaves no half of a page.
    unfinished = to.with_name(f".unfinished-{to.name}")
    unfinished.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        'style-src \'unsafe-inline\'"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1><main>\n{figures}\n</main></body></html>\n",
        encoding="utf-8",
    )
    unfinished.replace(to)


def _figure(store: Store, row: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name} = {value}" for name, value in row.items() if "." in name)
    picture = base64.b64encode(store.read_bytes(f"maps/{row['map']}/thumbnail.png")).decode()
    shown = [(name.replace("_", " "), _number(row[name])) for name in _SHOWN if row.get(name) is not None]
    shown += [("map", row["name"] or row["map"])]
    terms = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in shown)
    flags: Sequence[str] = row["red_flags"]
    warned = "".join(f"<li>{html.escape(flag)}</li>" for flag in flags)
    said = html.escape(f"map with {settings}", quote=True)
    return (
        f'<figure><img alt="{said}" src="data:image/png;base64,{picture}">'
        f"<figcaption><strong>{html.escape(settings)}</strong><dl>{terms}</dl>"
        f"{f'<ul>{warned}</ul>' if warned else ''}</figcaption></figure>"
    )


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
