"""The protocol of remote stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

Purpose = Literal["workspace", "corpus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """Metadata of one object, as in a listing.

    Attributes
    ----------
    name : str
        Relative to the store, separated by ``/``.
    size : int
        Bytes.
    version : str
        ETag if the store has one, else the modification time in milliseconds.
    modified : float or None
        Modification time in seconds since 1970 by the store's clock; None if unknown.
    """

    name: str
    size: int
    version: str
    modified: float | None = None


class Remote(Protocol):
    """Objects of a remote store. Paths are those of fsspec: for S3, bucket and key.

    Operations retry transient failures and finally raise a ``LatentScaleError``. Operations on a single object raise
    ``FileNotFoundError`` if it does not exist, and ``PermissionError`` if access is denied.
    """

    def address(self, path: str) -> str:
        """Return the path as a URL."""
        ...

    def check(self, path: str, *, write: bool, purpose: Purpose) -> None:
        """Check access within the connect timeout, and raise an error if it is denied."""
        ...

    def find(self, path: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """List all objects below the folder ``path``, by their name relative to ``relative_to``."""
        ...

    def glob(self, pattern: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """List all objects whose path matches ``pattern``, by their name relative to ``relative_to``."""
        ...

    def list_dir(self, path: str) -> list[str]:
        """List the names directly in a folder."""
        ...

    def info(self, path: str, *, name: str) -> ObjectInfo | None:
        """Return size, version and time of one object; None if it does not exist."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether any object is below ``path``."""
        ...

    def read(self, path: str) -> bytes:
        """Read a whole object."""
        ...

    def open(self, path: str, *, like: ObjectInfo | None = None, from_end: bool = False) -> BinaryIO:
        """Open an object for reading and seeking.

        Parameters
        ----------
        like : ObjectInfo, optional
            The object as it was listed; another version is refused where this can be detected.
        from_end : bool
            Whether reading starts at the end, as for parquet; determines which bytes are prefetched.
        """
        ...

    def put_bytes(self, path: str, data: bytes | memoryview, headers: Mapping[str, str]) -> str:
        """Write a whole object; returns its version, or an empty string."""
        ...

    def put_file(self, path: str, source: Path, headers: Mapping[str, str]) -> str:
        """Write a local file as a whole object; returns its version, or an empty string."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        ...

    def uploads(self, path: str, *, relative_to: str) -> list[tuple[ObjectInfo, str]]:
        """List incomplete multipart uploads below a folder, with their ids."""
        ...

    def abort_upload(self, path: str, upload: str) -> None:
        """Abort an incomplete multipart upload; a missing one is ignored."""
        ...

    def assume_connected(self) -> None:
        """Treat the store as connected, since the process that started this work was."""
        ...


def seconds_of(moment: Any) -> float | None:
    """Convert a file system's modification time to seconds since 1970; None if it is not a time."""
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
    """Convert fsspec's details of a file."""
    version = detail.get("ETag") or detail.get("etag") or detail.get("md5Hash")
    modified = detail.get("mtime") or detail.get("LastModified") or detail.get("created") or ""
    if version is None:
        version = str(int(modified * 1000)) if isinstance(modified, float) else str(modified)
    return ObjectInfo(
        name=name, size=int(detail.get("size") or 0), version=str(version).strip('"'), modified=seconds_of(modified)
    )
