"""Sets of scratch files shared by the processes of this machine: written once, memory-mapped, removed after the run."""

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
"""Environment variable with the scratch folder; by default a folder of this user in the system's temporary folder."""
STALE_AFTER = 86_400.0
"""Seconds after which an unused set is removed."""

_UNFINISHED = ".unfinished"
_LOCK = ".lock"
_FACTS = "facts.json"


def scratch_folder(chosen: Path | str | None = None) -> Path:
    """Return the scratch folder: ``chosen``, else the environment variable, else this user's folder below ``tempdir``.

    Raises
    ------
    ResourceError
        If it cannot be created, or belongs to another user.
    """
    named = chosen or os.environ.get(VARIABLE)
    user = str(os.getuid()) if sys.platform != "win32" else getpass.getuser()
    folder = Path(named) if named else Path(tempfile.gettempdir(), f"latentscale-{user}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from error
    # Anyone may create a folder in /tmp: another user's folder could contain forged files.
    if sys.platform != "win32" and not named and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise _unusable(folder, "another user owns it or may write to it")
    return folder


def _unusable(folder: Path, reason: str) -> ResourceError:
    return ResourceError(
        f"the scratch folder {folder} cannot be used: {reason}", hint=f"Name another folder: {VARIABLE}=/path."
    )


@dataclass(slots=True)
class SharedFiles:
    """A complete set of files, locked against removal while this object is open.

    Attributes
    ----------
    folder : Path
    facts : mapping
        Metadata of the set, as its writer returned it.
    """

    folder: Path
    facts: Mapping[str, Any]
    _lock: int

    def map(self, name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """Memory-map a file of the set as an array of ``shape``; pages are shared between processes and read lazily.

        The mapping is copy-on-write: writes stay in this process. It is not read-only, since compiled code rejects
        read-only arrays.
        """
        length = int(np.prod(shape)) * np.dtype(dtype).itemsize
        with (self.folder / name).open("rb") as file:
            if sys.platform == "win32":
                held = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY)
            else:
                # Otherwise the kernel reserves memory for the whole mapping.
                flags = mmap.MAP_PRIVATE | (0x4000 if sys.platform == "linux" else 0)  # MAP_NORESERVE
                held = mmap.mmap(file.fileno(), length, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        return np.frombuffer(held, dtype=dtype).reshape(shape)

    def close(self) -> None:
        """Release the set; mapped arrays stay valid."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def share_files(scratch: Path, name: str, write: Callable[[Path], Mapping[str, Any]]) -> SharedFiles:
    """Open a set of files, writing it first if it does not exist; waits while another process writes it.

    Writers and users of a set hold kernel locks, which are released when their process ends, however it ends. A set is
    written to a temporary folder, which is renamed when it is complete.

    Parameters
    ----------
    scratch : Path
        From ``scratch_folder``.
    name : str
        Name of the set, which must determine its content.
    write : callable
        Writes the files into the given folder and returns metadata that JSON can represent.
    """
    if sys.platform == "win32":
        name = f"{name}-{os.getpid()}"
    folder, path = scratch / name, scratch / f"{name}{_LOCK}"
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _acquire(lock, exclusive=False)
            facts = _read_facts(folder) if _is_current(lock, path) else None
            if facts is None:
                # Do not block: the first writer keeps its lock for as long as it uses the set, so that a blocked second
                # writer, perhaps another thread of the same process, would wait until then.
                if not _acquire(lock, exclusive=True, wait=False):
                    time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - so that two do not collide again
                    continue
                if not _is_current(lock, path):
                    continue
                facts = _read_facts(folder)
                if facts is None:
                    _write(folder, write)
                    facts = _read_facts(folder)
                _acquire(lock, exclusive=False)
                # Another process may have removed the set between the two locks.
                if facts is None or not _is_current(lock, path) or not folder.exists():
                    continue
            os.utime(path)
            held, lock = SharedFiles(folder, facts, lock), -1
            return held
        finally:
            if lock >= 0:
                os.close(lock)


def remove_shared(scratch: Path, prefix: str, *, older_than: float = 0.0) -> list[str]:
    """Remove unused sets, and incomplete ones of killed writers.

    Parameters
    ----------
    prefix : str
        Prefix of the names of the sets.
    older_than : float
        Minimum age in seconds since a set was last opened; incomplete sets are removed at any age.

    Returns
    -------
    list of str
        Names of the removed sets.
    """
    now = time.time()
    gone: list[str] = []
    # A cleaner of temporary folders may have deleted the lock file but not the set.
    there = {path.name.removesuffix(_LOCK).removesuffix(_UNFINISHED) for path in scratch.glob(f"{prefix}*")}
    for name in sorted(there):
        path = scratch / f"{name}{_LOCK}"
        with _exclusive_lock(path) as alone:
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
    """Return the free space on the disk of a folder, in bytes."""
    return shutil.disk_usage(folder).free


def _write(folder: Path, write: Callable[[Path], Mapping[str, Any]]) -> None:
    unfinished = folder.with_name(f"{folder.name}{_UNFINISHED}")
    # Left by a killed writer, or written before the last boot.
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    try:
        facts = dict(write(unfinished))
        sizes = {path.name: path.stat().st_size for path in unfinished.iterdir()}
        for file in unfinished.iterdir():
            file.chmod(0o400)
        text = json.dumps({"boot": _boot_id(), "sizes": sizes, "facts": facts})
        (unfinished / _FACTS).write_text(text, encoding="utf-8")
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _read_facts(folder: Path) -> dict[str, Any] | None:
    """Return the metadata of a complete set, or None if it does not exist."""
    try:
        held: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != _FACTS}
    except (OSError, ValueError):
        return None
    # After a power failure the names may exist without the data, as nothing is flushed here.
    return cast(dict[str, Any], held["facts"]) if held["boot"] == _boot_id() and held["sizes"] == sizes else None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(int(psutil.boot_time()))


def _acquire(lock: int, *, exclusive: bool, wait: bool = True) -> bool:
    """Acquire a lock, replacing the mode held; False, with no lock held, if it is busy and ``wait`` is False."""
    # On Windows sets are not shared: their names contain the process id.
    if sys.platform != "win32":
        try:
            fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_UN)
            return False
    return True


def _is_current(lock: int, path: Path) -> bool:
    """Whether the locked file descriptor still refers to the file at ``path``."""
    try:
        return path.stat().st_ino == os.fstat(lock).st_ino
    except FileNotFoundError:
        return False


@contextmanager
def _exclusive_lock(path: Path) -> Generator[bool]:
    """Hold the exclusive lock of a set; yields False if a process uses it."""
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
