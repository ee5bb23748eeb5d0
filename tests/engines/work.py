"""What the tests of the engines give them to do.

A module of its own, with no import beyond the standard library: each process of an engine imports it, and pytest with
what it brings would take as long as all else that such a process needs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentscale.stages.context import StageContext
    from latentscale.storage.objects import Store


@dataclass(frozen=True)
class Numbered:
    """A task as the stages have them: with a key."""

    key: str


@dataclass(frozen=True)
class Facts:
    """A receipt."""

    key: str
    pid: int
    threads: str | None = None


class Whole:
    """A worker without separate parts."""

    def __call__(self, task: Numbered) -> Facts:
        time.sleep(0.05)
        return Facts(task.key, os.getpid(), os.environ.get("OMP_NUM_THREADS"))


class Together:
    """A worker that does nothing before there is another: on a busy machine one may start long after the first."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def __call__(self, task: Numbered) -> Facts:
        (self._folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 120
        while len(list(self._folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        return Facts(task.key, os.getpid(), os.environ.get("OMP_NUM_THREADS"))


class Parts:
    """A worker in three parts, one of whose tasks ends the process while others are read."""

    def __init__(self, poison: str = "", part: str = "compute") -> None:
        self.poison, self.part = poison, part

    def _do(self, task: Numbered, part: str) -> Numbered:
        # Long enough that several tasks are in the worker when it dies.
        time.sleep(0.02)
        if task.key == self.poison and part == self.part:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    def read(self, task: Numbered) -> Numbered:
        return self._do(task, "read")

    def compute(self, loaded: Numbered) -> Numbered:
        return self._do(loaded, "compute")

    def write(self, task: Numbered, computed: Numbered) -> Facts:
        return Facts(self._do(computed, "write").key, os.getpid())


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, task: Numbered) -> Facts:
        raise self.error


class NeverReady:
    def __init__(self) -> None:
        os._exit(7)

    def __call__(self, task: Numbered) -> Facts:
        return Facts(task.key, 0)


class OwnError(Exception):
    """A type that only the workers know."""


class Crashing:
    """A worker that ends its process on one task, as a library with a fault would."""

    def __call__(self, task: Numbered) -> str:
        if task.key == "3":
            os._exit(1)
        return task.key


def steps(here: StageContext) -> dict[str, Any]:
    """A whole stage that says how far it is."""
    for i in range(1, 6):
        here.progress(i, 5)
        time.sleep(0.3)
    here.notice("half of it is a sample")
    assert here.scratch is not None
    facts = {"pid": os.getpid(), "threads": here.threads, "memory": here.memory, "device": here.device}
    return facts | {"scratch": here.scratch.is_dir(), "run": here.run}


def kill_itself_twice(path: Path, here: StageContext) -> str:
    """Die until the file says that it was tried twice before."""
    with path.open("a") as file:
        file.write("x")
    if len(path.read_text()) < 3:
        os._exit(1)
    return "done"


def die(here: StageContext) -> None:
    os._exit(1)


def fail(error: Exception, here: StageContext) -> None:
    raise error


class OutOfMemoryError(RuntimeError):
    """As a library's own: its type is known to nobody else."""


class Hanging:
    """A worker that hangs until a file is there: its processor is wanted by the tests after it."""

    def __init__(self, over: Path) -> None:
        self.over = over

    def __call__(self, task: Numbered) -> str:
        # The test says when it is over, and its folder is deleted a moment later; the rest ends only a process that was
        # forgotten.
        deadline = time.monotonic() + 600
        while self.over.parent.exists() and not self.over.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return task.key


class Environed:
    """A worker that reads a variable when it is made, as a store reads its keys."""

    def __init__(self, store: Store) -> None:
        self._value = os.environ["CANARY_OF_THE_TESTS"]

    def __call__(self, task: Numbered) -> str:
        return self._value


def look(name: str, here: StageContext) -> str | None:
    return os.environ.get(name)


class EnvironedParts:
    """A worker in parts that says what it sees."""

    def read(self, task: Numbered) -> Numbered:
        return task

    def compute(self, loaded: Numbered) -> str | None:
        return os.environ.get("ENVIRONMENT_OF_THE_TESTS")

    def write(self, task: Numbered, computed: str) -> str:
        return computed


class Beside:
    """A worker in parts that says how many tasks were in it at once; one task ends its process, with others in it."""

    def __init__(self, poison: str = "") -> None:
        self.poison = poison
        self.lock = threading.Lock()
        self.inside: set[str] = set()
        self.most: dict[str, int] = {}
        self.awaited = bool(poison)

    def read(self, task: Numbered) -> Numbered:
        with self.lock:
            self.inside.add(task.key)
            for key in self.inside:
                self.most[key] = max(self.most.get(key, 0), len(self.inside))
        time.sleep(0.1)
        return task

    def compute(self, loaded: Numbered) -> Numbered:
        self._await_company()
        time.sleep(0.3)
        if loaded.key == self.poison:
            os._exit(1)
        return loaded

    def _await_company(self) -> None:
        """Wait, once, until another task is in the worker too: on a busy machine it may come late."""
        deadline = time.monotonic() + 120
        while not self.awaited:
            with self.lock:
                self.awaited = max(self.most.values()) > 1 or time.monotonic() > deadline
            time.sleep(0.01)

    def write(self, task: Numbered, computed: Numbered) -> str:
        with self.lock:
            self.inside.discard(task.key)
        return f"{task.key} {self.most[task.key]}"


class Dividing:
    """A worker with a fault."""

    def __call__(self, task: Numbered) -> str:
        return str(1 // int(task.key))
