"""Count the files of a source that are not read, by type with an example, so that they can be reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentscale.file_names import escaped, shown
from latentscale.readers.formats import ending

LINK_OUT = "links out of the folder"
LINK_LOST = "links that lead nowhere"
LINK_AGAIN = "links to what is read already"
LINK_FOLDER = "links to folders"
KERNEL = "files of the kernel"
SPECIAL = "pipes, sockets and devices"
WORKSPACE = "LatentScale workspaces"
PAGE = "LatentScale pages"
HIDDEN = "hidden files"
SHOWN = 5


class Unread:
    """Files that were found and are not read."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}

    def add(self, kind: str, name: str) -> None:
        """Count one of ``kind``."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._examples.setdefault(kind, escaped(name))

    def add_file(self, name: str, why: str = "") -> None:
        """Count a file by its ending."""
        self.add(f"{ending(name)} {why}".strip(), name)

    def update(self, other: Unread) -> None:
        """Add all of another count."""
        for kind, count in other._counts.items():
            self._counts[kind] = self._counts.get(kind, 0) + count
            self._examples.setdefault(kind, other._examples[kind])

    def __len__(self) -> int:
        return sum(self._counts.values())

    @property
    def kinds(self) -> Mapping[str, int]:
        """Number of files of each type."""
        return self._counts

    def __str__(self) -> str:
        largest = sorted(self._counts.items(), key=lambda item: -item[1])
        said = [f"{count:,} {kind} ({shown(self._examples[kind])})" for kind, count in largest[:SHOWN]]
        rest = sum(count for _, count in largest[SHOWN:])
        return ", ".join(said) + (f", {rest:,} others" if rest else "")

    def as_json(self) -> list[dict[str, Any]]:
        """Return plain values for the record of a run."""
        return [{"kind": k, "files": count, "example": self._examples[k]} for k, count in self._counts.items()]
