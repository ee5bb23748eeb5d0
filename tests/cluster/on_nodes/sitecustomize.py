"""A fault of a library, on the path of the nodes: a worker that opens a file that DEADLY_FILES names dies.

Drivers and Ray's own processes are spared.
"""

import os
import signal
import sys
from pathlib import Path

LIST = os.environ.get("DEADLY_FILES")


def end_on_deadly_file(event: str, arguments: tuple[object, ...]) -> None:
    """Die as of a segmentation fault, silently."""
    if event == "open" and LIST and str(arguments[0]).endswith((".parquet", ".jsonl")):
        deadly = Path(LIST).read_text(encoding="utf-8").split()
        if Path(str(arguments[0])).name in deadly:
            os.kill(os.getpid(), signal.SIGKILL)


if LIST and any(word.endswith("default_worker.py") for word in sys.orig_argv):
    sys.addaudithook(end_on_deadly_file)
