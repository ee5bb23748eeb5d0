"""A process that stops by itself at a write that ``CRASH`` names.

``CRASH`` is ``before|after|pause:<regular expression>:<number>``: die by SIGKILL before so many writes of objects whose
name it matches begin or after they have ended, or be stopped (SIGSTOP) before it until somebody wakes it. The last line
that it says is the name of that object.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from typing import Any

from latentscale.storage.objects import Store


def install() -> None:
    """Let this process stop at the write that its environment names."""
    when, pattern, number = os.environ["CRASH"].split(":")
    left = int(number)
    write = Store.put_bytes
    counting = threading.Lock()

    def put_bytes(store: Store, name: str, data: Any) -> Any:
        hit = re.search(pattern, name) is not None

        def is_last() -> bool:
            # Objects are written by several threads at once: each has a number of its own.
            nonlocal left
            with counting:
                left -= hit
                return hit and left == 0

        if when != "after" and is_last():
            stop(name, signal.SIGSTOP if when == "pause" else signal.SIGKILL)
        written = write(store, name, data)
        # Counted when it is there: one that began earlier may end later.
        if when == "after" and is_last():
            stop(name, signal.SIGKILL)
        return written

    Store.put_bytes = put_bytes  # type: ignore[method-assign]


def stop(name: str, how: signal.Signals) -> None:
    os.write(2, f"\n{name}\n".encode())
    os.kill(os.getpid(), how)
