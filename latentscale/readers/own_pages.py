"""Detect folders of pages that LatentScale exported, whose files are not part of a corpus."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

MANIFEST = "manifest.json"
_DATA = re.compile(r"(?:^|/)(?:map|overlay)-[0-9a-f]{16}/viewer(?=/|$)")
# Other web applications have files of these names, too.
_FILES = {MANIFEST, "index.html"}
_GENERATIONS = re.compile(rb'\A\{"schema":\d+,.*"generations":\[', re.DOTALL)


def is_page(folder: str, names: Collection[str], read_manifest: Callable[[], bytes]) -> bool:
    """Whether a folder below a source is an exported page, or contains the data of one.

    Parameters
    ----------
    folder : str
        Path relative to the source.
    names : collection of str
        Names in the folder.
    read_manifest : callable
        Returns the content of its ``manifest.json``.
    """
    if not folder:
        return False
    return _DATA.search(folder) is not None or (set(names) >= _FILES and _is_manifest(read_manifest()))


def pages_of(names: Iterable[str], read: Callable[[str], bytes]) -> tuple[str, ...]:
    """Return the folders of pages among the names of objects, with trailing slashes.

    Parameters
    ----------
    read : callable
        Returns the content of an object.
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
