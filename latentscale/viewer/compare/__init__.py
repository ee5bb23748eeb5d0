"""The page of two maps: two pages of maps in frames, and a list of what changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_PLACE = '<script type="application/json" id="facts">{}</script>'


def files(facts: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """The page as (name, content); the pages of the maps are beside it, in ``a/`` and ``b/``.

    Parameters
    ----------
    facts : mapping
        What ``latentscale.explore.compare_pages.write_comparison`` returns.
    """
    for name in ("compare.css", "compare.js"):
        yield name, (_FOLDER / name).read_bytes()
    page = (_FOLDER / "index.html").read_text(encoding="utf-8")
    # A text of the corpus could end the script that holds it.
    content = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    yield "index.html", page.replace(_PLACE, _PLACE.replace("{}", content)).encode()
