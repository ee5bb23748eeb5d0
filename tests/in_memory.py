"""Temporary files of the fast tests lie in memory, where there is room: a map is flushed to its disk 160 times.

The slow tests write to a disk, as users do. So do all where ``TMPDIR`` is set.
"""

from __future__ import annotations

import atexit
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


def begin() -> None:
    """Make a folder in memory, and let temporary files be there, those of child processes too; None without room."""
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        # One of this number is of a process that is gone, and whose number this one has now.
        if number.isdigit() and (int(number) == os.getpid() or not psutil.pid_exists(int(number))):
            _delete(folder)
    if shutil.disk_usage(_MEMORY).free < _ROOM or psutil.virtual_memory().available < 2 * _ROOM:
        return
    folder = _MEMORY / f"{_PREFIX}{os.getpid()}"
    # For other users to enter, as some tests become one.
    folder.mkdir(mode=0o755)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    # Before what is imported from now on deletes its own: exits are called in reverse.
    atexit.register(_delete, folder)


def keep() -> None:
    """Leave the folder of a session with a failure to be looked at; the next session deletes it."""
    atexit.unregister(_delete)


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
