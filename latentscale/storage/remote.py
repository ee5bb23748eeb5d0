"""What every remote store can do, and the connections of this process to them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

from latentscale.config import StorageConfig, protocol_of
from latentscale.digest import canonical_json
from latentscale.errors import MissingPackageError, RequestError
from latentscale.storage.credentials import fingerprint

Purpose = Literal["workspace", "corpus"]


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


class Remote(Protocol):
    """Objects at another place than this disk. Paths are those of fsspec: for S3, bucket and key.

    Every operation is tried again while its failure may pass; in the end it raises an error of ours, except that what
    is not there is a ``FileNotFoundError`` and what may not be touched a ``PermissionError`` where a single object is
    meant.
    """

    def address(self, path: str) -> str:
        """The path as a URL."""
        ...

    def check(self, path: str, *, write: bool, purpose: Purpose) -> None:
        """Say within the time for the first contact what is wrong with a place, if something is."""
        ...

    def find(self, path: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """All objects below the folder ``path``, by their name below ``relative_to``."""
        ...

    def glob(self, pattern: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """All objects whose path matches ``pattern``."""
        ...

    def beside(self, path: str) -> list[str]:
        """Names of what is in a folder, one level deep."""
        ...

    def info(self, path: str, *, name: str) -> ObjectInfo | None:
        """What is known of one object, or None."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether anything is below ``path``."""
        ...

    def read(self, path: str) -> bytes:
        """A whole object."""
        ...

    def open(self, path: str, *, like: ObjectInfo | None = None) -> BinaryIO:
        """An object for reading and seeking; refused where it is known not to be the one that was listed, ``like``."""
        ...

    def put_bytes(self, path: str, data: bytes | memoryview, headers: Mapping[str, str]) -> str:
        """Write a whole object; gives its version, or an empty string."""
        ...

    def put_file(self, path: str, source: Path, headers: Mapping[str, str]) -> str:
        """Write a local file as a whole object; gives its version, or an empty string."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; what is not there is no error."""
        ...

    def uploads(self, path: str, *, relative_to: str) -> list[tuple[ObjectInfo, str]]:
        """Incomplete multipart uploads below a folder, with their ids."""
        ...

    def abort_upload(self, path: str, upload: str) -> None:
        """Give up an incomplete multipart upload; one that is not there is no error."""
        ...

    def assume_contact(self) -> None:
        """Take the store for one that has answered already: this process goes on with work that another began."""
        ...


_connections: dict[tuple[Any, ...], Remote] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    # The lock may have been held by another thread. The connections stay, unused: they are the parent's.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def connect(url: str, storage: StorageConfig) -> tuple[Remote, str]:
    """Return the connection for ``url``, shared by all stores of this process with these settings, and its path.

    Nothing is sent yet. A forked process makes its own connections: an event loop does not survive a fork.

    Raises
    ------
    MissingPackageError
        If the file system needs a package that is not installed.
    RequestError
        If the URL is not one.
    """
    protocol = protocol_of(url)
    settings = hashlib.sha256(canonical_json(storage.model_dump(mode="json"))).hexdigest()
    key = (os.getpid(), protocol, settings, fingerprint(storage))
    try:
        if protocol == "s3":
            from latentscale.storage.s3 import S3Remote

            return _connected(key, lambda: S3Remote(storage)), _s3_path(url)
        from latentscale.storage.anywhere import AnyRemote, locate

        fs, path = locate(url, storage)
        return _connected((*key, id(fs)), lambda: AnyRemote(fs, storage)), path
    except ImportError as error:
        raise MissingPackageError(
            f"{url} needs a package that is not installed ({error})",
            hint="pip install 'latentscale[s3]'" if protocol == "s3" else "Install that package.",
        ) from error
    except ValueError as error:
        raise RequestError(f"{url} is not a place that can be opened: {error}") from error


def _connected(key: tuple[Any, ...], make: Callable[[], Remote]) -> Remote:
    with _lock:
        found = _connections.get(key)
        if found is None:
            found = _connections[key] = make()
        return found


def _s3_path(url: str) -> str:
    path = url.partition("://")[2].strip("/")
    bucket = path.partition("/")[0]
    if not bucket or bucket in (".", ".."):
        raise ValueError("it names no bucket; s3://BUCKET/FOLDER")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("a part of the path is empty, '.' or '..'")
    return path


def seconds_of(moment: Any) -> float | None:
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


def info_of(name: str, detail: Mapping[str, Any]) -> ObjectInfo:
    """What a file system of fsspec says of a file, in our words."""
    version = detail.get("ETag") or detail.get("etag") or detail.get("md5Hash")
    modified = detail.get("mtime") or detail.get("LastModified") or detail.get("created") or ""
    if version is None:
        version = str(int(modified * 1000)) if isinstance(modified, float) else str(modified)
    return ObjectInfo(
        name=name, size=int(detail.get("size") or 0), version=str(version).strip('"'), modified=seconds_of(modified)
    )
