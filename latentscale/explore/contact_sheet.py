"""A contact sheet of a sweep: an HTML file with the thumbnails, settings and quality figures of its maps."""

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
    """Check that a contact sheet can be written, before the maps are computed.

    Parameters
    ----------
    path : Path
    corpus : mapping
        The corpus settings; the file must not be part of the corpus.

    Raises
    ------
    RequestError
        If the suffix is not ``.html``, the folder does not exist or is not writable, or the file would be read as
        documents.
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
    """Write the contact sheet as one HTML file with embedded thumbnails.

    Parameters
    ----------
    frame : polars.DataFrame
        As returned by ``Workspace.sweep``; columns with a dot in their names are settings.
    """
    figures = "\n".join(_figure(store, row) for row in frame.iter_rows(named=True))
    title = html.escape(f"{len(frame)} maps of {store.url}")
    # Renamed when complete: a killed command leaves no partial page.
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
