"""Retries: classification of transient failures, backoff, and the final error."""

from __future__ import annotations

import errno
import random
import re
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

from latentscale.errors import LatentScaleError, StorageError

T = TypeVar("T")

FIRST_WAIT = 0.1
LONGEST_WAIT = 10.0

_TRANSIENT_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "BadDigest",  # the bytes were corrupted in transit
        "IncompleteBody",
        "InternalError",
        "InternalFailure",
        "OperationAborted",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TransactionInProgressException",
        "XAmzContentSHA256Mismatch",
    }
)
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 509})
_TRANSIENT_ERRNO = frozenset(
    {
        errno.EBUSY,
        errno.EAGAIN,
        errno.EIO,
        errno.EPIPE,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        getattr(errno, "EREMOTEIO", errno.EIO),
    }
)
# By name, since the client libraries are optional.
_TRANSIENT_NAMES = frozenset(
    {
        "ClientConnectionError",
        "ClientConnectorError",
        "ClientOSError",
        "ClientPayloadError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ConnectionError",
        "ContentLengthError",
        "EndpointConnectionError",
        "FSTimeoutError",
        "HTTPClientError",
        "IncompleteRead",
        "IncompleteReadError",
        "ReadTimeoutError",
        "ResponseParserError",
        "ResponseStreamingError",
        "ServerDisconnectedError",
        "ServerTimeoutError",
        "ServiceRequestError",
        "ServiceResponseError",
        "TimeoutError",
    }
)
# A wrong name or a wrong certificate is permanent.
_LASTING_NAMES = frozenset({"ClientConnectorCertificateError", "ClientConnectorSSLError", "SSLError", "InvalidURL"})


class TruncatedBodyError(OSError):
    """A response body is shorter than its announced length."""

    def __init__(self, got: int, wanted: int) -> None:
        super().__init__(errno.EIO, f"the body ended after {got:,} of {wanted:,} bytes")


def causes(error: BaseException) -> list[BaseException]:
    """Return the error and its chain of causes, outermost first."""
    found: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in found and len(found) < 12:
        found.append(current)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found


def response_of(error: BaseException) -> dict[str, Any] | None:
    """Return the S3 response of an error, or None."""
    for cause in causes(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict) and "Error" in response:
            return response
    return None


def code_of(error: BaseException) -> str:
    """Return the S3 error code, such as ``SlowDown``; empty if there was no response."""
    response = response_of(error)
    return "" if response is None else str(response["Error"].get("Code", ""))


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of a failed request, or None."""
    response = response_of(error)
    if response is not None:
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return int(status) if status else None
    for cause in causes(error):
        for name in ("status", "status_code", "code"):
            value = getattr(cause, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None


def is_transient(error: BaseException) -> bool:
    """Whether a retry of the same request may succeed."""
    if isinstance(error, LatentScaleError):
        return False
    names = {kind.__name__ for cause in causes(error) for kind in type(cause).__mro__}
    if names & _LASTING_NAMES:
        return False
    if response_of(error) is not None:
        # Some responses have no error code: those to HEAD have no body, and some bodies are not XML.
        return code_of(error) in _TRANSIENT_CODES or status_of(error) in _TRANSIENT_STATUS
    # Before the status, since the HTTP library reports truncated response headers as a bad request.
    if names & _TRANSIENT_NAMES or isinstance(error, ConnectionError | TimeoutError | EOFError | TruncatedBodyError):
        return True
    if (status := status_of(error)) is not None:
        return status in _TRANSIENT_STATUS
    if any(isinstance(cause, socket.gaierror) for cause in causes(error)):
        return True  # a resolver that does not answer; the connect timeout is short
    return isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO


def is_unreachable(error: BaseException) -> bool:
    """Whether the failure means that no server is reachable at the address."""
    names = {kind.__name__ for cause in causes(error) for kind in type(cause).__mro__}
    refused = any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in causes(error))
    return refused or bool(names & {"EndpointConnectionError", "ClientConnectorError", "ConnectTimeoutError"})


def describe(error: BaseException) -> str:
    """Describe an error in one line, without memory addresses, request signatures and credentials."""
    response = response_of(error)
    if response is not None:
        inner = response["Error"]
        code, message = str(inner.get("Code") or ""), str(inner.get("Message") or "")
        status = status_of(error)
        text = ": ".join(part for part in (code, message) if part and part != "Unknown") or "no reason given"
        return _clean(text if status is None or str(status) in code else f"{text} (HTTP {status})")
    text = str(error).strip()
    name = type(error).__name__
    return _clean(f"{name}: {text}" if text else {"TimeoutError": "no answer in time"}.get(name, name))


def _clean(text: str) -> str:
    text = " ".join(text.split())
    text = re.sub(r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s\"']+", r"\1…", text)
    text = re.sub(r"(?i)(AWSAccessKeyId|Signature|sig)=[^&\s\"']+", r"\1=…", text)
    text = re.sub(r"(https?://[^\s\"'?]+)\?[^\s\"']*", r"\1", text)
    text = re.sub(r"(\w+://)[^/@\s]+@", r"\1…@", text)
    return text if len(text) <= 300 else text[:297] + "…"


def wait_before(attempt: int) -> float:
    """Return the seconds before the next attempt: exponential backoff with full jitter.

    Parameters
    ----------
    attempt : int
        Attempts made so far, from 1.
    """
    return random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt, 16)))  # noqa: S311 - no secret


class Deadline:
    """The time limit of a request, including all retries.

    Parameters
    ----------
    seconds : float
    connect_timeout_s : float, optional
        A shorter limit while no server is reachable at the address.
    """

    def __init__(self, seconds: float, *, connect_timeout_s: float | None = None) -> None:
        self._end = time.monotonic() + seconds
        self._connect_end = (
            self._end if connect_timeout_s is None else min(self._end, time.monotonic() + connect_timeout_s)
        )
        self.seconds = seconds
        self.attempts = 0

    def left(self) -> float:
        """Return the remaining seconds; never negative."""
        return max(0.0, self._end - time.monotonic())

    def next_wait(self, error: BaseException) -> float | None:
        """Count a failed attempt; returns the seconds before the next one, or None if there is no time for one."""
        self.attempts += 1
        wait = wait_before(self.attempts)
        end = self._connect_end if is_unreachable(error) else self._end
        return wait if time.monotonic() + wait < end else None


def timeout_error(action: str, where: str, error: BaseException, deadline: Deadline) -> StorageError:
    """Build the final error, with the number of attempts and the last failure."""
    tries = deadline.attempts
    how = f" ({tries:,} tries in {deadline.seconds - deadline.left():.0f} s)" if tries > 1 else ""
    return StorageError(
        f"cannot {action} {where}: {describe(error)}{how}",
        where=where,
        hint="When the store answers again, run the same command; it resumes where it stopped.",
    )


def retrying(call: Callable[[], T], *, action: str, where: str, deadline: Deadline) -> T:
    """Call until it succeeds, fails permanently, or the deadline has passed.

    Raises
    ------
    StorageError
        When the deadline has passed, with the last failure.
    """
    while True:
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
            wait = deadline.next_wait(error)
            if wait is None:
                raise timeout_error(action, where, error, deadline) from error
        time.sleep(wait)
