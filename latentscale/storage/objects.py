"""A folder of objects, on a disk or at any fsspec URL, in which an object is either whole or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import uuid
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.core import url_to_fs

from latentscale.errors import (
    LatentScaleError,
    MissingPackageError,
    RequestError,
    StorageError,
    WorkspaceError,
)

# A dot keeps unfinished files out of every listing, ours and those of pyarrow, polars and DuckDB.
TEMPORARY_PREFIX = ".unfinished-"
UPLOAD = "upload:"
"""Before the id of an incomplete multipart upload, as the version of what ``Store.unfinished`` lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a listing says of one object.

    Attributes
    ----------
    name : str
        Relative to the store, with ``/`` between the parts.
    size : int
        Bytes.
    version : str
        ETag where the store has one, else the modification time in milliseconds.
    modified : float or None
        When it was written, in seconds since 1970 by the store's own clock; None where the store does not say.
    """

    name: str
    size: int
    version: str
    modified: float | None = None


class Store:
    """Objects below one folder or URL.

    ``put_bytes`` and ``put_file`` write an object in one piece: on a disk a temporary file in the same folder, fsync,
    ``os.replace`` and fsync of the folder; elsewhere one PUT or one completed multipart upload. A reader never sees
    half an object, and a writer that is killed leaves none.
    """

    def __init__(self, url: str, *, options: Mapping[str, Any] | None = None) -> None:
        try:
            fs, root = url_to_fs(url, **dict(options or {}))
        except ImportError as error:
            raise MissingPackageError(
                f"{url} needs a package that is not installed ({error})", hint="pip install 'latentscale[s3]'"
            ) from error
        except (ValueError, OSError) as error:
            raise RequestError(f"{url} is not a place that can be opened: {error}") from error
        self._fs = cast(fsspec.AbstractFileSystem, fs)
        self._options = dict(options or {})
        self.is_local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))
        self._root = str(Path(root)) if self.is_local else str(root).rstrip("/")
        self.url = self._root if self.is_local else str(self._fs.unstrip_protocol(self._root))

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (self.url, self._options))

    @property
    def local_root(self) -> Path:
        """The folder of a local store.

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

    def child(self, prefix: str) -> Store:
        """Open the store below ``prefix``."""
        path = self.path(prefix)
        return Store(path if self.is_local else str(self._fs.unstrip_protocol(path)), options=self._options)

    def list(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """List all objects below the folder ``prefix``, by name. A folder that is not there holds none."""
        start = self.path(prefix)
        with _explained("list", start):
            if self.is_local:
                return {info.name: info for info in sorted(self._walk(Path(start)), key=lambda info: info.name)}
            # A listing kept from before would hide what other writers have done since.
            self._fs.invalidate_cache()
            try:
                found = cast(dict[str, dict[str, Any]], self._fs.find(start, detail=True))
            except FileNotFoundError:
                return {}
        infos: dict[str, ObjectInfo] = {}
        for path in sorted(found):
            name = path[len(self._root) :].lstrip("/")
            if not posixpath.basename(name).startswith(TEMPORARY_PREFIX):
                infos[name] = _info(name, found[path])
        return infos

    def _walk(self, folder: Path, *, unfinished: bool = False) -> Generator[ObjectInfo]:
        try:
            entries = os.scandir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(Path(entry.path), unfinished=unfinished)
                elif entry.name.startswith(TEMPORARY_PREFIX) == unfinished:
                    try:
                        status = entry.stat()
                    except FileNotFoundError:  # replaced or deleted since the scan
                        continue
                    name = Path(entry.path).relative_to(self._root).as_posix()
                    yield _of_file(name, status)

    def info(self, name: str) -> ObjectInfo | None:
        """Return what is known of object ``name``, or None where there is none."""
        path = self.path(name)
        with _explained("look at", path):
            try:
                if self.is_local:
                    status = Path(path).stat()
                    return _of_file(name, status)
                self._fs.invalidate_cache()
                return _info(name, cast(dict[str, Any], self._fs.info(path)))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def exists(self, name: str) -> bool:
        """Say whether object ``name`` is there."""
        return self.info(name) is not None

    def read_bytes(self, name: str) -> bytes:
        """Read a whole object.

        Raises
        ------
        WorkspaceError
            If there is no such object.
        StorageError
            If it cannot be read.
        """
        path = self.path(name)
        with _explained("read", path):
            return Path(path).read_bytes() if self.is_local else cast(bytes, self._fs.cat_file(path))

    def open(self, name: str) -> BinaryIO:
        """Open an object for reading and seeking."""
        path = self.path(name)
        with _explained("open", path):
            return cast(BinaryIO, Path(path).open("rb") if self.is_local else self._fs.open(path, "rb"))

    def put_bytes(self, name: str, data: bytes | memoryview) -> ObjectInfo:
        """Write ``data`` as object ``name``, whole or not at all; an object of that name is replaced."""
        path = self.path(name)
        with _explained("write", path):
            if not self.is_local:
                self._fs.pipe_file(path, bytes(data))
                return ObjectInfo(name=name, size=len(data), version="")
            with _replacing(Path(path)) as temporary, temporary.open("wb") as file:
                file.write(data)
                _flush(file)
            status = Path(path).stat()
            return _of_file(name, status)

    def put_file(self, name: str, source: Path) -> ObjectInfo:
        """Write the bytes of the local file ``source`` as object ``name``, without holding them in memory."""
        path = self.path(name)
        with _explained("write", path):
            if not self.is_local:
                self._fs.put_file(str(source), path)
                return ObjectInfo(name=name, size=source.stat().st_size, version="")
            with _replacing(Path(path)) as temporary, temporary.open("wb") as file, source.open("rb") as origin:
                while chunk := origin.read(1 << 22):
                    file.write(chunk)
                _flush(file)
            status = Path(path).stat()
            return _of_file(name, status)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that are not there any more are no error."""
        for name in names:
            path = self.path(name)
            with _explained("delete", path), contextlib.suppress(FileNotFoundError):
                if self.is_local:
                    Path(path).unlink()
                else:
                    self._fs.rm_file(path)

    # -------------------------------------------------------------------------------------------------- for upkeep

    def clock(self) -> float:
        """Read the store's own clock, in seconds since 1970, off the modification time of a probe."""
        name = f"{TEMPORARY_PREFIX}clock-{uuid.uuid4().hex}"
        self.put_bytes(name, b"?")
        try:
            probe = self.info(name)
        finally:
            self.delete([name])
        if probe is None or probe.modified is None:
            raise StorageError(f"{self.url} does not say when its objects were written")
        return probe.modified

    def unfinished(self) -> list[ObjectInfo]:
        """List what killed writers left: temporary files, and multipart uploads that were never completed.

        The ``version`` of an upload is its id; that of a file is its modification time, as everywhere.
        """
        with _explained("list", self._root):
            if self.is_local:
                return sorted(self._walk(Path(self._root), unfinished=True), key=lambda info: info.name)
            self._fs.invalidate_cache()
            try:
                found = cast(dict[str, dict[str, Any]], self._fs.find(self._root, detail=True))
            except FileNotFoundError:
                found = {}
            left = [
                _info(path[len(self._root) :].lstrip("/"), detail)
                for path, detail in sorted(found.items())
                if posixpath.basename(path).startswith(TEMPORARY_PREFIX)
            ]
            return left + self._uploads()

    def _uploads(self) -> list[ObjectInfo]:
        """Incomplete multipart uploads below the store, where its file system can list them."""
        call = getattr(self._fs, "call_s3", None)
        if call is None:
            return []
        bucket, _, prefix = self._root.partition("/")
        prefix = f"{prefix}/" if prefix else ""
        uploads: list[ObjectInfo] = []
        marker: dict[str, str] = {}
        while True:
            answer = cast(
                dict[str, Any], call("list_multipart_uploads", Bucket=bucket, **({"Prefix": prefix} | marker))
            )
            for upload in cast(list[dict[str, Any]], answer.get("Uploads") or []):
                key = str(upload["Key"])
                # Not every store honours the prefix.
                if key.startswith(prefix):
                    uploads.append(
                        ObjectInfo(
                            name=key[len(prefix) :],
                            size=0,
                            version=f"{UPLOAD}{upload['UploadId']}",
                            modified=_seconds(upload.get("Initiated")),
                        )
                    )
            following = {"KeyMarker": answer.get("NextKeyMarker"), "UploadIdMarker": answer.get("NextUploadIdMarker")}
            following = {name: str(value) for name, value in following.items() if value}
            if not answer.get("IsTruncated") or not following or following == marker:
                return uploads
            marker = following

    def discard(self, left: Iterable[ObjectInfo]) -> None:
        """Delete what ``unfinished`` listed; what is not there any more is no error."""
        for info in left:
            if not info.version.startswith(UPLOAD):
                self.delete([info.name])
                continue
            bucket, _, prefix = self._root.partition("/")
            key = f"{prefix}/{info.name}" if prefix else info.name
            with _explained("give up the upload of", self.path(info.name)), contextlib.suppress(FileNotFoundError):
                cast(Any, self._fs).call_s3(
                    "abort_multipart_upload", Bucket=bucket, Key=key, UploadId=info.version.removeprefix(UPLOAD)
                )


def _reopen(url: str, options: Mapping[str, Any]) -> Store:
    return Store(url, options=options)


def _of_file(name: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        name=name, size=status.st_size, version=str(status.st_mtime_ns // 1_000_000), modified=status.st_mtime
    )


def _seconds(moment: Any) -> float | None:
    """Seconds since 1970 of what a file system calls a modification time."""
    if isinstance(moment, int | float):
        return float(moment)
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            return None
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


def _info(name: str, detail: Mapping[str, Any]) -> ObjectInfo:
    version = detail.get("ETag") or detail.get("etag") or detail.get("md5Hash")
    modified = detail.get("mtime") or detail.get("LastModified") or detail.get("created") or ""
    if version is None:
        version = str(int(modified * 1000)) if isinstance(modified, float) else str(modified)
    return ObjectInfo(
        name=name, size=int(detail.get("size") or 0), version=str(version).strip('"'), modified=_seconds(modified)
    )


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _replacing(target: Path) -> Generator[Path]:
    """Give a temporary path beside ``target`` that takes its place when the block ends well."""
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
def _explained(action: str, path: str) -> Generator[None]:
    """Turn what a file system raises into our errors, which say what to do next."""
    try:
        yield
    except LatentScaleError:
        raise
    except FileNotFoundError as error:
        raise WorkspaceError(f"cannot {action} {path}: there is no such object") from error
    except PermissionError as error:
        raise WorkspaceError(
            f"cannot {action} {path}: permission denied",
            hint="Change its permissions, or choose another place with --out.",
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise WorkspaceError(
            f"cannot {action} {path}: a file stands where a folder is needed", hint="Choose another place with --out."
        ) from error
    except OSError as error:
        raise explain_os_error(error, action, path) from error


def explain_os_error(error: OSError, action: str, path: str) -> StorageError:
    """Say in our words what an ``OSError`` means and what to do next."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"cannot {action} {path}: the disk is full ({error.strerror})",
            hint="Free some space and run the same command again; it goes on where it stopped.",
        )
    return StorageError(
        f"cannot {action} {path}: {error.strerror or error}",
        hint="When the store answers again, run the same command; it goes on where it stopped.",
    )
