"""The page that compares two maps: their pages in two frames, and a list of changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_PLACEHOLDER = '<script type="application/json" id="facts">{}</script>'


def files(facts: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the page as (name, content); the pages of the maps are next to it, in ``a/`` and ``b/``.

    Parameters
    ----------
    facts : mapping
        As returned by ``latentscale.explore.compare_pages.write_comparison``.
    """
    for name in ("compare.css", "compare.js"):
        yield name, (_FOLDER / name).read_bytes()
    page = (_FOLDER / "index.html").read_text(encoding="utf-8")
    # Escaped, since a text of the corpus could end the script element.
    content = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    yield "index.html", page.replace(_PLACEHOLDER, _PLACEHOLDER.replace("{}", content)).encode()
