"""When the next request may be sent: the limits that the user names, and the pauses that the service asks for."""

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
    """Time, and waiting for it; tests have one that does not wait."""

    def now(self) -> float:
        """Seconds, of a clock that never goes back."""
        return time.monotonic()

    def date(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Wait, at most until ``stop`` is set."""
        stop.wait(seconds)


class Pacer:
    """Lets requests through one after the other, evenly, within the limits; used from several threads.

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
        """Wait until a request of so many tokens may be sent.

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
        """Let no request through for so long, of any thread."""
        with self._lock:
            self._paused = max(self._paused, self._clock.now() + seconds)


def backoff_seconds(attempt: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
    """How long to wait after failed attempt number ``attempt``: exponential, with jitter, at most a minute."""
    most = min(_MOST_SECONDS, _FIRST_SECONDS * 2 ** min(attempt - 1, 20))
    return uniform(most / 2, most)


def asked_wait(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds that an answer with an error asks to wait, or None: ``Retry-After``, else the limits that are used up."""
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
    """Seconds until a limit that ``x-ratelimit-remaining-…`` reports as used up is reset; None where none is."""
    waits: list[float] = []
    for kind in ("requests", "tokens"):
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0":
            wait = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
            if wait is not None:
                waits.append(wait)
    return max(waits, default=None)


def _duration(text: str) -> float | None:
    """Seconds of ``1.5``, ``20ms`` or ``6m0s``."""
    try:
        return float(text)
    except ValueError:
        found = _DURATION.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text.strip():
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in found)
