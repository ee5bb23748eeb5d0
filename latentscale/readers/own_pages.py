"""Pages that LatentScale exported: what lies in a folder of one is a map's, and no part of a corpus."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_DATA = re.compile(r"(?:^|/)map-[0-9a-f]{16}/viewer(?=/|$)")


def is_page(folder: str, names: Collection[str]) -> bool:
    """Whether a folder below a source is a page, or holds the data of one.

    Parameters
    ----------
    folder : str
        Its path below the source.
    names : collection of str
        What is in it.
    """
    return bool(folder) and (
        _DATA.search(folder) is not None or {"manifest.json", "index.html", "assets"} <= set(names)
    )


def pages_of(names: Iterable[str]) -> tuple[str, ...]:
    """The folders of pages among the names of objects, each with a slash at its end."""
    there = set(names)
    data = {found.string[: found.end()] for name in there if (found := _DATA.search(name)) is not None}
    pages = {
        name.removesuffix("manifest.json")
        for name in there
        if name.endswith("/manifest.json") and name.removesuffix("manifest.json") + "index.html" in there
    }
    return tuple(sorted({*(f"{folder}/" for folder in data), *pages}))
