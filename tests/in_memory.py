"""Temporary files of the fast tests are in memory, if there is space: a map is flushed to disk 160 times.

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
    """Put temporary files, including those of child processes, into a folder in memory, if there is enough."""
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        number = folder.name.removeprefix(_PREFIX)
        # A folder with our own process id is that of an ended process.
        if number.isdigit() and (int(number) == os.getpid() or not psutil.pid_exists(int(number))):
            _delete(folder)
    if shutil.disk_usage(_MEMORY).free < _ROOM or psutil.virtual_memory().available < 2 * _ROOM:
        return
    folder = _MEMORY / f"{_PREFIX}{os.getpid()}"
    # Accessible to other users, since some tests change their user.
    folder.mkdir(mode=0o755)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    # Registered first, so that it runs after the exit handlers of later imports.
    atexit.register(_delete, folder)


def keep() -> None:
    """Keep the folder of a failed session for inspection; the next session deletes it."""
    atexit.unregister(_delete)


def _delete(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
