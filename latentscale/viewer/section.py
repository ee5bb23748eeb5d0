"""Sections: files and an index entry that a feature of the page adds to each generation under its own name."""

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
"""Limit of a section's entry in ``index.json``, which every visitor reads: larger data are files of the section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """An entry of ``sections`` in a generation's ``index.json``, and the files that belong to it.

    Attributes
    ----------
    name : str
        Lower-case letters, digits and hyphens.
    version : int
        From 1; a page ignores entries of newer versions than it knows.
    write : callable
        ``write(data, put)`` returns the entry, a JSON-serialisable mapping, or None if this generation has none.
        ``put(name, content)`` writes a whole object to ``sections/<name>/`` of the generation.
    """

    name: str
    version: int
    write: Callable[[ViewerData, Put], Mapping[str, Any] | None]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", self.name):
            raise ShapeError(f"the name of a section is lower-case letters, digits and hyphens, not {self.name!r}")
        if self.version < 1:
            raise ShapeError(f"the version of a section is 1 or more, but that of {self.name!r} is {self.version}")


def write_sections(sections: Iterable[Section], data: ViewerData, put: Put) -> dict[str, dict[str, Any]]:
    """Write the files of ``sections``; return their entries by name, each with its ``version``.

    Raises
    ------
    ShapeError
        If two have the same name, or an entry cannot be serialised as JSON, has a key ``version``, or exceeds 16,000
        bytes.
    """
    entries: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    for section in sections:
        if section.name in names:
            raise ShapeError(f"two sections have the name {section.name!r}")
        names.add(section.name)

        def put_here(name: str, content: bytes, folder: str = f"sections/{section.name}/") -> None:
            put(folder + name, content)

        entry = section.write(data, put_here)
        if entry is None:
            continue
        if "version" in entry:
            raise ShapeError(f"the entry of section {section.name!r} has the key 'version', which is added to it")
        try:
            size = len(json.dumps(entry, ensure_ascii=False, allow_nan=False).encode())
        except (TypeError, ValueError) as error:
            raise ShapeError(f"the entry of section {section.name!r} is not JSON: {error}") from None
        if size > SECTION_BYTES:
            raise ShapeError(
                f"the entry of section {section.name!r} would be {size:,} bytes of index.json, "
                f"the limit is {SECTION_BYTES:,}",
                hint="Write the data to a file with put(name, content).",
            )
        entries[section.name] = {"version": section.version, **entry}
    return entries
