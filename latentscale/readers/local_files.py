"""Find the files of a local source: regular files, and symbolic links as far as they may be followed."""

from __future__ import annotations

import functools
import json
import os
import posixpath
import re
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import cast

from latentscale.errors import CorpusError
from latentscale.file_names import escaped, on_disk, shown
from latentscale.readers.formats import format_of, is_hidden
from latentscale.readers.own_pages import MANIFEST, is_page
from latentscale.readers.unread import (
    HIDDEN,
    KERNEL,
    LINK_AGAIN,
    LINK_FOLDER,
    LINK_LOST,
    LINK_OUT,
    PAGE,
    SPECIAL,
    WORKSPACE,
    Unread,
)

WORKSPACE_RECORD = "workspace.json"
WILDCARD = re.compile(r"[*?\[]")
_LARGEST_RECORD = 1 << 20
# What reads from them waits, never ends, or tells of this process and not of a corpus.
_KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
_KERNEL_TYPES = frozenset(
    (
        *("proc", "sysfs", "devtmpfs", "devpts", "debugfs", "tracefs", "configfs", "securityfs"),
        *("cgroup", "cgroup2", "fusectl", "pstore", "bpf", "mqueue"),
    )
)
_IN_MEMORY = "/dev/shm"  # noqa: S108 - plain files

FoundFile = tuple[str, os.stat_result]


class Walk:
    """Walks the files below a folder, optionally filtered by a pattern.

    Links within the folder are followed. Links out of it are followed if ``follow`` is True, or if it is None and the
    pattern matches them explicitly; never into kernel file systems such as /proc. A file that is reachable by several
    names counts once. Files that are found but not yielded are counted in ``unread``.

    Parameters
    ----------
    root : str
        The folder, as a path of the file system.
    unread : Unread
    follow : bool or None
    pattern : str, optional
        Below ``root``, by the rules of fsspec: ``*`` within a name, ``**`` for folders.
    """

    def __init__(self, root: str, unread: Unread, *, follow: bool | None, pattern: str | None = None) -> None:
        self._root = root.rstrip("/") or "/"
        self._real = os.path.realpath(root)
        self._unread = unread
        self._leaves = follow is True or (follow is None and pattern is not None)
        self._folders = follow is True or (follow is not False and pattern is not None)
        self._match = None if pattern is None else _glob(pattern)
        self._hidden = pattern is not None and "/." in f"/{pattern}"
        self._parts = None if pattern is None else [_part(part) for part in pattern.split("/")[:-1]]
        self._entered: set[tuple[int, int]] = set()
        self._outside: set[str] = set()
        self._waiting: list[tuple[str, bool]] = []

    def files(self) -> Iterator[FoundFile]:
        """Yield names relative to the root, with their stat results.

        Raises
        ------
        CorpusError
            If a folder is not readable, as its files would be missing silently.
        """
        # An explicit stack, since folders can be nested deeper than the recursion limit.
        self._waiting = [("", False)]
        while self._waiting:
            below, linked = self._waiting.pop()
            yield from self._folder(below, linked=linked)

    def would_include(self, name: str) -> bool:
        """Whether a regular file of that name would be yielded if it existed."""
        folders = [name[:at] for at, one in enumerate(name) if one == "/"]
        return self._matches(name) and not any(self._latentscale_kind(below) for below in folders)

    def linked_names(self, target: str) -> Iterator[str]:
        """Yield the names by which followed links lead to a file, whether or not it exists.

        Parameters
        ----------
        target : str
            A path of the file system with links resolved.
        """
        inside = name_below(target, self._real) is not None
        waiting = [""] if self._leaves or self._folders or inside else []
        while waiting:
            below = waiting.pop()
            try:
                with os.scandir(os.path.join(self._root, below)) as found:  # noqa: PTH118
                    entries = list(found)
            except OSError:
                continue
            if self._latentscale_kind(below, {entry.name for entry in entries}):
                continue
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.is_symlink():
                    rest = name_below(target, led := os.path.realpath(entry.path))
                    if rest is None or (rest and not self._folders):
                        continue
                    if self._leaves or name_below(led, self._real) is not None:
                        yield f"{name}/{rest}" if rest else name
                elif entry.is_dir(follow_symlinks=False) and entry.path not in kernel_folders() and self._enters(name):
                    waiting.append(name)

    def _folder(self, below: str, *, linked: bool) -> Iterator[FoundFile]:
        path = os.path.join(self._root, below)  # noqa: PTH118 - a million times; and Path would normalise
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except PermissionError as error:
            if below.rsplit("/", 1)[-1] == "lost+found":  # part of the file system
                return
            raise _permission_error(path) from error
        except FileNotFoundError:
            if below:  # deleted since it was listed
                return
            raise
        own = self._latentscale_kind(below, {entry.name for entry in entries})
        if own:
            self._unread.add(own, below)
            return
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if is_hidden(entry.name) and not self._hidden:
                if format_of(entry.name)[0] and entry.is_file(follow_symlinks=False):
                    self._unread.add(HIDDEN, name)
            elif entry.is_symlink():
                yield from self._link(entry, name)
            elif entry.is_dir(follow_symlinks=False):
                if entry.path in kernel_folders():
                    self._unread.add(KERNEL, name)
                elif self._enters(name):
                    self._waiting.append((name, linked))
            elif self._wants(name):
                if not entry.is_file(follow_symlinks=False):
                    self._unread.add(SPECIAL, name)
                elif not linked or self._first(entry.path, name):
                    yield name, entry.stat(follow_symlinks=False)

    def _link(self, entry: os.DirEntry[str], name: str) -> Iterator[FoundFile]:
        target = os.path.realpath(entry.path)
        try:
            status = Path(target).stat()
        except PermissionError as error:
            raise _permission_error(entry.path) from error
        except OSError:
            if self._wants(name):
                self._unread.add(LINK_LOST, name)
            return
        if stat.S_ISDIR(status.st_mode):
            if not self._enters(name):
                return
            if not self._folders:
                self._unread.add(LINK_FOLDER, name)
            elif is_kernel_path(target):
                self._unread.add(KERNEL, name)
            elif self._may_leave(target, name) and self._enter_once(target, status, name):
                self._waiting.append((name, True))
        elif not self._wants(name):
            return
        elif is_kernel_path(target):
            self._unread.add(KERNEL, name)
        elif not stat.S_ISREG(status.st_mode):
            self._unread.add(SPECIAL, name)
        elif self._may_leave(target, name) and self._first(entry.path, name):
            yield name, status

    def _may_leave(self, target: str, name: str) -> bool:
        if self._leaves or name_below(target, self._real) is not None:
            return True
        self._unread.add(LINK_OUT, name)
        return False

    def _enter_once(self, target: str, status: os.stat_result, name: str) -> bool:
        """Whether a linked folder has not been entered and is not an ancestor of the current one."""
        key = (status.st_dev, status.st_ino)
        around = name_below(self._real, target) is not None
        if around or key in self._entered:
            self._unread.add(LINK_AGAIN, name)
            return False
        self._entered.add(key)
        return True

    def _first(self, path: str, name: str) -> bool:
        """Whether the target of a link is not yielded by another name."""
        target = os.path.realpath(path)
        inside = name_below(target, self._real)
        again = target in self._outside
        if inside is not None and not again:
            again = self._matches(inside)
        self._outside.add(target)
        if again:
            self._unread.add(LINK_AGAIN, name)
        return not again

    def _latentscale_kind(self, below: str, names: Collection[str] | None = None) -> str | None:
        """Return the type of a folder written by LatentScale, which is not part of a corpus; None for others."""
        path = os.path.join(self._root, below)  # noqa: PTH118
        if names is None:
            names = os.listdir(path) if os.path.isdir(path) else ()  # noqa: PTH112, PTH208
        if below and WORKSPACE_RECORD in names and is_workspace(path):
            return WORKSPACE
        return PAGE if is_page(below, names, lambda: _read_start(Path(path, MANIFEST))) else None

    def _matches(self, name: str) -> bool:
        hidden = not self._hidden and any(is_hidden(part) for part in name.split("/"))
        return not hidden and self._wants(name) and self._enters_all(name)

    def _wants(self, name: str) -> bool:
        return self._match is None or self._match(name) is not None

    def _enters(self, name: str) -> bool:
        """Whether a folder can contain files that match the pattern."""
        if self._parts is None:
            return True
        depth = name.count("/")
        for position, part in enumerate(self._parts[: depth + 1]):
            if part is None:
                return True
            if position == depth:
                return part(name.rsplit("/", 1)[-1]) is not None
        return False

    def _enters_all(self, name: str) -> bool:
        parts = name.split("/")
        return all(self._enters("/".join(parts[:depth])) for depth in range(1, len(parts)))


def _part(part: str) -> Callable[[str], re.Match[str] | None] | None:
    return None if part == "**" else _glob(part)


def _glob(pattern: str) -> Callable[[str], re.Match[str] | None]:
    # Imported for patterns only, as fsspec imports asyncio.
    from latentscale.storage.remote.fsspec_remote import glob_expression

    return re.compile(glob_expression(pattern)).match


def name_below(path: str, folder: str) -> str | None:
    """Return ``path`` relative to ``folder``, or None if it is not below it."""
    prefix = folder.rstrip("/") + "/"
    return path[len(prefix) :] if path.startswith(prefix) else ("" if path == folder else None)


def fixed_folder(pattern: str) -> str:
    """Return the folder before the first wildcard."""
    return posixpath.dirname(pattern[: cast(re.Match[str], WILDCARD.search(pattern)).start()] + "x")


def _permission_error(path: str) -> CorpusError:
    return CorpusError(
        f"{shown(os.path.basename(path))} may not be read: permission denied",  # noqa: PTH119 - no Path for odd bytes
        where=escaped(path),
        hint="Change its permissions, or name what else is to be read: files, folders or a pattern.",
    )


def is_workspace(folder: str) -> bool:
    """Whether a local folder is a workspace of any version of LatentScale."""
    try:
        path = Path(folder, WORKSPACE_RECORD)
        return path.is_file() and path.stat().st_size < _LARGEST_RECORD and is_record(path.read_bytes())
    except OSError:
        return False


def _read_start(path: Path) -> bytes:
    """Return the first bytes of a file; empty if it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_LARGEST_RECORD)
    except OSError:
        return b""


def is_record(data: bytes) -> bool:
    """Whether the content of a ``workspace.json`` is that of a workspace."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and {"schema", "latentscale", "corpus"} <= values.keys()


@functools.lru_cache(maxsize=1)
def kernel_folders() -> frozenset[str]:
    """Return the mount points of kernel file systems, whose files are not regular ones whatever stat reports."""
    folders: set[str] = set(_KERNEL_FOLDERS)
    try:
        mounts = Path("/proc/self/mounts").read_bytes().decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return frozenset(folders)
    for line in mounts:
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] in _KERNEL_TYPES:
            folders.add(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[1]))
    return frozenset(folders)


def is_kernel_path(path: str) -> bool:
    """Whether a resolved path is in a kernel file system."""
    if name_below(path, _IN_MEMORY) is not None:
        return False
    return any(name_below(path, folder) is not None for folder in kernel_folders())


def refuse_other_than_file(path: str, source: str) -> None:
    """Reject an existing path that is neither a regular file nor a folder.

    Raises
    ------
    CorpusError
    """
    if not os.path.lexists(path):
        return
    target = os.path.realpath(path)
    name = shown(source)
    if is_kernel_path(target) or (re.match(r"/(proc|dev)/", path) and name_below(path, _IN_MEMORY) is None):
        raise CorpusError(
            f"{name} is no file on a disk, and a corpus is read more than once",
            where=escaped(path),
            hint="Write its content to a file, and give that.",
        )
    try:
        mode = Path(target).stat().st_mode
    except FileNotFoundError:
        if Path(path).is_symlink():
            raise CorpusError(
                f"{name} is a link that leads nowhere: to {shown(os.readlink(path))}",  # noqa: PTH115
                where=escaped(path),
                hint="Mend the link, or give the file itself.",
            ) from None
        raise
    except OSError as error:
        if Path(path).is_symlink() and error.errno == 40:
            raise CorpusError(f"{name} is a link that leads round in a circle", where=escaped(path)) from None
        raise
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        raise CorpusError(
            f"{name} is {kinds.get(stat.S_IFMT(mode), 'no plain file')}, and a corpus is read more than once",
            where=escaped(path),
            hint="Write its content to a file, and give that.",
        )


def expanded(source: str) -> str:
    """Return a local source as an absolute path; ``~`` is the home folder unless a file has that name.

    Raises
    ------
    CorpusError
        If the home folder does not exist.
    """
    plain = source.removeprefix("file://").removeprefix("local://")
    if plain.startswith("~") and not os.path.lexists(plain) and not os.path.lexists(on_disk(plain)):
        try:
            plain = str(Path(plain).expanduser())
        except RuntimeError:
            name = plain.split("/", 1)[0]
            raise CorpusError(
                f"there is no file {shown(plain)}, and {shown(name)} is no user with a home folder",
                hint="Check the path; a name that begins with ~ is taken for a user's home folder.",
            ) from None
    return on_disk(str(Path(plain).absolute()))
