"""A machine that is busy at random: threads and processes start late, sleeps are long, files come into place late.

Every Python process with this folder on ``PYTHONPATH`` is such a machine (``make test-jitter`` runs the fast suite so):
a test or a module that holds only while threads and processes come in the usual order does not hold there.
"""

from __future__ import annotations

import builtins
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import thread
from functools import wraps
from typing import Any

_sleep = time.sleep
_chance = random.Random(time.time_ns() ^ os.getpid())


def _late(share: float, seconds: float) -> None:
    """Sleep up to so many seconds, in a share of the calls."""
    if _chance.random() < share:
        _sleep(_chance.uniform(0, seconds))


def _around(before: tuple[float, float], after: tuple[float, float]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        @wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            _late(*before)
            result = function(*arguments, **named)
            _late(*after)
            return result

        return wrapped

    return decorate


def _long(seconds: float) -> None:
    _sleep(seconds)
    _late(0.2, min(2 * seconds, 0.3))


def install() -> None:
    """Make this process and its threads slow at random."""
    sys.setswitchinterval(_chance.choice((1e-5, 5e-3, 5e-2)))
    threading.Thread.run = _around((0.3, 0.15), (0.1, 0.05))(threading.Thread.run)
    threading.Thread.start = _around((0.0, 0.0), (0.2, 0.1))(threading.Thread.start)
    thread._WorkItem.run = _around((0.2, 0.1), (0.1, 0.05))(thread._WorkItem.run)
    threading.Semaphore.acquire = _around((0.2, 0.1), (0.1, 0.05))(threading.Semaphore.acquire)
    threading.Semaphore.__enter__ = threading.Semaphore.acquire
    threading.Condition.wait = _around((0.0, 0.0), (0.05, 0.02))(threading.Condition.wait)
    threading.Event.set = _around((0.1, 0.05), (0.1, 0.05))(threading.Event.set)
    os.open = _around((0.05, 0.02), (0.0, 0.0))(os.open)
    builtins.open = _around((0.02, 0.02), (0.0, 0.0))(builtins.open)
    os.replace = _around((0.1, 0.05), (0.1, 0.05))(os.replace)
    subprocess.Popen.__init__ = _around((0.0, 0.0), (0.2, 0.2))(subprocess.Popen.__init__)
    time.sleep = _long


install()
