"""A watchdog that ends an interrupted command within seconds, even if the main thread no longer responds.

KeyboardInterrupt ends almost everything, but a lock may just have been acquired, a thread that Python joins at exit may
wait for a store, or compiled code may run for long. Objects are written atomically, so that the process may exit at any
time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from latentscale.errors import EXIT_INTERRUPTED

# From the first interrupt to the forced exit; an orderly shutdown takes one or two seconds.
SECONDS = 7.0
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_open: list[socket.socket] = []


def end_in_time(lines: Sequence[str], *, seconds: float = SECONDS) -> None:
    """End this process ``seconds`` after an interrupt, if it is still running then.

    Parameters
    ----------
    lines : sequence of str
        Messages to print then.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    leave()
    # Python's own handler runs once the main thread comes back to it; the signal's number is written here at once.
    hears, told = socket.socketpair()
    told.setblocking(False)
    _open.append(told)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(hears, list(lines), seconds), name="deadline", daemon=True).start()


def leave() -> None:
    """Stop waiting for interrupts: the command has ended without one."""
    if _open:
        signal.set_wakeup_fd(-1)
    while _open:
        _open.pop().close()


def _wait(hears: socket.socket, lines: Sequence[str], seconds: float) -> None:
    # The thread closes its own end: were it closed by another one just before this one reads, its number might be that
    # of the next socket by then, and the byte another's.
    with hears, contextlib.suppress(OSError):
        while number := hears.recv(1):
            if number[0] in _INTERRUPTS:
                time.sleep(seconds)
                with contextlib.suppress(OSError, ValueError):
                    print(*lines, sep="\n", file=sys.stderr, flush=True)
                os._exit(EXIT_INTERRUPTED)
