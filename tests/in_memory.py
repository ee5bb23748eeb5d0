"""Temporary files of the fast tests lie in memory, where there is room: a map is flushed to its disk 160 times.

The slow tests write to a disk, as users do. So do all where ``TMPDIR`` is set.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil

_MEMORY = Path("/dev/shm")
# Short, as the names of sockets may not be long.
_PREFIX = "ls-"
# What all fast tests hold at once is far below it.
_ROOM = 4 << 30


def begin() -> Path | None:
    """Make a folder in memory, and let temporary files be there, those of child processes too; None without room."""
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return None
    _clear()
    if shutil.disk_usage(_MEMORY).free < _ROOM or psutil.virtual_memory().available < 2 * _ROOM:
        return None
    folder = _MEMORY / f"{_PREFIX}{os.getpid()}"
    folder.mkdir(mode=0o700)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    return folder


def end(folder: Path, *, keep: bool) -> None:
    """Delete the folder, unless a failure is to be looked at: then the next session does it."""
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)


def _clear() -> None:
    """Delete folders of sessions that have ended."""
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        if number.isdigit() and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
