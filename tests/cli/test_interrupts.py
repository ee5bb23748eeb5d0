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
    time.sleep(200)
    print("lost")
except KeyboardInterrupt:
    print("heeded")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interrupt_in_a_destructor_is_not_lost(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, timeout=300, check=True)
    assert (done.stdout.strip(), done.stderr) == ("heeded", "")


def test_an_interrupt_that_is_raised_again_too_early_is_not_lost() -> None:
    """The main thread is still in the hook that was told of the dropped one, where Python drops the next one too."""
    slow = """
import sys, time
from latentscale.cli import main

def late(frame, event, argument):
    if event == "return" and frame.f_code.co_filename == main.__file__ and "interrupt" not in frame.f_code.co_name:
        time.sleep(0.3)

sys.setprofile(late)
"""
    script = SCRIPT.replace("try:\n    Late()", slow + "try:\n    Late()")
    done = subprocess.run(
        [sys.executable, "-c", script, "SIGTERM"], capture_output=True, text=True, timeout=300, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("heeded", "")


def test_a_process_that_runs_many_commands_has_one_hook() -> None:
    script = """
import sys
from latentscale.cli.main import heed_interrupts

seen = []
sys.unraisablehook = lambda dropped: seen.append(type(dropped.exc_value))
for _ in range(2_000):
    heed_interrupts()

class Faulty:
    def __del__(self):
        raise ValueError

Faulty()
print(seen)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert (done.stdout, done.stderr) == ("[<class 'ValueError'>]\n", "")


def test_other_faults_of_destructors_are_still_shown() -> None:
    fault = SCRIPT.replace("os.kill(os.getpid(), getattr(signal, sys.argv[1]))", "raise ValueError('a fault')")
    script = fault.replace("time.sleep(200)", "pass")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert "ValueError: a fault" in done.stderr


HUNG = """
import os, signal, sys, threading
from latentscale.cli.deadline import end_in_time
from latentscale.cli.main import heed_interrupts

heed_interrupts()
end_in_time(["Interrupted."], seconds=0.5)
lock = threading.Lock()
lock.acquire()
sys.argv[1] == "thread" and threading.Thread(target=lock.acquire).start()  # Python joins it at its end
interrupt = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM])
while True:
    try:
        interrupt.ident is None and interrupt.start()  # in here, whenever it strikes
        lock.acquire()
    except KeyboardInterrupt:
        if sys.argv[1] == "thread":
            sys.exit(130)
"""


@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_process_that_an_interrupt_does_not_reach_ends_all_the_same(where: str) -> None:
    done = subprocess.run([sys.executable, "-c", HUNG, where], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


def test_an_interrupt_does_not_wait_for_the_blocks_of_other_threads() -> None:
    script = """
import os, signal, threading, time
from latentscale.backends.cpu.parallel import run_blocks
from latentscale.cli.main import heed_interrupts

heed_interrupts()
stop = threading.Event()

def block(start, end):
    start == 1 and threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGTERM]).start()
    stop.wait()

try:
    run_blocks(block, [(0, 1), (1, 2), (2, 3)], threads=2)
except KeyboardInterrupt:
    stop.set()
    print("heeded")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "heeded\n"
