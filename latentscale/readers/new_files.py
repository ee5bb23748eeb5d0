"""Check whether a file to be written would become part of a corpus."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from latentscale.config import protocol_of
from latentscale.readers.formats import chosen_format, fits
from latentscale.readers.inputs import DEMO
from latentscale.readers.local_files import WILDCARD, Walk, expanded, fixed_folder, name_below
from latentscale.readers.unread import Unread


def reading_source(file: Path, sources: Iterable[str], format: str, *, follow_links: bool | None) -> str | None:
    """Return the source that would include this file, or None.

    Decided by names alone, ignoring the priority of format groups. The folders of a source are listed only if they
    may contain links to the file that would be followed.

    Parameters
    ----------
    file : Path
        A local path, which need not exist.
    sources, format, follow_links
        As in the corpus settings.
    """
    real = os.path.realpath(file)
    for source in sources:
        if source != DEMO and not protocol_of(source) and _reads(source, real, format, follow_links=follow_links):
            return source
    return None


def _reads(source: str, real: str, format: str, *, follow_links: bool | None) -> bool:
    root, pattern = expanded(source), None
    if not Path(root).exists() and WILDCARD.search(root):
        fixed = fixed_folder(root)
        root, pattern = fixed, root[len(fixed) :].lstrip("/")
    name = name_below(real, os.path.realpath(root))
    if name == "":
        return True
    if not Path(root).is_dir():
        return False
    walk = Walk(root, Unread(), follow=follow_links, pattern=pattern)
    names = itertools.chain(() if name is None else (name,), walk.linked_names(real))
    return any(
        (pattern is not None or fits(one, format))
        and chosen_format(one, format) is not None
        and walk.would_include(one)
        for one in names
    )
