"""Rate limiting of requests: configured limits, and pauses that the service asks for."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime

from latentscale.services.failures import StoppedError

_FIRST_SECONDS = 0.5
_MOST_SECONDS = 60.0
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class Clock:
    """Clock with interruptible sleep; tests replace it by one that does not wait."""

    def now(self) -> float:
        """Seconds of a monotonic clock."""
        return time.monotonic()

    def date(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Sleep, or return early when ``stop`` is set."""
        stop.wait(seconds)


class Pacer:
    """Rate limiter that spaces requests evenly within the limits; thread-safe.

    Parameters
    ----------
    requests_per_minute, tokens_per_minute : float or None
    clock : Clock
    """

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None, clock: Clock) -> None:
        self._request_seconds = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._token_seconds = 60.0 / tokens_per_minute if tokens_per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._paused = 0.0

    def admit(self, tokens: int, stop: threading.Event) -> None:
        """Wait until a request with ``tokens`` tokens may be sent.

        Raises
        ------
        StoppedError
            If ``stop`` was set meanwhile.
        """
        with self._lock:
            turn = max(self._clock.now(), self._next)
            self._next = turn + max(self._request_seconds, tokens * self._token_seconds)
        while True:
            if stop.is_set():
                raise StoppedError
            with self._lock:
                wait = max(turn, self._paused) - self._clock.now()
            if wait <= 0:
                return
            self._clock.sleep(wait, stop)

    def pause(self, seconds: float) -> None:
        """Block the requests of all threads for some seconds."""
        with self._lock:
            self._paused = max(self._paused, self._clock.now() + seconds)


def backoff_seconds(attempt: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """Backoff in seconds after failed attempt number ``attempt``: exponential with jitter, at most a minute."""
    most = min(_MOST_SECONDS, _FIRST_SECONDS * 2 ** min(attempt - 1, 20))
    return uniform(most / 2, most)


def asked_wait(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds to wait after an error response, or None: ``Retry-After``, else the reset of exhausted rate limits."""
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(float(value) * factor, 0.0)
        except ValueError:
            pass
        try:
            return max(parsedate_to_datetime(value).timestamp() - clock.date(), 0.0)
        except (ValueError, TypeError):
            continue
    return used_up(headers)


def used_up(headers: Mapping[str, str]) -> float | None:
    """Seconds until the reset of a limit that ``x-ratelimit-remaining-…`` reports as exhausted; None without one."""
    waits: list[float] = []
    for kind in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0":
            wait = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
            if wait is not None:
                waits.append(wait)
    return max(waits, default=None)


def _duration(text: str) -> float | None:
    """Parse a duration, ``1.5``, ``20ms`` or ``6m0s``, to seconds."""
    try:
        return float(text)
    except ValueError:
        found = _DURATION.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text.strip():
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in found)
