"""Object store below a local folder or an fsspec URL, with atomic writes: an object is either complete or absent."""

from __future__ import annotations

import contextlib
import os
import posixpath
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from latentscale.config import StorageConfig, parse_storage, protocol_of
from latentscale.errors import (
    LatentScaleError,
    MissingObjectError,
    RequestError,
    StorageError,
    WorkspaceError,
    explain_os_error,
)
from latentscale.file_names import at_home, escaped
from latentscale.storage.listing import Listing
from latentscale.storage.remote.connect import connect
from latentscale.storage.remote.headers import headers_of
from latentscale.storage.remote.protocol import ObjectInfo, Purpose, Remote

__all__ = ["TEMPORARY_PREFIX", "UPLOAD", "ObjectInfo", "Store", "explain_os_error"]

# The leading dot hides unfinished files from our listings and those of pyarrow, polars and DuckDB.
TEMPORARY_PREFIX = ".unfinished-"
# Files whose readers start with the footer.
_FROM_END = ".parquet"
UPLOAD = "upload:"
"""Prefix of the id of an incomplete multipart upload in the ``version`` of an entry of ``Store.unfinished``."""


class Store:
    """Objects below one folder or URL.

    ``put_bytes`` and ``put_file`` write atomically: on a local disk by a temporary file in the same folder, fsync,
    ``os.replace`` and fsync of the folder; elsewhere by one PUT or one completed multipart upload. Readers never see a
    partial object, also if a writer is killed.
    """

    def __init__(self, url: str, *, storage: StorageConfig | Mapping[str, Any] | None = None) -> None:
        if not url.strip():
            # An empty path would be the current directory.
            raise WorkspaceError("the name of the workspace is empty", hint="Name a folder or a URL; . is this folder.")
        self.storage = parse_storage(storage)
        self.is_local = protocol_of(url) == ""
        self._connected = False
        self._connection: tuple[int, Remote] | None = None
        if self.is_local:
            # The path of a URL is absolute: file:///x, and file:x as in fsspec.
            self._root = self.url = str(at_home(url.removeprefix("file://").removeprefix("local://")).absolute())
            if escaped(self.url) != self.url:
                # Records and pages of a workspace contain its URL.
                raise WorkspaceError(
                    f"the path of the workspace is not UTF-8: {escaped(self.url)}",
                    hint="Choose another folder with --out, or rename the folder.",
                )
        else:
            remote, self._root = connect(url, self.storage)
            self._connection = (os.getpid(), remote)
            self.url = remote.address(self._root)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Neither credentials nor the connection: credentials are read again where it is unpickled.
        return (_reopen, (self.url, self.storage.model_dump(mode="json")))

    @property
    def _remote(self) -> Remote:
        """Return the connection of this process; a forked process opens a new one."""
        if self._connection is None or self._connection[0] != os.getpid():
            remote, _ = connect(self.url, self.storage)
            if self._connected:
                remote.assume_connected()
            self._connection = (os.getpid(), remote)
        return self._connection[1]

    def check(self, *, write: bool = False, purpose: Purpose = "workspace") -> None:
        """Check access to a remote store; does nothing for a local folder.

        Parameters
        ----------
        write : bool
            Also write a small object and delete it.

        Raises
        ------
        RequestError
            If the credentials, the bucket or its region are wrong, or the store is read-only.
        StorageError
            If the store does not answer within ``storage.first_budget``, or rejects the time of this machine's clock.
        """
        if not self.is_local:
            self._remote.check(self._root, write=write, purpose=purpose)

    @property
    def local_root(self) -> Path:
        """Return the folder of a local store.

        Raises
        ------
        RequestError
            If the store is not on a local disk.
        """
        if not self.is_local:
            raise RequestError(f"{self.url} is not on a local disk")
        return Path(self._root)

    def path(self, name: str) -> str:
        """Return the absolute path or key of object ``name``.

        Raises
        ------
        WorkspaceError
            If ``name`` would leave the store.
        """
        clean = posixpath.normpath(name) if name else ""
        if name.startswith("/") or clean == ".." or clean.startswith("../") or "\\" in name or "\0" in name:
            raise WorkspaceError(
                f"the name {name!r} would leave {self.url}", hint="Use a name without '/', '\\' and '..'."
            )
        if clean in ("", "."):
            return self._root
        return str(Path(self._root, clean)) if self.is_local else f"{self._root}/{clean}"

    def _display_path(self, path: str) -> str:
        """Return the path or URL of an object, for messages."""
        return path if self.is_local else self._remote.address(path)

    def child(self, prefix: str) -> Store:
        """Open the store below ``prefix``."""
        path = self.path(prefix)
        return Store(path if self.is_local else self._remote.address(path), storage=self.storage)

    def list(self, prefix: str = "", *more: str, brief: bool = False) -> Listing:
        """List all objects below the folders ``prefix`` and ``more``; a missing folder is empty.

        Parameters
        ----------
        brief : bool
            List names and sizes only.
        """
        return Listing((info for folder in (prefix, *more) for info in self._list(folder)), brief=brief)

    def find_first(self, wanted: Callable[[str], bool]) -> str | None:
        """Return the first name in the listing for which ``wanted`` is true, or None; a local listing stops there."""
        return next((info.name for info in self._list("") if wanted(info.name)), None)

    def _list(self, prefix: str) -> Generator[ObjectInfo]:
        start = self.path(prefix)
        with _translate_errors("list", self._display_path(start)):
            if self.is_local:
                yield from self._walk(Path(start))
                return
            try:
                found = self._remote.find(start, relative_to=self._root)
            except FileNotFoundError:
                return
        yield from (info for name, info in found.items() if not _is_unfinished(name))

    def _walk(self, folder: Path, *, unfinished: bool = False) -> Generator[ObjectInfo]:
        try:
            entries = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            found = [(entry.name + "/" * entry.is_dir(follow_symlinks=False), entry) for entry in entries]
        # In the order of full names, so that a large listing need not be sorted.
        for name, entry in sorted(found, key=lambda pair: pair[0]):
            if name.endswith("/"):
                yield from self._walk(Path(entry.path), unfinished=unfinished)
            elif entry.name.startswith(TEMPORARY_PREFIX) == unfinished:
                try:
                    status = entry.stat()
                except FileNotFoundError:  # replaced or deleted since the scan
                    continue
                yield _of_file(self._name_of(entry.path), status)

    def _name_of(self, path: str) -> str:
        name = path[len(self._root) :].lstrip(os.sep)
        return name if os.sep == "/" else name.replace(os.sep, "/")

    def info(self, name: str) -> ObjectInfo | None:
        """Return size, version and time of object ``name``, or None if it does not exist."""
        path = self.path(name)
        with _translate_errors("look at", self._display_path(path)):
            try:
                if self.is_local:
                    status = Path(path).stat()
                    return _of_file(name, status)
                return self._remote.info(path, name=name)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def exists(self, name: str) -> bool:
        """Whether object ``name`` exists."""
        return self.info(name) is not None

    def read_bytes(self, name: str) -> bytes:
        """Read a whole object.

        Raises
        ------
        MissingObjectError
            If there is no such object.
        StorageError
            If it cannot be read.
        """
        path = self.path(name)
        with _translate_errors("read", self._display_path(path)):
            return Path(path).read_bytes() if self.is_local else self._remote.read(path)

    def find_bytes(self, name: str) -> bytes | None:
        """Read a whole object, or return None if it does not exist; needs one request instead of two."""
        try:
            return self.read_bytes(name)
        except WorkspaceError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading and seeking."""
        path = self.path(name)
        with _translate_errors("open", self._display_path(path)):
            return (
                Path(path).open("rb") if self.is_local else self._remote.open(path, from_end=name.endswith(_FROM_END))
            )

    def put_bytes(self, name: str, data: bytes | memoryview) -> ObjectInfo:
        """Write ``data`` as object ``name`` atomically, replacing an existing one."""
        path = self.path(name)
        with _translate_errors("write", self._display_path(path)):
            if not self.is_local:
                version = self._remote.put_bytes(path, data, headers_of(name))
                return ObjectInfo(name=name, size=memoryview(data).nbytes, version=version)
            with _replacing(Path(path)) as temporary, temporary.open("wb") as file:
                file.write(data)
                _fsync(file)
            status = Path(path).stat()
            return _of_file(name, status)

    def put_file(self, name: str, source: Path) -> ObjectInfo:
        """Write the local file ``source`` as object ``name`` atomically, without loading it into memory."""
        path = self.path(name)
        with _translate_errors("write", self._display_path(path)):
            if not self.is_local:
                version = self._remote.put_file(path, source, headers_of(name))
                return ObjectInfo(name=name, size=source.stat().st_size, version=version)
            with _replacing(Path(path)) as temporary, temporary.open("wb") as file, source.open("rb") as origin:
                while chunk := origin.read(1 << 22):
                    file.write(chunk)
                _fsync(file)
            status = Path(path).stat()
            return _of_file(name, status)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        paths = [self.path(name) for name in names]
        if not self.is_local:
            with _translate_errors("delete", self.url):
                self._remote.delete(paths)
            return
        for path in paths:
            with _translate_errors("delete", path), contextlib.suppress(FileNotFoundError):
                Path(path).unlink()

    # -------------------------------------------------------------------------------------------------- for upkeep

    def clock(self) -> float:
        """Read the store's own clock, in seconds since 1970, from the modification time of a probe."""
        name = f"{TEMPORARY_PREFIX}clock-{uuid.uuid4().hex}"
        self.put_bytes(name, b"?")
        try:
            probe = self.info(name)
        finally:
            self.delete([name])
        if probe is None or probe.modified is None:
            raise StorageError(f"{self.url} gives no modification times of its objects")
        return probe.modified

    def unfinished(self) -> list[ObjectInfo]:
        """List leftovers of killed writers: temporary files, and multipart uploads that were never completed.

        The ``version`` of an upload is its id; that of a file is its modification time.
        """
        with _translate_errors("list", self.url):
            if self.is_local:
                return sorted(self._walk(Path(self._root), unfinished=True), key=lambda info: info.name)
            remote = self._remote
            try:
                found = remote.find(self._root, relative_to=self._root)
            except FileNotFoundError:
                found = {}
            left = [info for name, info in found.items() if _is_unfinished(name)]
            return left + [
                replace(info, version=f"{UPLOAD}{upload}")
                for info, upload in remote.uploads(self._root, relative_to=self._root)
            ]

    def discard(self, left: Iterable[ObjectInfo]) -> None:
        """Delete entries of ``unfinished``; missing ones are ignored."""
        for info in left:
            if not info.version.startswith(UPLOAD):
                self.delete([info.name])
                continue
            with _translate_errors("give up the upload of", self.path(info.name)):
                self._remote.abort_upload(self.path(info.name), info.version.removeprefix(UPLOAD))


def _reopen(url: str, storage: Mapping[str, Any]) -> Store:
    store = Store(url, storage=storage)
    # The process that pickled the store was connected already.
    store._connected = True  # pyright: ignore[reportPrivateUsage]
    return store


def _is_unfinished(name: str) -> bool:
    return posixpath.basename(name).startswith(TEMPORARY_PREFIX)


def _of_file(name: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        name=name, size=status.st_size, version=str(status.st_mtime_ns // 1_000_000), modified=status.st_mtime
    )


def _fsync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _replacing(target: Path) -> Generator[Path]:
    """Yield a temporary path next to ``target`` that replaces it when the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        yield temporary
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _translate_errors(action: str, path: str) -> Generator[None]:
    """Translate file system errors into errors with a next step."""
    try:
        yield
    except LatentScaleError:
        raise
    except FileNotFoundError as error:
        raise MissingObjectError(f"cannot {action} {path}: there is no such object") from error
    except PermissionError as error:
        raise WorkspaceError(
            f"cannot {action} {path}: permission denied",
            hint="Change its permissions, or choose another folder with --out.",
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise WorkspaceError(
            f"cannot {action} {path}: a file exists where a folder is needed", hint="Choose another folder with --out."
        ) from error
    except OSError as error:
        raise explain_os_error(error, action, path) from error
