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
    """The entry of one object in a listing.

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
    """Objects of a remote store. Paths are those of fsspec: for S3, bucket and key.

    Every operation is tried again while its failure may pass; in the end it raises an error of ours, except that what
    is not there is a ``FileNotFoundError`` and what may not be touched a ``PermissionError`` where a single object is
    meant.
    """

    def address(self, path: str) -> str:
        """The path as a URL."""
        ...

    def check(self, path: str, *, write: bool, purpose: Purpose) -> None:
        """Check access within the time for the first contact, and raise what is wrong."""
        ...

    def find(self, path: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """All objects below the folder ``path``, by their name below ``relative_to``."""
        ...

    def glob(self, pattern: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """All objects whose path matches ``pattern``."""
        ...

    def list_dir(self, path: str) -> list[str]:
        """Names in a folder, one level deep."""
        ...

    def info(self, path: str, *, name: str) -> ObjectInfo | None:
        """Size, version and time of one object; None if it does not exist."""
        ...

    def is_folder(self, path: str) -> bool:
        """Whether anything is below ``path``."""
        ...

    def read(self, path: str) -> bytes:
        """A whole object."""
        ...

    def open(self, path: str, *, like: ObjectInfo | None = None, from_end: bool = False) -> BinaryIO:
        """An object for reading and seeking; refused where it is known not to be the one that was listed, ``like``.

        ``from_end``: it is one that is read from its end, as parquet is.
        """
        ...

    def put_bytes(self, path: str, data: bytes | memoryview, headers: Mapping[str, str]) -> str:
        """Write a whole object; gives its version, or an empty string."""
        ...

    def put_file(self, path: str, source: Path, headers: Mapping[str, str]) -> str:
        """Write a local file as a whole object; gives its version, or an empty string."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; missing ones are no error."""
        ...

    def uploads(self, path: str, *, relative_to: str) -> list[tuple[ObjectInfo, str]]:
        """Incomplete multipart uploads below a folder, with their ids."""
        ...

    def abort_upload(self, path: str, upload: str) -> None:
        """Abort an incomplete multipart upload; a missing one is no error."""
        ...

    def assume_contact(self) -> None:
        """Treat the store as connected: this process continues work that another one started."""
        ...


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
    """Convert the details of a file from fsspec."""
    version = detail.get("ETag") or detail.get("etag") or detail.get("md5Hash")
    modified = detail.get("mtime") or detail.get("LastModified") or detail.get("created") or ""
    if version is None:
        version = str(int(modified * 1000)) if isinstance(modified, float) else str(modified)
    return ObjectInfo(
        name=name, size=int(detail.get("size") or 0), version=str(version).strip('"'), modified=seconds_of(modified)
    )
