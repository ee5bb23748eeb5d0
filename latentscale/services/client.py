"""HTTP client of a service: rate-limited requests with retries, and a distinct error for each kind of failure."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import orjson

from latentscale.errors import ConfigError, LatentScaleError, ResourceError, require, shortened
from latentscale.redaction import MARK, without_signatures
from latentscale.services.failures import BadAnswerError, RefusedError, UnansweredError
from latentscale.services.pace import Clock, Pacer, asked_wait, backoff_seconds, used_up
from latentscale.services.terms import Spending, Usage

if TYPE_CHECKING:
    import httpx

Answer = TypeVar("Answer")
AnswerRead = TypeVar("AnswerRead", covariant=True)

# Status codes after which a smaller or different request may be accepted.
_REFUSED = (400, 413, 422)
_REPEATED = (408, 409, 425, 429)
_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance")
# Keys of an error object in a response with status 200.
_ERROR_KEYS = ("error", "message", "detail")
# Anthropic has no error code for an exhausted balance.
_SPENT_SENTENCE = "credit balance is too low"
# Seconds; if a service asks for a longer wait, the run fails, and the same command resumes later.
_LONGEST_WAIT = 900.0
_MOST_BYTES = 512 << 20
_REASON = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Description of a service, for requests and messages.

    Attributes
    ----------
    name : str
        Such as ``embedding service``.
    settings : str
        Its settings group, such as ``embed.options``.
    model : str
        The model name that the service uses.
    path : str
        Appended to the base URL.
    address_hint : str
        A sentence on the expected end of the base URL.
    extra, used_for : str
        Extra of the package that installs the HTTP client, and what it is used for.
    """

    name: str
    settings: str
    model: str
    path: str
    address_hint: str
    extra: str
    used_for: str


class Question(Protocol[AnswerRead]):
    """A request with its parser; used by one thread.

    Attributes
    ----------
    estimate, most : Usage
        Estimated and maximum number of tokens.
    """

    @property
    def estimate(self) -> Usage: ...

    @property
    def most(self) -> Usage: ...

    def body(self) -> bytes:
        """The request body, in the form that the service is known to accept; called before each attempt."""
        ...

    def read(self, data: bytes) -> tuple[AnswerRead, Usage | None]:
        """Parse a response, and the billed tokens if it states them.

        Raises
        ------
        BadAnswerError
            If the response is invalid.
        """
        ...

    def adapt(self, message: str) -> bool:
        """After a rejection, whether the request has another form to send immediately."""
        ...


class _FailedAttempt(Exception):  # noqa: N818 - it is caught here, attempt by attempt
    """A failed attempt that can be retried.

    Attributes
    ----------
    wait : float or None
        Seconds that the service asks to wait.
    billed : bool
        Whether the service may have computed, and so bill, the answer.
    again : bool
        Whether to retry immediately, in another form.
    limited : bool
        Whether the rate limit was exceeded.
    """

    def __init__(
        self,
        reason: str,
        *,
        wait: float | None = None,
        billed: bool = False,
        again: bool = False,
        limited: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        self.billed = billed
        self.again = again
        self.limited = limited


class Client:
    """Sends requests to one service; used from several threads.

    Parameters
    ----------
    service : Service
    url : str
        The full URL.
    secrets : callable
        Returns the authentication headers with the present values of the environment variables, so that keys can be
        replaced during a run. Their values are removed from messages.
    key_env : str or None
        Environment variable of the key, for messages.
    timeout : float
        Seconds until a complete response.
    max_attempts, connections : int
    pacer : Pacer
    clock : Clock
    headers : mapping of str to str, optional
        Further headers, without secrets.

    Attributes
    ----------
    successes : int
        Number of successful requests so far.
    """

    def __init__(
        self,
        service: Service,
        *,
        url: str,
        secrets: Callable[[], Mapping[str, str]],
        key_env: str | None,
        timeout: float,
        max_attempts: int,
        connections: int,
        pacer: Pacer,
        clock: Clock,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._httpx: Any = require("httpx", extra=service.extra, used_for=service.used_for)
        self.url = url
        self._service = service
        self._secrets = secrets
        self._secret_values: set[str] = set()
        self._key_env = key_env
        self._timeout = timeout
        self._max_attempts = max_attempts
        self._pacer = pacer
        self._clock = clock
        self.successes = 0
        self._lock = threading.Lock()
        try:
            self._http: httpx.Client = self._httpx.Client(
                headers={"Content-Type": "application/json", "User-Agent": "latentscale", **(headers or {})},
                timeout=self._httpx.Timeout(timeout),
                # Loading the system's certificates takes longer than a local server's response.
                verify=urlsplit(url).scheme == "https",
                limits=self._httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            )
        except (ImportError, ValueError, self._httpx.InvalidURL) as error:
            raise ConfigError(
                f"the proxy in the environment cannot be used: {without_signatures(str(error))}",
                where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY",
                hint="Correct or unset these variables; NO_PROXY names hosts that are reached without a proxy. A SOCKS "
                "proxy needs the package 'httpx[socks]'.",
            ) from error
        self._proxy = proxy_of(url)

        # Closes the connections when this object is garbage collected.
        self._closing = weakref.finalize(self, self._http.close)

    def ask(
        self,
        question: Question[Answer],
        *,
        stop: threading.Event,
        spending: Spending | None = None,
        attempts: int | None = None,
    ) -> tuple[Answer, Usage]:
        """Send the request, with retries, until it succeeds.

        Returns
        -------
        answer
            The response, parsed by ``question``.
        usage : Usage
            Billed tokens; estimated if the service does not state them.

        Raises
        ------
        RefusedError
            If the service rejects this request.
        UnansweredError
            If all attempts failed.
        ConfigError
            If the address, the model or the key is wrong.
        ResourceError
            If the budget of the run or of the account is spent.
        StoppedError
            If ``stop`` was set before the request was sent.
        """
        most = attempts or self._max_attempts
        attempt, seen = 0, self.successes
        while True:
            attempt += 1
            try:
                return self._attempt(question, stop, spending)
            except _FailedAttempt as trouble:
                if trouble.again:
                    attempt -= 1
                    continue
                if trouble.limited and self.successes > seen:
                    # Other requests succeed, so that only the rate limit is too low for all: restart the attempt count.
                    attempt, seen = 1, self.successes
                if attempt >= most or (trouble.wait or 0.0) > _LONGEST_WAIT:
                    raise UnansweredError(trouble.reason, attempts=attempt) from None
                wait = backoff_seconds(attempt)
                if trouble.wait is not None:
                    # No request would succeed before: all threads pause, and resume at different times.
                    self._pacer.pause(trouble.wait)
                    wait = trouble.wait + min(wait, 1.0)
                self._clock.sleep(wait, stop)

    def _attempt(
        self, question: Question[Answer], stop: threading.Event, spending: Spending | None
    ) -> tuple[Answer, Usage]:
        estimate, billed, reserved = question.estimate, Usage(0), 0
        self._pacer.admit(sum(estimate), stop)
        if spending is not None:
            reserved = spending.reserve(*question.most)
        try:
            status, headers, data = self._post(question.body())
            if status == 200:
                # Invalid answers are billed too.
                billed = estimate
                try:
                    answer, told = question.read(data)
                except BadAnswerError as error:
                    raise self._bad_answer(error, data) from None
                billed = estimate if told is None else told
                with self._lock:
                    self.successes += 1
                wait = used_up(headers)
                if wait is not None:
                    self._pacer.pause(min(wait, _LONGEST_WAIT))
                return answer, billed
            raise self._failure(question, status, headers, data)
        except _FailedAttempt as trouble:
            billed = estimate if trouble.billed else billed
            raise
        finally:
            if spending is not None:
                spending.settle(reserved, *billed)

    def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        httpx = self._httpx
        headers = self._secrets()
        self._secret_values |= {value.removeprefix("Bearer ") for value in headers.values()}
        deadline = self._clock.now() + self._timeout
        try:
            with self._http.stream("POST", self.url, content=body, headers=headers) as response:
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > _MOST_BYTES:
                        raise _FailedAttempt(f"its answer is longer than {_MOST_BYTES >> 20} MB", billed=True)
                    if self._clock.now() > deadline:
                        raise _FailedAttempt(f"its answer was not complete after {self._timeout:g} s", billed=True)
                return response.status_code, response.headers, bytes(data)
        except httpx.ConnectTimeout:
            raise _FailedAttempt(f"it cannot be reached{self._proxy}: no connection in time") from None
        except httpx.TimeoutException:
            raise _FailedAttempt(f"no answer in {self._timeout:g} s", billed=True) from None
        except httpx.ConnectError as error:
            raise _FailedAttempt(f"it cannot be reached{self._proxy}: {self._safe(str(error))}") from None
        except httpx.TransportError as error:
            raise _FailedAttempt(
                f"the connection broke: {self._safe(str(error)) or type(error).__name__}", billed=True
            ) from None
        except httpx.DecodingError:
            raise _FailedAttempt("its answer cannot be decompressed", billed=True) from None

    def _bad_answer(self, error: BadAnswerError, data: bytes) -> Exception:
        """Describe an invalid response with status 200, as gateways send if the service behind them fails."""
        text, code = error_in_success(data)
        reason = self._safe(text)
        if reason and (code in _SPENT or _SPENT_SENTENCE in text):
            return self._spent(200, reason)
        return _FailedAttempt(f"{error}; it says: {reason}" if reason else str(error))

    def _failure(self, question: Question[Any], status: int, headers: Mapping[str, str], data: bytes) -> Exception:
        text, code = error_message(data)
        reason = self._safe(text)
        if status == 402 or code in _SPENT or _SPENT_SENTENCE in text:
            return self._spent(status, reason)
        if status in _REFUSED:
            if question.adapt(text):
                return _FailedAttempt(reason, again=True)
            return RefusedError(status, reason)
        if status in _REPEATED or status >= 500:
            wait = asked_wait(headers, self._clock)
            asks = f"; it asks to wait {wait:,.0f} s" if wait is not None and wait > _LONGEST_WAIT else ""
            return _FailedAttempt(f"{status}: {reason}{asks}", wait=wait, limited=status == 429)
        return self._wrong(status, reason, headers)

    def _spent(self, status: int, reason: str) -> LatentScaleError:
        return ResourceError(
            f"the account with the {self._service.name} has no credit left ({status}: {reason})",
            where=self.url,
            hint="Add credit, then run the same command again: answers are kept, and none is paid twice.",
        )

    def _wrong(self, status: int, reason: str, headers: Mapping[str, str]) -> LatentScaleError:
        service = self._service
        if status in (401, 403):
            key = f"the key in {self._key_env}" if self._key_env else "a request without a key"
            return ConfigError(
                f"the {service.name} does not accept {key} ({status}: {reason})",
                where=self.url,
                hint=f"Set the variable that {service.settings}.api_key_env names, here and on every worker.",
            )
        if status == 404:
            return ConfigError(
                f"the {service.name} has no model {service.model!r}, or nothing at this address (404: {reason})",
                where=self.url,
                hint=f"Check {service.settings}.model, and {service.settings}.url: it ends before {service.path}.",
            )
        target = headers.get("location")
        moved = f", and points to {without_signatures(target)}" if target else ""
        return ConfigError(
            f"the {service.name} answers {status}{moved} ({reason})",
            where=self.url,
            hint=f"Check {service.settings}.url and provider: {service.address_hint}",
        )

    def _safe(self, text: str) -> str:
        """A message of the service, shortened, on one line and with keys redacted."""
        # Iterate over a copy: another thread may add the value of a replaced key.
        for value in list(self._secret_values):
            text = text.replace(value, MARK)
        return shortened(" ".join(without_signatures(text).split()), _REASON)

    def close(self) -> None:
        """Close all connections."""
        self._closing()


def proxy_of(url: str) -> str:
    """Describe the proxy that the environment sets for ``url``, as a part of a message; empty for none."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or proxy_bypass(parts.hostname):
        return ""
    found = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    # Without its user and password.
    return f" through the proxy {found.netloc.rpartition('@')[2]} of the environment"


def error_in_success(data: bytes) -> tuple[str, str]:
    """Return message and code of an error in a response with status 200; both empty if there is none."""
    try:
        answer: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        return "", ""
    if not isinstance(answer, dict) or not any(cast("dict[str, Any]", answer).get(key) for key in _ERROR_KEYS):
        return "", ""
    return error_message(data)


def error_message(data: bytes) -> tuple[str, str]:
    """The message of an error response, and its error code if there is one."""
    try:
        answer: Any = orjson.loads(data)
    except orjson.JSONDecodeError:
        return data[:400].decode("utf-8", "replace"), ""
    if not isinstance(answer, dict):
        return str(answer), ""
    values = cast("dict[str, Any]", answer)
    inner = values.get("error")
    if isinstance(inner, dict):
        values = cast("dict[str, Any]", inner)
    text = values.get("message") or values.get("detail") or inner or values
    return str(text), str(values.get("code") or values.get("type") or "")
