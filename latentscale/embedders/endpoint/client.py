"""One request to a service: sent in its turn, repeated where that may help, and every ending told apart."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.endpoint.failures import BadAnswerError, RefusedError
from latentscale.embedders.endpoint.pace import Clock, Pacer, asked_wait, backoff_seconds, used_up
from latentscale.embedders.endpoint.sizes import estimated_tokens, most_tokens
from latentscale.embedders.endpoint.wire import Asked, Role, error_message
from latentscale.embedders.service import Spending, UnansweredError
from latentscale.errors import ConfigError, LatentScaleError, ResourceError, require, shortened
from latentscale.redaction import MARK, without_signatures

if TYPE_CHECKING:
    import httpx

# Fewer texts, or other ones, may be taken.
_REFUSED = (400, 413, 422)
_REPEATED = (408, 409, 425, 429)
_SPENT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance")
# A service that asks for a longer wait is given up: the same command goes on when its limit is reset.
_LONGEST_WAIT = 900.0
_MOST_BYTES = 512 << 20
_REASON = 300


class _Trouble(Exception):  # noqa: N818 - it is caught here, attempt by attempt
    """An attempt that may go well when repeated.

    Attributes
    ----------
    wait : float or None
        Seconds that the service asks to wait.
    billed : bool
        Whether it may have been computed.
    again : bool
        Whether it is repeated at once, in another form.
    limited : bool
        Whether there were too many requests.
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
    asked : Asked
    url : str
        Base address.
    secrets : callable
        Gives the headers with keys, as their variables are now: a wrong or expired key is replaced there. Their values
        are in no message.
    key_env : str or None
        Variable that the key came from, for messages.
    timeout : float
        Seconds for a whole answer.
    max_attempts, connections : int
    as_base64, may_change : bool
        Whether vectors are asked for as base64, and whether numbers will do where that is refused.
    pacer : Pacer
    clock : Clock

    Attributes
    ----------
    successes : int
        Good answers so far.
    """

    def __init__(
        self,
        asked: Asked,
        *,
        url: str,
        secrets: Callable[[], Mapping[str, str]],
        key_env: str | None,
        timeout: float,
        max_attempts: int,
        connections: int,
        as_base64: bool,
        may_change: bool,
        pacer: Pacer,
        clock: Clock,
    ) -> None:
        self._httpx: Any = require("httpx", extra="endpoint", used_for="embedding by a service")
        parts = urlsplit(url)
        self.url = urlunsplit(parts._replace(path=parts.path.rstrip("/") + asked.path))
        self._asked = asked
        self._secrets = secrets
        self._values: set[str] = set()
        self._key_env = key_env
        self._timeout = timeout
        self._max_attempts = max_attempts
        self._as_base64 = as_base64
        self._may_change = may_change
        self._pacer = pacer
        self._clock = clock
        self.successes = 0
        self._http: httpx.Client = self._httpx.Client(
            headers={"Content-Type": "application/json", "User-Agent": "latentscale"},
            timeout=self._httpx.Timeout(timeout),
            # The certificates of the system take longer to load than a local server to answer.
            verify=parts.scheme == "https",
            limits=self._httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

        # Of an embedder that nobody holds any more.
        self._closing = weakref.finalize(self, self._http.close)

    def ask(
        self,
        texts: Sequence[str],
        sizes: NDArray[np.int64],
        *,
        role: Role,
        stop: threading.Event,
        spending: Spending | None = None,
        attempts: int | None = None,
    ) -> tuple[NDArray[np.float32], int]:
        """Ask for the vectors of ``texts``, which are of ``sizes`` bytes.

        Returns
        -------
        vectors : float32 ndarray, shape (n_texts, dim)
            As the service gave them.
        tokens : int
            Billed; estimated where the service does not say.

        Raises
        ------
        RefusedError
            If the service does not take these texts.
        UnansweredError
            If no attempt got a good answer.
        ConfigError
            If the address, the model or the key is wrong.
        ResourceError
            If the budget is spent, here or there.
        StoppedError
            If ``stop`` was set before it was sent.
        """
        most = attempts or self._max_attempts
        attempt, seen = 0, self.successes
        while True:
            attempt += 1
            try:
                return self._attempt(texts, sizes, role, stop, spending)
            except _Trouble as trouble:
                if trouble.again:
                    attempt -= 1
                    continue
                if trouble.limited and self.successes > seen:
                    # Others are served: the limit is too low for all of them, and their turns come.
                    attempt, seen = 1, self.successes
                if attempt >= most or (trouble.wait or 0.0) > _LONGEST_WAIT:
                    raise UnansweredError(trouble.reason, attempts=attempt) from None
                wait = backoff_seconds(attempt)
                if trouble.wait is not None:
                    # Nobody is served before: all threads wait, and not for the same instant.
                    self._pacer.pause(trouble.wait)
                    wait = trouble.wait + min(wait, 1.0)
                self._clock.sleep(wait, stop)

    def _attempt(
        self,
        texts: Sequence[str],
        sizes: NDArray[np.int64],
        role: Role,
        stop: threading.Event,
        spending: Spending | None,
    ) -> tuple[NDArray[np.float32], int]:
        estimate, reserved, billed = estimated_tokens(sizes), most_tokens(sizes), 0
        self._pacer.admit(estimate, stop)
        if spending is not None:
            spending.reserve(reserved)
        try:
            as_base64 = self._as_base64
            status, headers, data = self._post(self._asked.body(texts, role, as_base64=as_base64))
            if status == 200:
                # Whatever is wrong with it, an answer is paid.
                billed = estimate
                try:
                    vectors, told = self._asked.read(data, len(texts))
                except BadAnswerError as error:
                    raise _Trouble(str(error)) from None
                billed = estimate if told is None else told
                self.successes += 1
                wait = used_up(headers)
                if wait is not None:
                    self._pacer.pause(min(wait, _LONGEST_WAIT))
                return vectors, billed
            raise self._failure(status, headers, data, as_base64=as_base64)
        except _Trouble as trouble:
            billed = estimate if trouble.billed else billed
            raise
        finally:
            if spending is not None:
                spending.settle(reserved, billed)

    def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        httpx = self._httpx
        headers = self._secrets()
        self._values |= {value.removeprefix("Bearer ") for value in headers.values()}
        deadline = self._clock.now() + self._timeout
        try:
            with self._http.stream("POST", self.url, content=body, headers=headers) as response:
                data = bytearray()
                for chunk in response.iter_bytes():
                    data += chunk
                    if len(data) > _MOST_BYTES:
                        raise _Trouble(f"its answer is longer than {_MOST_BYTES >> 20} MB", billed=True)
                    if self._clock.now() > deadline:
                        raise _Trouble(f"its answer was not complete after {self._timeout:g} s", billed=True)
                return response.status_code, response.headers, bytes(data)
        except httpx.ConnectTimeout:
            raise _Trouble("it cannot be reached: no connection in time") from None
        except httpx.TimeoutException:
            raise _Trouble(f"no answer in {self._timeout:g} s", billed=True) from None
        except httpx.ConnectError as error:
            raise _Trouble(f"it cannot be reached: {self._safe(str(error))}") from None
        except httpx.TransportError as error:
            raise _Trouble(
                f"the connection broke: {self._safe(str(error)) or type(error).__name__}", billed=True
            ) from None
        except httpx.DecodingError:
            raise _Trouble("its answer cannot be decompressed", billed=True) from None

    def _failure(self, status: int, headers: Mapping[str, str], data: bytes, *, as_base64: bool) -> Exception:
        text, code = error_message(data)
        reason = self._safe(text)
        if as_base64 and self._may_change and status in _REFUSED and "encoding_format" in text:
            self._as_base64 = False
            return _Trouble("it knows no base64", again=True)
        if status == 402 or code in _SPENT:
            return self._spent(status, reason)
        if status in _REFUSED:
            return RefusedError(status, reason)
        if status in _REPEATED or status >= 500:
            wait = asked_wait(headers, self._clock)
            asks = f"; it asks to wait {wait:,.0f} s" if wait is not None and wait > _LONGEST_WAIT else ""
            return _Trouble(f"{status}: {reason}{asks}", wait=wait, limited=status == 429)
        return self._wrong(status, reason, headers)

    def _spent(self, status: int, reason: str) -> LatentScaleError:
        return ResourceError(
            f"the account with the embedding service has no credit left ({status}: {reason})",
            where=self.url,
            hint="Add credit, then run the same command again: answers are kept, and none is paid twice.",
        )

    def _wrong(self, status: int, reason: str, headers: Mapping[str, str]) -> LatentScaleError:
        if status in (401, 403):
            key = f"the key in {self._key_env}" if self._key_env else "a request without a key"
            return ConfigError(
                f"the embedding service does not accept {key} ({status}: {reason})",
                where=self.url,
                hint="Set the variable that embed.options.api_key_env names, here and on every worker.",
            )
        if status == 404:
            return ConfigError(
                f"the embedding service has no model {self._asked.model!r}, or nothing at this address (404: {reason})",
                where=self.url,
                hint="Check embed.options.model, and embed.options.url: it ends before /embeddings.",
            )
        target = headers.get("location")
        moved = f", and points to {without_signatures(target)}" if target else ""
        return ConfigError(
            f"the embedding service answers {status}{moved} ({reason})",
            where=self.url,
            hint="Check embed.options.url and provider: the address ends before /embeddings (Cohere: before /embed).",
        )

    def _safe(self, text: str) -> str:
        """A message of the service, of a readable length, on one line and without our keys."""
        for value in self._values:
            text = text.replace(value, MARK)
        return shortened(" ".join(without_signatures(text).split()), _REASON)

    def close(self) -> None:
        """Close all connections."""
        self._closing()
