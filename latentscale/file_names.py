"""Names of files as text: also those whose bytes are not UTF-8, short enough for a message, or quoted for a shell."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

SHOWN = 60
"""Characters of a name that a message shows."""

_ESCAPE = re.compile(rb"\\x([89a-f][0-9a-f])")


def escaped(name: str) -> str:
    r"""Write the bytes of a name that are not UTF-8 as ``\xe9``: text that every file and store can hold.

    Python gives such a byte as half of a surrogate pair, which is no text.
    """
    if name.isascii():
        return name
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair that stands for no byte
        return name.encode("utf-8", "replace").decode("utf-8")


def on_disk(name: str) -> str:
    """The name of a file on this disk that ``escaped`` wrote; a file that has the very name comes first."""
    if "\\x" not in name or os.path.lexists(name):
        return name
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), os.fsencode(name)))


def at_home(name: str | Path) -> Path:
    """A path on this disk: ``~`` is the home folder, unless there is none or a file has the very name."""
    path = Path(name)
    if not str(name).startswith("~") or os.path.lexists(path):
        return path
    try:
        return path.expanduser()
    except RuntimeError:  # no user of that name: it is the name of a file, such as ~draft.csv
        return path


def shown(name: object) -> str:
    """A name as a message shows it: on one line, without control characters, cut at 60 characters."""
    text = "".join(one if one.isprintable() else "\ufffd" for one in escaped(str(name)))
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def argument(name: object) -> str:
    """A name as a shell takes it, for a command in a message that a person copies."""
    return shlex.quote(str(name))
