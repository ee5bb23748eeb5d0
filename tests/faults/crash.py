"""The command line of LatentScale, which dies by SIGKILL at a write that ``CRASH`` names.

``CRASH`` is ``before|after:<regular expression>:<number>``: die at so many writes of objects whose name it matches. The
last line that it says is the name of that object.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from typing import Any

from latentscale.cli.main import main
from latentscale.storage.objects import Store

when, pattern, number = os.environ["CRASH"].split(":")
left = int(number)
write = Store.put_bytes


def put_bytes(store: Store, name: str, data: Any) -> Any:
    global left
    hit = re.search(pattern, name) is not None
    left -= hit
    if hit and left == 0 and when == "before":
        die(name)
    written = write(store, name, data)
    if hit and left == 0:
        die(name)
    return written


def die(name: str) -> None:
    os.write(2, f"\n{name}".encode())
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Store.put_bytes = put_bytes  # type: ignore[method-assign]
    main(sys.argv[1:])
