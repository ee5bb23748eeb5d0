"""Pages that LatentScale exported: what lies in a folder of one is a map's, and no part of a corpus."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

MANIFEST = "manifest.json"
_DATA = re.compile(r"(?:^|/)(?:map|overlay)-[0-9a-f]{16}/viewer(?=/|$)")
# Web applications have files of these names, too.
_FILES = {MANIFEST, "index.html"}
_GENERATIONS = re.compile(rb'\A\{"schema":\d+,.*"generations":\[', re.DOTALL)


def is_page(folder: str, names: Collection[str], read_manifest: Callable[[], bytes]) -> bool:
    """Whether a folder below a source is a page, or holds the data of one.

    Parameters
    ----------
    folder : str
        Its path below the source.
    names : collection of str
        What is in it.
    read_manifest : callable
        Gives the content of its ``manifest.json``.
    """
    if not folder:
        return False
    return _DATA.search(folder) is not None or (set(names) >= _FILES and _is_manifest(read_manifest()))


def pages_of(names: Iterable[str], read: Callable[[str], bytes]) -> tuple[str, ...]:
    """The folders of pages among the names of objects, each with a slash at its end.

    Parameters
    ----------
    read : callable
        Gives the content of an object.
    """
    there = set(names)
    data = {found.string[: found.end()] for name in there if (found := _DATA.search(name)) is not None}
    folders = {name.removesuffix(MANIFEST) for name in there if name.endswith(f"/{MANIFEST}")}
    pages = {
        folder
        for folder in folders
        if all(f"{folder}{name}" in there for name in _FILES) and _is_manifest(read(f"{folder}{MANIFEST}"))
    }
    return tuple(sorted({*(f"{folder}/" for folder in data), *pages}))


def _is_manifest(data: bytes) -> bool:
    return _GENERATIONS.match(data) is not None
