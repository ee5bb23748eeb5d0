"""Several tasks of one worker at once: the next shards are read and the last ones written while one is computed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

from latentscale.engines.protocol import ShardWorker

READ_AHEAD = 2
# One that is computed, and two that are written: a store that answers late takes longer for the vectors of a shard than
# a GPU for the vectors of the next one.
UNWRITTEN = 3
# And one that is read.
IN_FLIGHT = 4


class StoppedError(Exception):
    """The worker was stopped before the task started."""


class InTurn:
    """A lock that is given in the order in which it was asked for.

    With a plain one a task may be overtaken until its engine waits for it alone, and nothing is read meanwhile.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = self._served = 0

    def acquire(self) -> None:
        """Wait for the turn."""
        with self._changed:
            own = self._asked
            self._asked += 1
            self._changed.wait_for(lambda: self._served == own)

    def release(self) -> None:
        """Let the next one in."""
        with self._changed:
            self._served += 1
            self._changed.notify_all()

    def locked(self) -> bool:
        """Whether somebody has it."""
        with self._changed:
            return self._asked > self._served

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Pipelined:
    """A worker that may be called from several threads at once; only one task is computed at a time.

    At most ``READ_AHEAD`` tasks wait to be computed with what was read for them, and at most ``UNWRITTEN`` are being
    computed or written, which bounds the memory.

    Parameters
    ----------
    worker : ShardWorker or callable
        A callable runs whole under the lock.
    """

    def __init__(self, worker: ShardWorker[Any, Any] | Callable[[Any], Any]) -> None:
        self._worker = worker
        self._computing = InTurn()
        self._ahead = threading.BoundedSemaphore(READ_AHEAD)
        self._unwritten = threading.BoundedSemaphore(UNWRITTEN)
        self._stopped = False

    def run(self, task: Any) -> Any:
        """Do one task and return its receipt.

        Raises
        ------
        StoppedError
            If ``stop`` was called before it was computed.
        """
        if not in_parts(self._worker):
            with self._computing:
                self._check()
                return cast("Callable[[Any], Any]", self._worker)(task)
        worker = cast("ShardWorker[Any, Any]", self._worker)
        with self._ahead:
            self._check()
            loaded = worker.read(task)
            self._computing.acquire()
        try:
            self._check()
            self._unwritten.acquire()
            try:
                # A write that failed lets the next one in, and ends the run: what is computed may be paid for.
                self._check()
                computed = worker.compute(loaded)
                # Release what was read before the next task is read.
                del loaded
            except BaseException:
                self._unwritten.release()
                raise
        finally:
            self._computing.release()
        try:
            return worker.write(task, computed)
        finally:
            self._unwritten.release()

    def stop(self) -> None:
        """Stop computing: waiting threads get ``StoppedError``, and a worker that has a ``stop`` ends early."""
        self._stopped = True
        stop = getattr(self._worker, "stop", None)
        if callable(stop):
            stop()

    def _check(self) -> None:
        if self._stopped:
            raise StoppedError


class Turns:
    """Lets many tasks run concurrently, or one exclusively."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._waiting = 0

    @contextmanager
    def shared(self) -> Generator[None]:
        """Run concurrently, after waiting exclusive tasks."""
        with self._changed:
            self._changed.wait_for(lambda: self._running >= 0 and not self._waiting)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Generator[None]:
        """Run exclusively."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._running == 0)
            finally:
                self._waiting -= 1
            self._running = -1
        try:
            yield
        finally:
            with self._changed:
                self._running = 0
                self._changed.notify_all()


def in_parts(worker: Any) -> bool:
    """Whether a worker, or the class of one, has the three parts of a ``ShardWorker``."""
    return all(callable(getattr(worker, part, None)) for part in ("read", "compute", "write"))


def tasks_in_flight(make_worker: Callable[[], Any]) -> int:
    """Number of tasks to give a worker at once: more than one helps only where its parts are separate methods."""
    made = make_worker
    while isinstance(made, partial):
        made = made.func
    return IN_FLIGHT if in_parts(made) else 1


def run_here(worker: Any, tasks: Iterable[Any], *, in_flight: int) -> Iterator[Any]:
    """Run tasks in threads of this process and yield their receipts in order.

    Parameters
    ----------
    worker : ShardWorker or callable
    tasks : iterable
    in_flight : int
        1: in the thread of the caller.
    """
    if in_flight == 1:
        yield from map(Pipelined(worker).run, tasks)
        return
    pipelined = Pipelined(worker)
    pool = ThreadPoolExecutor(in_flight, thread_name_prefix="shards")
    waiting: deque[Future[Any]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(pipelined.run, task))
            if len(waiting) == in_flight:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # After an error or an interrupt nothing further is computed; what is being written is written.
        pipelined.stop()
        pool.shutdown(wait=True, cancel_futures=True)
