"""A connection to an S3 store, with bounded concurrency and one retry policy for all requests."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar, cast

from latentscale.config import StorageConfig
from latentscale.errors import StorageError, WorkspaceError
from latentscale.storage.remote.credentials import resolve
from latentscale.storage.remote.error_messages import ELSEWHERE, EXPIRED, region_of
from latentscale.storage.remote.retries import (
    Deadline,
    TruncatedBodyError,
    code_of,
    is_transient,
    timeout_error,
)

T = TypeVar("T")

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 30
# Longest and least time in seconds that an attempt may take without transferring a byte.
TRY_SECONDS = 30.0
LEAST_TRY = 0.5
_PIECE = 1 << 20
LEAST_BYTES_A_SECOND = 1 << 20
# Below this size in bytes, computing a digest costs less than handing it to a thread.
_SMALL = 1 << 20
PROBE = ".unfinished-probe-"


class S3Connection:
    """A connection to a store, shared by all threads of a process.

    Parameters
    ----------
    storage : StorageConfig
    """

    def __init__(self, storage: StorageConfig) -> None:
        import s3fs

        self.storage = storage
        credentials = resolve(storage)
        arguments: dict[str, Any] = _arguments(storage) | _key_arguments(credentials)
        self._fs: Any = s3fs.S3FileSystem(**arguments, skip_instance_cache=True)
        # The client does not retry: `request` does, within a budget in seconds.
        self._fs.retries = 1
        self._pid = os.getpid()
        self._credentials = credentials
        self._gate = asyncio.Semaphore(storage.max_requests)
        self._redirected_to: str | None = None
        self._watched = False
        self.connected = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint or 'AWS'!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a connection does not travel between processes; a Store does")

    @property
    def endpoint(self) -> str | None:
        """Return the endpoint URL, or None for AWS."""
        named = self.storage.endpoint_url
        return named or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")

    def assume_connected(self) -> None:
        """Treat the store as connected."""
        self.connected = True

    def address(self, path: str) -> str:
        """Return the path as a URL."""
        return f"s3://{path}"

    # ------------------------------------------------------------------------------------------------- one request

    def deadline(self) -> Deadline:
        """Return the deadline of a new request; the connect timeout applies until the store has answered once."""
        if self.connected:
            return Deadline(self.storage.budget)
        # An unreachable address is more often wrong than slow.
        return Deadline(self.storage.first_budget, connect_timeout_s=self.storage.first_budget * 0.4)

    async def request(
        self,
        method: str,
        path: str,
        action: str,
        arguments: Mapping[str, Any],
        *,
        deadline: Deadline | None = None,
        sent_bytes: int = 0,
        body: bool = False,
    ) -> dict[str, Any]:
        """Send a request, with retries, until it succeeds, fails permanently, or its deadline has passed.

        Parameters
        ----------
        method : str
            Method of the S3 API, by its name in botocore.
        path, action : str
            Path in the store, and a verb for messages.
        arguments : mapping
            Arguments of the method, except the bucket.
        sent_bytes : int
            Bytes to be sent, which extend the time limit of an attempt.
        body : bool
            Read the response body into ``Body``; a truncated one is a failed attempt.

        Raises
        ------
        StorageError
            When the deadline has passed.
        Exception
            A permanent failure, as botocore or s3fs raised it.
        """
        await self._watch()
        arguments = {"Bucket": split(path)[0], **arguments}
        renewed = False
        while True:
            async with self._gate:
                # The deadline starts here, not while the request waits for a free slot.
                deadline = deadline or self.deadline()
                answer = await self._attempt(method, arguments, deadline, sent_bytes=sent_bytes, body=body)
            if not isinstance(answer, Exception):
                self._refuse_other_region(path)
                self.connected = True
                return answer
            if code_of(answer) in EXPIRED and not renewed and await self._renew():
                renewed = True
                continue
            if not is_transient(answer):
                raise answer
            wait = deadline.next_wait(answer)
            if wait is None:
                failure = timeout_error(action, self._where(path), answer, deadline)
                raise failure if self.connected else unreachable_error(failure, self.address(path)) from answer
            await asyncio.sleep(wait)

    async def _attempt(
        self, method: str, arguments: Mapping[str, Any], deadline: Deadline, *, sent_bytes: int, body: bool
    ) -> dict[str, Any] | Exception:
        """Send a request once; a failure is returned, so that no slot is occupied during the backoff."""
        # The budget bounds stalls, not transfers: an upload has additional time for its bytes, and a body may take as
        # long as data arrives.
        still = max(min(TRY_SECONDS, deadline.left()), LEAST_TRY)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(
                still + (sent_bytes / LEAST_BYTES_A_SECOND if sent_bytes > _SMALL else 0)
            ) as clock:
                answer = cast(dict[str, Any], await self._fs._call_s3(method, **arguments))
                if body:
                    answer["Body"] = await _read_body(answer, lambda: clock.reschedule(loop.time() + still))
                return answer
        except Exception as error:  # noqa: BLE001 - the caller decides what it means
            return error

    def _note_region(self, response: Any = None, **_: Any) -> None:
        """Remember the region of a redirect; botocore follows it by itself."""
        parsed = response[1] if isinstance(response, tuple) and isinstance(response[1], Mapping) else {}
        if parsed.get("Error", {}).get("Code") in ELSEWHERE:
            self._redirected_to = region_of(cast(Mapping[str, Any], parsed)) or self._redirected_to

    async def _watch(self) -> None:
        if not self._watched:
            client = await self._fs.set_session()
            client.meta.events.register_first("needs-retry.s3", self._note_region)
            self._watched = True

    def _refuse_other_region(self, path: str) -> None:
        # Redirects are followed only if the settings name no region.
        named, found = self.storage.region, self._redirected_to
        if named and found and named != found:
            raise WorkspaceError(
                f"the bucket {split(path)[0]!r} is in the region {found}, not {named}",
                where=self.address(path),
                hint=f"--storage region={found}",
            )

    async def _renew(self) -> bool:
        """Read the credentials again, as their files may have changed; True if they have."""
        found = resolve(self.storage)
        if found == self._credentials:
            return False
        self._credentials = found
        self._fs.key, self._fs.secret, self._fs.token = found.key, found.secret, found.token
        await self._fs.set_session(refresh=True)
        self._watched = False
        return True

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop of this process, from any thread; an interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._fs.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _where(self, path: str) -> str:
        endpoint = self.endpoint
        return self.address(path) + (f" ({endpoint})" if endpoint else "")


# ---------------------------------------------------------------------------------------------------------- the client


def _arguments(storage: StorageConfig) -> dict[str, Any]:
    """Return the arguments of s3fs, without credentials."""
    config = {
        "s3": {"addressing_style": storage.addressing_style},
        # Stores other than AWS reject the checksums that botocore adds by default. All stores check the SHA-256 of
        # the body, which is part of the signature.
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
    # Listings are not cached: they would miss changes by other writers.
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


def _key_arguments(credentials: Any) -> dict[str, str]:
    named = {"key": credentials.key, "secret": credentials.secret, "token": credentials.token}
    return {name: value for name, value in named.items() if value is not None}


def split(path: str) -> tuple[str, str]:
    """Split a path into bucket and key."""
    bucket, _, key = path.partition("/")
    return bucket, key


def etag(answer: Mapping[str, Any]) -> str:
    """Return the ETag of a response, without quotes."""
    return str(answer.get("ETag") or "").strip('"')


async def _read_body(answer: Mapping[str, Any], moved: Callable[[], None]) -> bytes:
    """Read the body of a response; ``moved`` is called after each chunk.

    Raises
    ------
    TruncatedBodyError
        If the body is truncated.
    """
    stream = answer["Body"]
    pieces: list[bytes] = []
    try:
        while piece := await stream.read(_PIECE):
            pieces.append(piece)
            moved()
    except BaseException:
        stream.close()
        raise
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    wanted = _expected_length(answer)
    if len(data) != wanted:
        raise TruncatedBodyError(len(data), wanted)
    return data


def _expected_length(answer: Mapping[str, Any]) -> int:
    """Return the expected length of a response body in bytes, from its Content-Range if there is one."""
    span = re.match(r"bytes (\d+)-(\d+)/", str(answer.get("ContentRange") or ""))
    return int(span[2]) - int(span[1]) + 1 if span else int(answer.get("ContentLength") or 0)


def body_arguments(data: bytes, storage: StorageConfig) -> dict[str, Any]:
    """Return the body argument; unsigned requests get an MD5, as signatures cover the body's SHA-256."""
    if not storage.anonymous:
        return {"Body": data}
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    return {"Body": data, "ContentMD5": b64encode(digest).decode()}


def is_missing(error: BaseException) -> bool:
    """Whether a failure means that the object does not exist; a missing bucket is another error."""
    return code_of(error) in ("NoSuchKey", "404", "NotFound") or (
        isinstance(error, FileNotFoundError) and code_of(error) not in ("NoSuchBucket", "NoSuchUpload")
    )


def unreachable_error(failure: StorageError, where: str) -> StorageError:
    """Build the error for a store that has never answered."""
    return StorageError(
        f"the store does not answer: {failure.message}",
        where=where,
        hint="Check the endpoint_url, the network and whether the store runs; then run the same command again.",
    )


async def gather(work: Iterable[Awaitable[T]]) -> list[T]:
    """Run awaitables concurrently; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
