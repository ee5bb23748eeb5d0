"""Write an object to an S3 store atomically: by a PUT, or by a multipart upload."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from latentscale.errors import StorageError
from latentscale.storage.remote.protocol import ObjectInfo, seconds_of
from latentscale.storage.remote.retries import code_of
from latentscale.storage.remote.s3_connection import S3Connection, body_arguments, etag, gather, is_missing, split

MAX_PARTS = 10_000
_MD5 = re.compile(r"[0-9a-f]{32}$")
_USUAL = re.compile(r"[0-9a-f]{32}(-[0-9]+)?$")
# Most parts in memory at a time.
PARTS_AHEAD = 6
RESTARTS = 3


class Source(Protocol):
    """Bytes to be written."""

    size: int

    def part(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` to ``stop`` (exclusive); thread-safe."""
        ...


class Buffer:
    """Bytes in memory."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.size = len(data)

    def part(self, start: int, stop: int) -> bytes:
        """Return a copy of a range of the bytes."""
        return bytes(self._data[start:stop])


class OpenFile:
    """A local file, read part by part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def part(self, start: int, stop: int) -> bytes:
        """Return a range of the file's bytes."""
        with self._path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        if len(data) != stop - start:
            raise StorageError(f"{self._path} became shorter while it was uploaded", where=str(self._path))
        return data


async def put(remote: S3Connection, path: str, source: Source, headers: Mapping[str, str]) -> str:
    """Write ``source`` as the object ``path`` atomically; returns its ETag."""
    if source.size >= remote.storage.multipart_threshold:
        return await _put_parts(remote, path, source, headers)
    body = await _body(remote, source, 0, source.size)
    answer = await remote.request(
        "put_object", path, "write", {"Key": split(path)[1], **body, **headers}, sent_bytes=source.size
    )
    return etag(answer)


async def _body(remote: S3Connection, source: Source, start: int, stop: int) -> dict[str, Any]:
    def take() -> dict[str, Any]:
        return body_arguments(source.part(start, stop), remote.storage)

    return take() if stop - start < 1 << 20 else await asyncio.to_thread(take)


async def _put_parts(remote: S3Connection, path: str, source: Source, headers: Mapping[str, str]) -> str:
    key = split(path)[1]
    for _ in range(RESTARTS):
        begun = await remote.request("create_multipart_upload", path, "write", {"Key": key, **headers})
        upload = str(begun["UploadId"])
        try:
            parts, wanted = await _send_parts(remote, path, upload, source)
            version = await _complete(remote, path, upload, parts, wanted, source.size)
        except BaseException:
            # Otherwise the parts would stay in the store, and be charged for.
            await asyncio.shield(_abort_quietly(remote, path, upload))
            raise
        if version is not None:
            return version
    raise StorageError(
        f"the upload of {remote.address(path)} was lost by the store {RESTARTS} times",
        where=remote.address(path),
        hint="Run the same command again.",
    )


async def _send_parts(remote: S3Connection, path: str, upload: str, source: Source) -> tuple[list[dict[str, Any]], str]:
    """Upload all parts; returns the list that completes the upload, and the expected ETag of the object."""
    key = split(path)[1]
    # Parts of equal size, as some stores require.
    size = max(remote.storage.part_size, -(-source.size // MAX_PARTS))
    room = asyncio.Semaphore(min(PARTS_AHEAD, remote.storage.max_requests))

    async def send(number: int) -> dict[str, Any]:
        start = (number - 1) * size
        stop = min(start + size, source.size)
        async with room:
            body = await _body(remote, source, start, stop)
            answer = await remote.request(
                "upload_part",
                path,
                "write",
                {"Key": key, "UploadId": upload, "PartNumber": number, **body},
                sent_bytes=stop - start,
            )
        return {"PartNumber": number, "ETag": f'"{etag(answer)}"'}

    count = -(-source.size // size)
    parts = await gather(send(number) for number in range(1, count + 1))
    return parts, _whole_etag([str(part["ETag"]).strip('"') for part in parts])


def _whole_etag(parts: Sequence[str]) -> str:
    """Return the usual ETag of a multipart object, the MD5 of its parts' MD5s; empty if their ETags are no MD5s."""
    if not all(_MD5.match(part) for part in parts):
        return ""
    joined = b"".join(bytes.fromhex(part) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


async def _complete(
    remote: S3Connection, path: str, upload: str, parts: list[dict[str, Any]], wanted: str, size: int
) -> str | None:
    """Complete the upload; returns the ETag, or None if the upload was lost and must be restarted.

    If the response is lost, the retry finds no such upload any more: whether the object exists then tells whether the
    first request succeeded.
    """
    key = split(path)[1]
    try:
        answer = await remote.request(
            "complete_multipart_upload",
            path,
            "write",
            {"Key": key, "UploadId": upload, "MultipartUpload": {"Parts": parts}},
        )
        return etag(answer)
    except Exception as error:
        if code_of(error) != "NoSuchUpload":
            raise
    try:
        found = await remote.request("head_object", path, "look at", {"Key": key})
    except Exception as error:
        if is_missing(error):
            return None
        raise
    there = etag(found)
    # Encrypting stores have other ETags; a different ETag of the usual form belongs to another writer's object.
    same = there == wanted if wanted and _USUAL.match(there) else True
    return there if same and int(found["ContentLength"]) == size else None


async def _abort_quietly(remote: S3Connection, path: str, upload: str) -> None:
    try:
        await asyncio.wait_for(abort(remote, path, upload), 10)
    except Exception:  # noqa: BLE001 - the error that led here is the one to report; `gc` finds what is left
        return


async def abort(remote: S3Connection, path: str, upload: str) -> None:
    """Abort an upload; a missing one is ignored."""
    key = split(path)[1]
    try:
        await remote.request("abort_multipart_upload", path, "give up the upload of", {"Key": key, "UploadId": upload})
    except Exception as error:
        if code_of(error) not in ("NoSuchUpload", "NoSuchKey", "404"):
            raise


async def unfinished(remote: S3Connection, path: str, relative_to: str) -> list[tuple[ObjectInfo, str]]:
    """List uploads below a folder that were never completed, with their ids."""
    key = split(path)[1]
    prefix, base = f"{key}/" if key else "", split(relative_to)[1]
    cut = len(base) + 1 if base else 0
    found: list[tuple[ObjectInfo, str]] = []
    marker: dict[str, str] = {}
    while True:
        answer = await remote.request(
            "list_multipart_uploads", path, "list the uploads of", {"Prefix": prefix, **marker}
        )
        for upload in cast(list[dict[str, Any]], answer.get("Uploads") or []):
            name = str(upload["Key"])
            if name.startswith(prefix):  # not every store honours the prefix
                info = ObjectInfo(name=name[cut:], size=0, version="", modified=seconds_of(upload.get("Initiated")))
                found.append((info, str(upload["UploadId"])))
        following = {"KeyMarker": answer.get("NextKeyMarker"), "UploadIdMarker": answer.get("NextUploadIdMarker")}
        following = {name: str(value) for name, value in following.items() if value}
        if not answer.get("IsTruncated") or not following or following == marker:
            return found
        marker = following
