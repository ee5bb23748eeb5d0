"""Sets of files on this machine's disk that its processes share: written once, mapped by all, removed at the end."""

from __future__ import annotations

import getpass
import json
import mmap
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
from numpy.typing import NDArray

from latentscale.errors import ResourceError

if sys.platform != "win32":
    import fcntl

VARIABLE = "LATENTSCALE_SCRATCH"
"""Names the folder; by default one of this user in the system's folder for temporary files."""
STALE_AFTER = 86_400.0
"""Seconds after which a set that no process uses is removed."""

_UNFINISHED = ".unfinished"
_LOCK = ".lock"
_FACTS = "facts.json"


def scratch_folder(chosen: Path | str | None = None) -> Path:
    """The folder of shared sets: ``chosen``, or what the environment names, or one of this user below ``tempdir``.

    Raises
    ------
    ResourceError
        If it cannot be made, or belongs to another user.
    """
    named = chosen or os.environ.get(VARIABLE)
    user = str(os.getuid()) if sys.platform != "win32" else getpass.getuser()
    folder = Path(named) if named else Path(tempfile.gettempdir(), f"latentscale-{user}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from error
    # Everyone may make a folder in /tmp: one that another user made would hand us what that user likes.
    if sys.platform != "win32" and not named and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise _unusable(folder, "another user owns it or may write to it")
    return folder


def _unusable(folder: Path, reason: str) -> ResourceError:
    return ResourceError(
        f"the scratch folder {folder} cannot be used: {reason}", hint=f"Name another folder: {VARIABLE}=/path."
    )


@dataclass(slots=True)
class SharedFiles:
    """A whole set that this process uses: no other removes it meanwhile.

    Attributes
    ----------
    folder : Path
    facts : mapping
        What its writer said of it.
    """

    folder: Path
    facts: Mapping[str, Any]
    _lock: int

    def map(self, name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Map a file as an array: its pages are shared with all processes, and nothing is read before it is used.

        A write would stay in this process and never reach the file; compiled code takes no array that it may not
        write to.
        """
        length = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with (self.folder / name).open("rb") as file:
            if sys.platform == "win32":
                held = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY)
            else:
                # Otherwise the kernel reserves memory for all of it.
                flags = mmap.MAP_PRIVATE | (0x4000 if sys.platform == "linux" else 0)  # MAP_NORESERVE
                held = mmap.mmap(file.fileno(), length, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        return np.frombuffer(held, dtype=dtype).reshape(shape)

    def close(self) -> None:
        """Release the set; mapped arrays stay valid."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def share_files(scratch: Path, name: str, write: Callable[[Path], Mapping[str, Any]]) -> SharedFiles:
    """Find a set of files of this machine, or write it; waits while another process writes it.

    Kernel locks tell who writes and who uses a set: they end with their process, however that ends. A set is written
    to a folder of another name, which is renamed when it is complete.

    Parameters
    ----------
    scratch : Path
        From ``scratch_folder``.
    name : str
        Equal names mean equal bytes.
    write : callable
        Writes the files into a folder and returns facts, as JSON can hold them.
    """
    if sys.platform == "win32":
        name = f"{name}-{os.getpid()}"
    folder, path = scratch / name, scratch / f"{name}{_LOCK}"
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _take(lock, exclusive=False)
            facts = _read_facts(folder) if _is_current(lock, path) else None
            if facts is None:
                # Not waited for: whoever is faster writes the set and then keeps its lock for as long as it uses it.
                # Who waits to write it, perhaps another thread of the same process, would wait for the end of that.
                if not _take(lock, exclusive=True, wait=False):
                    time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - so that two do not meet again
                    continue
                if not _is_current(lock, path):
                    continue
                facts = _read_facts(folder)
                if facts is None:
                    _write(folder, write)
                    facts = _read_facts(folder)
                _take(lock, exclusive=False)
                # Another process may have removed it between the two locks.
                if facts is None or not _is_current(lock, path) or not folder.exists():
                    continue
            os.utime(path)
            held, lock = SharedFiles(folder, facts, lock), -1
            return held
        finally:
            if lock >= 0:
                os.close(lock)


def remove_shared(scratch: Path, prefix: str, *, older_than: float = 0.0) -> list[str]:
    """Remove sets that no process uses, and what killed writers left.

    Parameters
    ----------
    prefix : str
        Of their names.
    older_than : float
        Seconds since a set was last taken into use. What was never whole goes at any age.

    Returns
    -------
    list of str
        Names of the removed sets.
    """
    now = time.time()
    gone: list[str] = []
    # Who cleans folders of temporary files may have taken the lock and left the set.
    there = {path.name.removesuffix(_LOCK).removesuffix(_UNFINISHED) for path in scratch.glob(f"{prefix}*")}
    for name in sorted(there):
        path = scratch / f"{name}{_LOCK}"
        with _alone(path) as alone:
            if not alone:
                continue
            shutil.rmtree(scratch / f"{name}{_UNFINISHED}", ignore_errors=True)
            folder = scratch / name
            if folder.exists() and now - path.stat().st_mtime < older_than:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                path.unlink()
            gone.append(name)
    return gone


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the disk of a folder."""
    return shutil.disk_usage(folder).free


def _write(folder: Path, write: Callable[[Path], Mapping[str, Any]]) -> None:
    unfinished = folder.with_name(f"{folder.name}{_UNFINISHED}")
    # What a killed writer left, or a set of before the last start of the machine.
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    try:
        facts = dict(write(unfinished))
        sizes = {path.name: path.stat().st_size for path in unfinished.iterdir()}
        for file in unfinished.iterdir():
            file.chmod(0o400)
        text = json.dumps({"boot": _boot(), "sizes": sizes, "facts": facts})
        (unfinished / _FACTS).write_text(text, encoding="utf-8")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _read_facts(folder: Path) -> dict[str, Any] | None:
    """The facts of a complete set; None where there is no such set."""
    try:
        held: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != _FACTS}
    except (OSError, ValueError):
        return None
    # A machine that lost its power may have kept the names and lost the data: nothing here is flushed.
    return cast(dict[str, Any], held["facts"]) if held["boot"] == _boot() and held["sizes"] == sizes else None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _take(lock: int, *, exclusive: bool, wait: bool = True) -> bool:
    """Take a lock in place of what is held of it; False, and none is held, where it would have to be waited for."""
    # On Windows a set's name holds the process, which does not share it.
    if sys.platform != "win32":
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_UN)
            return False
    return True


def _is_current(lock: int, path: Path) -> bool:
    """Whether the file that is locked is still the one of that name."""
    try:
        return path.stat().st_ino == os.fstat(lock).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def _alone(path: Path) -> Generator[bool]:
    """Hold the lock of a set alone, if no process uses it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform != "win32":
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
        yield _is_current(lock, path)
    finally:
        os.close(lock)
