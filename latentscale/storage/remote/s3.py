"""S3 and compatible stores through s3fs: list, read, write and delete objects."""

from __future__ import annotations

import asyncio
import errno
import os
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from glob import escape as glob_escape
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from latentscale.errors import LatentScaleError, StorageError
from latentscale.storage.remote import s3_listing, s3_upload
from latentscale.storage.remote.error_messages import explain
from latentscale.storage.remote.protocol import ObjectInfo, Purpose, seconds_of
from latentscale.storage.remote.reader import SMALLEST_FETCH, RangeReader
from latentscale.storage.remote.retries import Deadline, code_of, status_of
from latentscale.storage.remote.s3_connection import S3Connection, body_arguments, etag, gather, is_missing, split

T = TypeVar("T")

PROBE = ".unfinished-probe-"
DELETED_AT_ONCE = 1_000
REPLACED_WITHIN = 0.2
"""Seconds before the single retry for an object that existed a moment ago and is missing now."""


class S3Remote(S3Connection):
    """Objects of an S3 store."""

    def _work(self, action: str, path: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run, and translate permanent failures; a missing object remains a ``FileNotFoundError``."""
        connected = self.connected
        try:
            return self.run(work())
        except LatentScaleError:
            raise
        except Exception as error:
            if is_missing(error):
                raise _missing(path) from error
            where = self.address(path)
            raise explain(
                error, action, where, purpose="workspace", connected=connected, endpoint=self.endpoint
            ) from error

    # ------------------------------------------------------------------------------------------------ first contact

    def check(self, path: str, *, write: bool, purpose: Purpose) -> None:
        """Check access within the connect timeout, and raise an error if it is denied.

        Lists one key; with ``write``, also writes a small object and deletes it.
        """
        key = split(path)[1]
        first = Deadline(self.storage.first_budget, connect_timeout_s=self.storage.first_budget * 0.4)

        name = f"{key}/{PROBE}{uuid.uuid4().hex}".lstrip("/")
        prefix = f"{key}/" if key else ""
        steps: list[tuple[str, str, dict[str, Any]]] = [("list", "list_objects_v2", {"Prefix": prefix, "MaxKeys": 1})]
        if write:
            steps.append(("write", "put_object", {"Key": name, **body_arguments(b"?", self.storage)}))
            steps.append(("delete", "delete_object", {"Key": name}))
        where = self.address(path)
        for action, method, arguments in steps:
            try:
                self.run(self.request(method, path, action, arguments, deadline=first))
            except LatentScaleError:
                raise
            except Exception as error:
                raise explain(error, action, where, purpose=purpose, connected=False, endpoint=self.endpoint) from error

    # ------------------------------------------------------------------------------------------------------ reading

    def find(self, path: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """List all objects below a folder, by name; parts of large folders are listed concurrently."""
        return self._work("list", path, lambda: s3_listing.find(self, path, relative_to=relative_to))

    def glob(self, pattern: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """List all objects whose path matches a pattern."""
        return self._work("list", pattern, lambda: s3_listing.glob(self, pattern, relative_to=relative_to))

    def list_dir(self, path: str) -> list[str]:
        """List the names directly in a folder."""
        return self._work("list", path, lambda: s3_listing.list_dir(self, path))

    def is_folder(self, path: str) -> bool:
        """Whether any object is below ``path``."""
        key = split(path)[1]

        async def look() -> bool:
            arguments = {"Prefix": f"{key}/" if key else "", "MaxKeys": 1}
            answer = await self.request("list_objects_v2", path, "list", arguments)
            return bool(answer.get("Contents"))

        return self._work("list", path, look)

    def info(self, path: str, *, name: str) -> ObjectInfo | None:
        """Return size, version and time of one object; None if it does not exist."""
        key = split(path)[1]
        if not key:
            return None
        try:
            answer = self._work("look at", path, lambda: self.request("head_object", path, "look at", {"Key": key}))
        except FileNotFoundError:
            return None
        return ObjectInfo(
            name=name,
            size=int(answer["ContentLength"]),
            version=etag(answer),
            modified=seconds_of(answer.get("LastModified")),
        )

    def read(self, path: str) -> bytes:
        """Read a whole object; a large one by concurrent ranged requests."""
        return self._work("read", path, lambda: self._read(path))

    async def _read(self, path: str) -> bytes:
        part = self.storage.part_size
        try:
            head = await self._range(path, 0, part)
        except Exception as error:
            # A range request for an empty object fails.
            if code_of(error) != "InvalidRange" and status_of(error) != 416:
                raise
            return b""
        total = _total(head)
        data = cast(bytes, head["Body"])
        if len(data) >= total:
            return data
        bounds = [(start, min(start + part, total)) for start in range(len(data), total, part)]
        rest = await gather(self.fetch(path, start, stop, version=etag(head)) for start, stop in bounds)
        return b"".join((data, *rest))

    async def _range(self, path: str, start: int, stop: int) -> dict[str, Any]:
        return await self._part(path, f"{start}-{stop - 1}", "read")

    async def _part(self, path: str, span: str, action: str) -> dict[str, Any]:
        arguments = {"Key": split(path)[1], "Range": f"bytes={span}"}
        return await self.request("get_object", path, action, arguments, body=True)

    async def fetch(self, path: str, start: int, stop: int, *, version: str) -> bytes:
        """Read bytes ``start`` to ``stop`` (exclusive) of a version of an object.

        Raises
        ------
        StorageError
            If the object has another version now; compared here, since not every store honours If-Match.
        """
        try:
            answer = await self._range(path, start, stop)
        except Exception as error:
            if not is_missing(error):
                raise
            # It existed a moment ago. In Swift, an object is missing while another process replaces it.
            await asyncio.sleep(REPLACED_WITHIN)
            answer = await self._range(path, start, stop)
        if etag(answer) != version:
            raise changed(self.address(path))
        data = cast(bytes, answer["Body"])
        if len(data) > stop - start and answer.get("ContentRange") is None:
            data = data[start:stop]  # a server without range support sends everything
        if len(data) != stop - start:
            raise StorageError(
                f"{self.address(path)} returned {len(data):,} bytes instead of {stop - start:,}",
                where=self.address(path),
                hint="Run the same command again.",
            )
        return data

    def open(self, path: str, *, like: ObjectInfo | None = None, from_end: bool = False) -> BinaryIO:
        """Open an object for reading and seeking; all reads return the version that was opened.

        The first request returns the metadata together with the bytes that are read first: the beginning, or with
        ``from_end`` the end. For most objects of a workspace no further request is needed.

        Raises
        ------
        StorageError
            If it is not the listed version ``like``.
        """
        if not split(path)[1]:
            raise _missing(path)
        size, version, start, buffered = self._work("open", path, lambda: self._opened(path, from_end=from_end))
        if like is not None and (size != like.size or version != like.version):
            # In some stores listings have other ETags than the objects, so the listing is requested again.
            listed = self.glob(glob_escape(path), relative_to="") if size == like.size else {}
            if all(info.version != like.version for info in listed.values()):
                raise changed(self.address(path))
        part = self.storage.part_size

        async def pieces(start: int, stop: int) -> bytes:
            bounds = [(first, min(first + part, stop)) for first in range(start, stop, part)]
            got = await gather(self.fetch(path, first, last, version=version) for first, last in bounds)
            return got[0] if len(got) == 1 else b"".join(got)

        def fetch(start: int, stop: int) -> bytes:
            return b"" if start >= stop else self._work("read", path, lambda: pieces(start, stop))

        return cast(BinaryIO, RangeReader(fetch, size, buffered, start))

    async def _opened(self, path: str, *, from_end: bool) -> tuple[int, str, int, bytes]:
        """Return size and version of an object, and its first or last bytes with their offset before them."""
        span = f"-{SMALLEST_FETCH}" if from_end else f"0-{SMALLEST_FETCH - 1}"
        try:
            answer = await self._part(path, span, "open")
        except Exception as error:
            # The range is unsatisfiable for an empty object, and a server may not support suffix ranges.
            if code_of(error) != "InvalidRange" and status_of(error) not in (416, 501):
                raise
            found = await self.request("head_object", path, "look at", {"Key": split(path)[1]})
            return int(found["ContentLength"]), etag(found), 0, b""
        data, size = cast(bytes, answer["Body"]), _total(answer)
        # A server without range support sends everything.
        return size, etag(answer), size - len(data) if from_end else 0, data

    # ------------------------------------------------------------------------------------------------------ writing

    def put_bytes(self, path: str, data: bytes | memoryview, headers: Mapping[str, str]) -> str:
        """Write a whole object: one PUT, or a multipart upload above the threshold."""
        source = s3_upload.Buffer(memoryview(data).cast("B"))
        return self._work("write", path, lambda: s3_upload.put(self, path, source, headers))

    def put_file(self, path: str, source: Path, headers: Mapping[str, str]) -> str:
        """Write a local file as a whole object, reading it part by part."""
        with s3_upload.OpenFile(source) as opened:
            return self._work("write", path, lambda: s3_upload.put(self, path, opened, headers))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects concurrently; missing ones are ignored."""

        async def one(path: str) -> None:
            try:
                await self.request("delete_object", path, "delete", {"Key": split(path)[1]})
            except Exception as error:
                if not is_missing(error):
                    raise

        chosen = list(paths)
        for first in range(0, len(chosen), DELETED_AT_ONCE):
            batch = chosen[first : first + DELETED_AT_ONCE]
            self._work("delete", batch[0], lambda batch=batch: gather(one(path) for path in batch))

    def uploads(self, path: str, *, relative_to: str) -> list[tuple[ObjectInfo, str]]:
        """List incomplete multipart uploads below a folder, with their ids."""
        return self._work("list the uploads of", path, lambda: s3_upload.unfinished(self, path, relative_to))

    def abort_upload(self, path: str, upload: str) -> None:
        """Abort an incomplete multipart upload; a missing one is ignored."""
        try:
            self._work("give up the upload of", path, lambda: s3_upload.abort(self, path, upload))
        except FileNotFoundError:
            return


def _missing(path: str) -> FileNotFoundError:
    # With an errno, to distinguish it from Arrow's own errors, which mean damage.
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _total(answer: Mapping[str, Any]) -> int:
    """Return the size of the whole object, from the response to a ranged request."""
    total = str(answer.get("ContentRange") or "").rpartition("/")[2]
    return int(total) if total.isdigit() else int(answer["ContentLength"])


def changed(where: str) -> StorageError:
    """Build the error for an object that was overwritten while it was being read."""
    return StorageError(
        f"{where} was overwritten while it was read",
        where=where,
        hint="Run the same command again: it reads the current object.",
    )
