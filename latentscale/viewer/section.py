"""Sections: the files and index entry that a feature of the page adds to each generation, under its own name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from latentscale.errors import ShapeError
from latentscale.viewer.data import ViewerData

Put = Callable[[str, bytes], None]
SECTION_BYTES = 16_000
"""What one section may add to ``index.json``, which every visitor reads: anything larger is a file of the section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """An entry of ``sections`` in a generation's ``index.json``, and the files that belong to it.

    Attributes
    ----------
    name : str
        Lower-case letters, digits and hyphens.
    version : int
        From 1; a page leaves an entry alone that is newer than it knows.
    write : callable
        ``write(data, put)`` returns the entry, a mapping that JSON can hold, or None if this generation has none.
        ``put(name, content)`` writes a whole object into ``sections/<name>/`` of the generation.
    """

    name: str
    version: int
    write: Callable[[ViewerData, Put], Mapping[str, Any] | None]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", self.name):
            raise ShapeError(f"the name of a section is of lower-case letters, digits and hyphens: {self.name!r}")
        if self.version < 1:
            raise ShapeError(f"the version of a section is 1 or more, and that of {self.name!r} is {self.version}")


def write_sections(sections: Iterable[Section], data: ViewerData, put: Put) -> dict[str, dict[str, Any]]:
    """Write what belongs to each of ``sections``; return their entries by name, each with its ``version``.

    Raises
    ------
    ShapeError
        If two have the same name, or an entry is not JSON, has a ``version`` of its own, or is of more than 16,000
        bytes.
    """
    entries: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for section in sections:
        if section.name in seen:
            raise ShapeError(f"two sections are called {section.name!r}")
        seen.add(section.name)

        def put_here(name: str, content: bytes, folder: str = f"sections/{section.name}/") -> None:
            put(folder + name, content)

        entry = section.write(data, put_here)
        if entry is None:
            continue
        if "version" in entry:
            raise ShapeError(f"the section {section.name!r} has a version, which is written for it")
        try:
            size = len(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode())
        except (TypeError, ValueError) as error:
            raise ShapeError(f"the section {section.name!r} is not JSON: {error}") from None
        if size > SECTION_BYTES:
            raise ShapeError(
                f"the section {section.name!r} would be {size:,} bytes of index.json, the limit is {SECTION_BYTES:,}",
                hint="Write a file with put(name, content), and read it when it is needed.",
            )
        entries[section.name] = {"version": section.version, **entry}
    return entries
