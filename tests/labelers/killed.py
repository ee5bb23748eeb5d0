"""A labelling that is killed in the middle."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping

# Of a machine on which much else runs.
LIMIT = 400


def kill_when(reached: Callable[[], bool], program: str, *, environment: Mapping[str, str] | None = None) -> None:
    """Run a program in a process of its own, which must not end before, and kill it once ``reached`` says so."""
    running = subprocess.Popen([sys.executable, "-c", program], env=environment)
    try:
        deadline = time.monotonic() + LIMIT
        while not reached():
            assert running.poll() is None, "it is killed in the middle of its calls"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert running.poll() is None, "it is killed in the middle of its calls"
    finally:
        running.kill()
        running.wait()
