"""Remote stores through any other fsspec file system (memory, gs, abfs, http …), as far as it supports them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import fsspec
from fsspec.core import url_to_fs
from fsspec.utils import glob_translate

from latentscale.config import StorageConfig
from latentscale.errors import LatentScaleError
from latentscale.storage.remote.error_messages import explain
from latentscale.storage.remote.protocol import ObjectInfo, Purpose, info_of
from latentscale.storage.remote.retries import Deadline, is_transient, retrying

T = TypeVar("T")


def locate(url: str, storage: StorageConfig) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URL, and the path in it.

    Raises
    ------
    ImportError
        If the file system needs a package that is not installed.
    ValueError
        If the protocol is unknown.
    """
    fs, root = url_to_fs(url, **dict(storage.options))
    return cast(fsspec.AbstractFileSystem, fs), str(root).rstrip("/")


class FsspecRemote:
    """Implementation of ``Remote`` by an fsspec file system.

    Parameters
    ----------
    fs : fsspec.AbstractFileSystem
    storage : StorageConfig
    """

    def __init__(self, fs: fsspec.AbstractFileSystem, storage: StorageConfig) -> None:
        self._fs = fs
        self.storage = storage
        self.connected = False

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a connection does not travel between processes; a Store does")

    def assume_connected(self) -> None:
        """Treat the store as connected."""
        self.connected = True

    def address(self, path: str) -> str:
        """The path as a URL."""
        return str(self._fs.unstrip_protocol(path))

    def _do(self, action: str, path: str, call: Callable[[], T], *, purpose: Purpose = "workspace") -> T:
        budget = self.storage.budget if self.connected else self.storage.first_budget
        where = self.address(path)
        connected = self.connected
        try:
            done = retrying(call, action=action, where=where, deadline=Deadline(budget))
        except (LatentScaleError, FileNotFoundError, NotADirectoryError):
            raise
        except Exception as error:
            raise explain(error, action, where, purpose=purpose, connected=connected) from error
        self.connected = True
        return done

    def check(self, path: str, *, write: bool, purpose: Purpose) -> None:
        """Check access within the connect timeout, and raise an error if it is denied.

        ``write`` writes an object of one byte and deletes it.
        """
        self._do("list", path, lambda: self._fs.exists(path), purpose=purpose)
        if write:
            name = f"{path}/.unfinished-probe-{uuid.uuid4().hex}"
            self._do("write", path, lambda: self._fs.pipe_file(name, b"?"), purpose=purpose)
            self._do("delete", path, lambda: self._fs.rm_file(name), purpose=purpose)

    def find(self, path: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """List all objects below a folder, by name."""
        # A cached listing would miss changes by other writers.
        self._fs.invalidate_cache()
        found = cast(dict[str, dict[str, Any]], self._do("list", path, lambda: self._fs.find(path, detail=True)))
        return self._named(found, relative_to)

    def glob(self, pattern: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """List all objects whose path matches a pattern."""
        self._fs.invalidate_cache()
        found = cast(dict[str, dict[str, Any]], self._do("list", pattern, lambda: self._fs.glob(pattern, detail=True)))
        return self._named({path: d for path, d in found.items() if d.get("type") == "file"}, relative_to)

    def _named(self, found: Mapping[str, Mapping[str, Any]], relative_to: str) -> dict[str, ObjectInfo]:
        infos: dict[str, ObjectInfo] = {}
        for path in sorted(found):
            name = path[len(relative_to) :].lstrip("/")
            infos[name] = info_of(name, found[path])
        return infos

    def list_dir(self, path: str) -> list[str]:
        """List the names directly in a folder."""
        entries = cast(list[str], self._do("list", path, lambda: self._fs.ls(path, detail=False)))
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in entries]

    def is_folder(self, path: str) -> bool:
        """Whether any object is below ``path``."""
        return bool(self._do("look at", path, lambda: self._fs.isdir(path)))

    def info(self, path: str, *, name: str) -> ObjectInfo | None:
        """Size, version and time of one object; None if it does not exist."""
        self._fs.invalidate_cache()
        try:
            detail = cast(dict[str, Any], self._do("look at", path, lambda: self._fs.info(path)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return info_of(name, detail) if detail.get("type", "file") == "file" else None

    def read(self, path: str) -> bytes:
        """Read a whole object."""
        return cast(bytes, self._do("read", path, lambda: self._fs.cat_file(path)))

    def open(self, path: str, *, like: ObjectInfo | None = None, from_end: bool = False) -> BinaryIO:
        """Open an object for reading, and for seeking if its file system supports it."""
        opened = self._do("open", path, lambda: self._fs.open(path, "rb"))
        return cast(BinaryIO, _Reopened(opened, lambda: self._fs.open(path, "rb"), self, path))

    def put_bytes(self, path: str, data: bytes | memoryview, headers: Mapping[str, str]) -> str:
        """Write a whole object."""
        self._do("write", path, lambda: self._fs.pipe_file(path, bytes(data)))
        return ""

    def put_file(self, path: str, source: Path, headers: Mapping[str, str]) -> str:
        """Write a local file as a whole object."""
        self._do("write", path, lambda: self._fs.put_file(str(source), path))
        return ""

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        for path in paths:
            try:
                self._do("delete", path, lambda path=path: self._fs.rm_file(path))
            except FileNotFoundError:
                continue

    def uploads(self, path: str, *, relative_to: str) -> list[tuple[ObjectInfo, str]]:
        """Return an empty list, as fsspec cannot list uploads."""
        return []

    def abort_upload(self, path: str, upload: str) -> None:
        """Do nothing: there are no uploads."""


class _Reopened(io.BufferedIOBase):
    """A file that is reopened at the same offset after a transient read error."""

    def __init__(self, file: Any, reopen: Callable[[], Any], remote: FsspecRemote, path: str) -> None:
        super().__init__()
        self._file = file
        self._reopen = reopen
        self._remote = remote
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def read(self, size: int | None = -1, /) -> bytes:
        offset: int | None = None

        def attempt() -> bytes:
            nonlocal offset
            if offset is None:
                offset = self.tell() if self.seekable() else -1
            elif offset >= 0:
                self._file.close()
                self._file = self._reopen()
                self._file.seek(offset)
            try:
                return cast(bytes, self._file.read(-1 if size is None else size))
            except Exception as error:
                if offset < 0 and is_transient(error):
                    # A stream without seek cannot be resumed.
                    raise explain(
                        error, "read", self._remote.address(self._path), purpose="corpus", connected=True
                    ) from error
                raise

        return self._remote._do("read", self._path, attempt)  # pyright: ignore[reportPrivateUsage]

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    readinto1 = readinto

    def close(self) -> None:
        self._file.close()
        super().close()


def glob_expression(pattern: str) -> str:
    """Convert a pattern to a regular expression by the rules of fsspec; ``**`` must be a whole path component.

    Raises
    ------
    ValueError
        If ``**`` is only part of a component.
    """
    return cast(str, glob_translate(pattern))
