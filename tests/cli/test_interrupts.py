"""An interrupt always ends the command, wherever it strikes."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys, time
from latentscale.cli.main import heed_interrupts

heed_interrupts()

class Late:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        time.sleep(0.05)  # the interrupt is raised in here, where Python drops it

try:
    Late()
    time.sleep(20)
    print("lost")
except KeyboardInterrupt:
    print("heeded")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interrupt_in_a_destructor_is_not_lost(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.strip(), done.stderr) == ("heeded", "")


def test_other_faults_of_destructors_are_still_shown() -> None:
    fault = SCRIPT.replace("os.kill(os.getpid(), getattr(signal, sys.argv[1]))", "raise ValueError('a fault')")
    script = fault.replace("time.sleep(20)", "pass")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "ValueError: a fault" in done.stderr
