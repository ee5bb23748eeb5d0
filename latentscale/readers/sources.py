"""Classify a corpus passed from Python as files or data in memory."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from latentscale.errors import RequestError
from latentscale.file_names import at_home
from latentscale.readers.formats import format_of
from latentscale.readers.inputs import DEMO

_URL = re.compile(r"\w+://\S+")
_WILDCARD = re.compile(r"[*?\[]")
# Strings longer than any path are texts.
_LONGEST_PATH = 1_024


def are_files(corpus: Any) -> bool:
    """Whether a corpus is a path, or a list of paths; anything else is data.

    Strings are files if they exist or look like paths, and texts if none does.

    Raises
    ------
    RequestError
        If only some of the strings are files.
    """
    if isinstance(corpus, str | Path):
        return True
    if not isinstance(corpus, Sequence) or not corpus or not all(isinstance(item, str | Path) for item in corpus):
        return False
    items = cast("Sequence[str | Path]", corpus)
    files = [isinstance(item, Path) or _names_a_file(item) for item in items]
    if all(files) or not any(files):
        return files[0]
    file, text = (str(items[files.index(value)])[:60] for value in (True, False))
    raise RequestError(
        f"{sum(files):,} of these {len(files):,} strings name files, such as {file!r}, and the others, such as "
        f"{text!r}, do not",
        hint="For texts write texts=[…]; for files check the paths.",
    )


def _names_a_file(item: str) -> bool:
    if item == DEMO or _URL.fullmatch(item):
        return True
    if not item.strip() or len(item) > _LONGEST_PATH or "\n" in item or "\0" in item:
        return False
    bare = not re.search(r"\s", item)
    if bare and format_of(item)[0] is not None:
        # A missing file is reported as such, instead of a corpus of one word.
        return True
    path = at_home(item)
    return path.exists() or (bare and bool(_WILDCARD.search(item)) and bool(glob.glob(str(path))))  # noqa: PTH207


def files_of(corpus: Any) -> list[str]:
    """Return the paths of a corpus of files.

    Raises
    ------
    RequestError
        If it is data.
    """
    if not are_files(corpus):
        raise RequestError(
            f"a plan looks at files, this is a {type(corpus).__name__}",
            hint="Write it to a parquet file and plan that.",
        )
    return [str(item) for item in ([corpus] if isinstance(corpus, str | Path) else corpus)]
