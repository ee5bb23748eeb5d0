"""S3 and compatible stores through s3fs: every request bounded in number and time, and tried again by one rule."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from glob import escape as glob_escape
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from latentscale.config import StorageConfig
from latentscale.errors import CorpusError, LatentScaleError, StorageError, WorkspaceError
from latentscale.storage import s3_listing, s3_upload
from latentscale.storage.credentials import resolve
from latentscale.storage.reader import RangeReader
from latentscale.storage.refusals import ELSEWHERE, EXPIRED, explain, region_of
from latentscale.storage.remote import ObjectInfo, Purpose, seconds_of
from latentscale.storage.retries import (
    Deadline,
    TruncatedBodyError,
    code_of,
    gave_up,
    is_transient,
    status_of,
)

T = TypeVar("T")

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 30
# A try may last this long, and longer for the bytes that it moves.
TRY_SECONDS = 30.0
LEAST_BYTES_A_SECOND = 1 << 20
# Below it, a digest costs less than handing the work to a thread.
_SMALL = 1 << 20
PROBE = ".unfinished-probe-"


class S3Remote:
    """One connection to a store, shared by all threads of a process.

    Parameters
    ----------
    storage : StorageConfig
    """

    def __init__(self, storage: StorageConfig) -> None:
        import s3fs

        self.storage = storage
        credentials = resolve(storage)
        arguments: dict[str, Any] = _arguments(storage) | _keys(credentials)
        self._fs: Any = s3fs.S3FileSystem(**arguments, skip_instance_cache=True)
        # One rule for all failures: that of `request`, which has a budget in seconds.
        self._fs.retries = 1
        self._pid = os.getpid()
        self._credentials = credentials
        self._gate = asyncio.Semaphore(storage.max_requests)
        self._redirected_to: str | None = None
        self.under_way = False

    def __repr__(self) -> str:
        return f"S3Remote({self.endpoint or 'AWS'!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a connection does not travel between processes; a Store does")

    @property
    def endpoint(self) -> str | None:
        """The address that is asked, where it is not that of AWS."""
        named = self.storage.endpoint_url
        return named or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")

    def assume_contact(self) -> None:
        """Take the store for one that has answered already."""
        self.under_way = True

    def address(self, path: str) -> str:
        """The path as a URL."""
        return f"s3://{path}"

    # ------------------------------------------------------------------------------------------------- one request

    def deadline(self) -> Deadline:
        """The time that a request has: that of the first contact until the store has answered once."""
        if self.under_way:
            return Deadline(self.storage.budget)
        # An address where nobody listens is wrong more often than it is late.
        return Deadline(self.storage.first_budget, patience=self.storage.first_budget * 0.4)

    async def request(
        self,
        method: str,
        path: str,
        action: str,
        arguments: Mapping[str, Any],
        *,
        deadline: Deadline | None = None,
        moves: int = 0,
        body: bool = False,
    ) -> dict[str, Any]:
        """Send a request until it is answered, refused for good, or out of time.

        Parameters
        ----------
        method : str
            Of the S3 API, as botocore names it.
        path, action : str
            What it is about and what for: a path of the bucket, and a verb for messages.
        arguments : mapping
            All but the bucket.
        moves : int
            Bytes that go over the wire, which give a try more time.
        body : bool
            Read the body of the answer, as ``Body``; one that ends early is a failed try.

        Raises
        ------
        StorageError
            When the time is over.
        Exception
            What a refusal is, as botocore or s3fs raised it.
        """
        deadline = deadline or self.deadline()
        arguments = {"Bucket": split(path)[0], **arguments}
        renewed = False
        while True:
            limit = TRY_SECONDS + moves / LEAST_BYTES_A_SECOND
            # A large transfer that goes well is not cut off by the budget; it bounds tries, not their bytes.
            limit = min(limit, deadline.left() + (moves / LEAST_BYTES_A_SECOND if moves > _SMALL else 0))
            try:
                async with self._gate:
                    answer = await asyncio.wait_for(self._once(method, arguments, body=body), max(limit, 0.5))
                self.under_way = True
                return answer
            except Exception as error:
                if code_of(error) in EXPIRED and not renewed and await self._renew():
                    renewed = True
                    continue
                if not is_transient(error):
                    raise
                wait = deadline.next_wait(error)
                if wait is None:
                    failure = gave_up(action, self._place(path), error, deadline)
                    raise failure if self.under_way else unreachable(failure, self.address(path)) from error
            await asyncio.sleep(wait)

    async def _once(self, method: str, arguments: Mapping[str, Any], *, body: bool) -> dict[str, Any]:
        answer = cast(dict[str, Any], await self._fs._call_s3(method, **arguments))
        if body:
            stream = answer["Body"]
            try:
                data = await stream.read()
            except BaseException:
                stream.close()
                raise
            wanted = int(answer.get("ContentLength") or 0)
            if len(data) != wanted:
                raise TruncatedBodyError(len(data), wanted)
            answer["Body"] = data
        return answer

    def _note_region(self, response: Any = None, **_: Any) -> None:
        """Keep the region that a store names when it refuses ours; botocore goes there by itself."""
        parsed = response[1] if isinstance(response, tuple) and isinstance(response[1], Mapping) else {}
        if parsed.get("Error", {}).get("Code") in ELSEWHERE:
            self._redirected_to = region_of(cast(Mapping[str, Any], parsed)) or self._redirected_to

    async def _watch_region(self) -> None:
        client = await self._fs.set_session()
        client.meta.events.register_first("needs-retry.s3", self._note_region)

    async def _renew(self) -> bool:
        """Read the variables again, which may name files that have changed since."""
        found = resolve(self.storage)
        if found == self._credentials:
            return False
        self._credentials = found
        self._fs.key, self._fs.secret, self._fs.token = found.key, found.secret, found.token
        await self._fs.set_session(refresh=True)
        return True

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the event loop of this process, from any thread; an interrupt ends the work too."""
        future = asyncio.run_coroutine_threadsafe(work, self._fs.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _place(self, path: str) -> str:
        endpoint = self.endpoint
        return self.address(path) + (f" ({endpoint})" if endpoint else "")

    def _work(self, action: str, path: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run, and explain what is refused; what is not there stays a ``FileNotFoundError``."""
        under_way = self.under_way
        try:
            return self.run(work())
        except LatentScaleError:
            raise
        except Exception as error:
            if is_missing(error):
                raise FileNotFoundError(path) from error
            place = self.address(path)
            raise explain(
                error, action, place, purpose="workspace", under_way=under_way, endpoint=self.endpoint
            ) from error

    # ------------------------------------------------------------------------------------------------ first contact

    def check(self, path: str, *, write: bool, purpose: Purpose) -> None:
        """Say within the time for the first contact what is wrong with a place, if something is.

        Lists one key; ``write`` also writes an object of a few bytes and deletes it.
        """
        key = split(path)[1]
        first = Deadline(self.storage.first_budget, patience=self.storage.first_budget * 0.4)

        name = f"{key}/{PROBE}{uuid.uuid4().hex}".lstrip("/")
        prefix = f"{key}/" if key else ""
        steps: list[tuple[str, str, dict[str, Any]]] = [("list", "list_objects_v2", {"Prefix": prefix, "MaxKeys": 1})]
        if write:
            steps.append(("write", "put_object", {"Key": name, **checked(b"?")}))
            steps.append(("delete", "delete_object", {"Key": name}))
        place = self.address(path)
        for action, method, arguments in steps:
            try:
                if self.storage.region and not self.under_way:
                    self.run(self._watch_region())
                self.run(self.request(method, path, action, arguments, deadline=first))
            except LatentScaleError:
                raise
            except Exception as error:
                raise explain(error, action, place, purpose=purpose, under_way=False, endpoint=self.endpoint) from error

    # ------------------------------------------------------------------------------------------------------ reading

    def find(self, path: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """All objects below a folder, by name; large folders are listed in several parts at once."""
        return self._work("list", path, lambda: s3_listing.find(self, path, relative_to=relative_to))

    def glob(self, pattern: str, *, relative_to: str) -> dict[str, ObjectInfo]:
        """All objects whose path matches a pattern."""
        return self._work("list", pattern, lambda: s3_listing.glob(self, pattern, relative_to=relative_to))

    def beside(self, path: str) -> list[str]:
        """Names of what is in a folder, one level deep."""
        return self._work("list", path, lambda: s3_listing.beside(self, path))

    def is_folder(self, path: str) -> bool:
        """Whether anything is below ``path``."""
        key = split(path)[1]

        async def look() -> bool:
            arguments = {"Prefix": f"{key}/" if key else "", "MaxKeys": 1}
            answer = await self.request("list_objects_v2", path, "list", arguments)
            return bool(answer.get("Contents"))

        return self._work("list", path, look)

    def info(self, path: str, *, name: str) -> ObjectInfo | None:
        """What is known of one object, or None."""
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
        """A whole object; a large one by several requests at once."""
        return self._work("read", path, lambda: self._read(path))

    async def _read(self, path: str) -> bytes:
        part = self.storage.part_size
        try:
            head = await self._range(path, 0, part)
        except Exception as error:
            # There is no first byte of an empty object.
            if code_of(error) != "InvalidRange" and status_of(error) != 416:
                raise
            return b""
        total = _total(head)
        data = cast(bytes, head["Body"])
        if len(data) >= total:
            return data
        whole = bytearray(total)
        whole[: len(data)] = data

        async def fill(start: int) -> None:
            stop = min(start + part, total)
            whole[start:stop] = await self.fetch(path, start, stop, version=etag(head))

        await together(fill(start) for start in range(len(data), total, part))
        return bytes(whole)

    async def _range(self, path: str, start: int, stop: int) -> dict[str, Any]:
        arguments = {"Key": split(path)[1], "Range": f"bytes={start}-{stop - 1}"}
        return await self.request("get_object", path, "read", arguments, moves=stop - start, body=True)

    async def fetch(self, path: str, start: int, stop: int, *, version: str) -> bytes:
        """Bytes from ``start`` to ``stop`` of a version of an object.

        Raises
        ------
        StorageError
            If the object is another one by now: compared here, since not every store honours If-Match.
        """
        answer = await self._range(path, start, stop)
        if etag(answer) != version:
            raise changed(self.address(path))
        data = cast(bytes, answer["Body"])
        if len(data) > stop - start and answer.get("ContentRange") is None:
            data = data[start:stop]  # a server that knows no ranges sends everything
        if len(data) != stop - start:
            raise StorageError(
                f"{self.address(path)} gave {len(data):,} bytes where {stop - start:,} were asked for",
                where=self.address(path),
                hint="Run the same command again.",
            )
        return data

    def open(self, path: str, *, like: ObjectInfo | None = None) -> BinaryIO:
        """An object for reading and seeking; every piece is of the version that was opened.

        Raises
        ------
        StorageError
            If it is not the version that a listing told, ``like``.
        """
        found = self.info(path, name=path)
        if found is None:
            raise FileNotFoundError(path)
        if like is not None and (found.size != like.size or found.version != like.version):
            # In some stores a listing has other ETags than the object itself: it is asked again.
            listed = self.glob(glob_escape(path), relative_to="") if found.size == like.size else {}
            if all(info.version != like.version for info in listed.values()):
                raise changed(self.address(path))
        part, version = self.storage.part_size, found.version

        async def pieces(start: int, stop: int) -> bytes:
            bounds = [(first, min(first + part, stop)) for first in range(start, stop, part)]
            got = await together(self.fetch(path, first, last, version=version) for first, last in bounds)
            return got[0] if len(got) == 1 else b"".join(got)

        def fetch(start: int, stop: int) -> bytes:
            return b"" if start >= stop else self._work("read", path, lambda: pieces(start, stop))

        return cast(BinaryIO, RangeReader(fetch, found.size))

    # ------------------------------------------------------------------------------------------------------ writing

    def put_bytes(self, path: str, data: bytes | memoryview, headers: Mapping[str, str]) -> str:
        """Write a whole object: one PUT, or a multipart upload above the threshold."""
        source = s3_upload.Buffer(memoryview(data).cast("B"))
        return self._work("write", path, lambda: s3_upload.put(self, path, source, headers))

    def put_file(self, path: str, source: Path, headers: Mapping[str, str]) -> str:
        """Write a local file as a whole object, part by part."""
        with s3_upload.OpenFile(source) as opened:
            return self._work("write", path, lambda: s3_upload.put(self, path, opened, headers))

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, several at once; what is not there is no error."""

        async def one(path: str) -> None:
            try:
                await self.request("delete_object", path, "delete", {"Key": split(path)[1]})
            except Exception as error:
                if not is_missing(error):
                    raise

        chosen = list(paths)
        if chosen:
            self._work("delete", chosen[0], lambda: together(one(path) for path in chosen))

    def uploads(self, path: str, *, relative_to: str) -> list[tuple[ObjectInfo, str]]:
        """Incomplete multipart uploads below a folder, with their ids."""
        return self._work("list the uploads of", path, lambda: s3_upload.unfinished(self, path, relative_to))

    def abort_upload(self, path: str, upload: str) -> None:
        """Give up an incomplete multipart upload; one that is not there is no error."""
        try:
            self._work("give up the upload of", path, lambda: s3_upload.abort(self, path, upload))
        except FileNotFoundError:
            return


# ---------------------------------------------------------------------------------------------------------- the client


def _arguments(storage: StorageConfig) -> dict[str, Any]:
    """What s3fs is opened with, keys apart."""
    config = {
        "s3": {"addressing_style": storage.addressing_style},
        # Stores other than AWS reject the checksums that botocore adds by itself. Content-MD5 goes with each write
        # instead, which every store knows, AWS too: one way for all of them is one that is tested.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "max_pool_connections": storage.max_requests + 2,
    }
    options = dict(storage.options)
    client = dict(cast(Mapping[str, Any], options.pop("client_kwargs", {})))
    if storage.region:
        client["region_name"] = storage.region
    # Listings are never kept: they would hide what other writers have done since.
    arguments: dict[str, Any] = {
        "anon": storage.anonymous,
        "requester_pays": storage.requester_pays,
        "config_kwargs": config | dict(cast(Mapping[str, Any], options.pop("config_kwargs", {}))),
        "client_kwargs": client,
        "use_listings_cache": False,
    }
    if storage.endpoint_url:
        arguments["endpoint_url"] = storage.endpoint_url
    if storage.profile:
        arguments["profile"] = storage.profile
    return arguments | options


def _keys(credentials: Any) -> dict[str, str]:
    named = {"key": credentials.key, "secret": credentials.secret, "token": credentials.token}
    return {name: value for name, value in named.items() if value is not None}


def split(path: str) -> tuple[str, str]:
    """Bucket and key of a path."""
    bucket, _, key = path.partition("/")
    return bucket, key


def etag(answer: Mapping[str, Any]) -> str:
    """The ETag of an answer, without its quotes."""
    return str(answer.get("ETag") or "").strip('"')


def checked(data: bytes) -> dict[str, Any]:
    """A body with the checksum by which the store notices that it was altered on its way."""
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Body": data, "ContentMD5": b64encode(digest).decode()}


def is_missing(error: BaseException) -> bool:
    """Say whether a failure means that there is no such object; a missing bucket is another matter."""
    return code_of(error) in ("NoSuchKey", "404", "NotFound") or (
        isinstance(error, FileNotFoundError) and code_of(error) not in ("NoSuchBucket", "NoSuchUpload")
    )


def _total(answer: Mapping[str, Any]) -> int:
    """Bytes of the whole object, from the answer to a ranged request."""
    total = str(answer.get("ContentRange") or "").rpartition("/")[2]
    return int(total) if total.isdigit() else int(answer["ContentLength"])


def changed(place: str) -> StorageError:
    """Say that an object was written again while it was read."""
    return StorageError(
        f"{place} was written again while it was read",
        where=place,
        hint="Run the same command again: it reads what is there now.",
    )


def unreachable(failure: StorageError, place: str) -> StorageError:
    """Say that a store did not answer when it was first asked."""
    return StorageError(
        f"the store does not answer: {failure.message}",
        where=place,
        hint="Check the endpoint_url, the network and whether the store runs; then run the same command again.",
    )


async def together(work: Iterable[Awaitable[T]]) -> list[T]:
    """Do all at once; the first failure ends the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
