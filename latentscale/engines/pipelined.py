"""Pipeline the tasks of one worker: next shards are read, and previous ones written, while one is computed."""

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
# One that is read, one that is computed and one that is written: what a lost worker has in hand is done again.
IN_FLIGHT = 3


class StoppedError(Exception):
    """The worker was stopped before the task started."""


class FifoLock:
    """A fair lock, acquired in the order of the requests.

    With an unfair one a task may starve until the engine waits for it alone, so that nothing is read meanwhile.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = self._served = 0

    def acquire(self) -> None:
        """Acquire the lock, waiting for earlier requests."""
        with self._changed:
            own = self._asked
            self._asked += 1
            self._changed.wait_for(lambda: self._served == own)

    def release(self) -> None:
        """Release the lock to the next request."""
        with self._changed:
            self._served += 1
            self._changed.notify_all()

    def locked(self) -> bool:
        """Whether the lock is held."""
        with self._changed:
            return self._asked > self._served

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Pipelined:
    """Makes a worker callable from several threads, with only one task computed at a time.

    Memory is bounded by the number of threads; at most ``READ_AHEAD`` tasks are being read or wait to be computed.

    Parameters
    ----------
    worker : ShardWorker or callable
        A plain callable runs entirely under the lock.
    """

    def __init__(self, worker: ShardWorker[Any, Any] | Callable[[Any], Any]) -> None:
        self._worker = worker
        self._computing = FifoLock()
        self._ahead = threading.BoundedSemaphore(READ_AHEAD)
        self._stopped = False

    def run(self, task: Any) -> Any:
        """Run one task and return its receipt.

        Raises
        ------
        StoppedError
            If ``stop`` was called before the task was computed.
        """
        if not has_phases(self._worker):
            with self._computing:
                self._check()
                return cast("Callable[[Any], Any]", self._worker)(task)
        worker = cast("ShardWorker[Any, Any]", self._worker)
        with self._ahead:
            self._check()
            loaded = worker.read(task)
            self._computing.acquire()
        try:
            # Check again: a failed write stops the run, and computing may cost money.
            self._check()
            computed = worker.compute(loaded)
        finally:
            self._computing.release()
        # Release what was read before this task is written, which may take long.
        del loaded
        return worker.write(task, computed)

    def stop(self) -> None:
        """Stop computing: waiting threads raise ``StoppedError``; calls the worker's ``stop`` if it has one."""
        self._stopped = True
        stop = getattr(self._worker, "stop", None)
        if callable(stop):
            stop()

    def _check(self) -> None:
        if self._stopped:
            raise StoppedError


class SharedExclusiveLock:
    """A shared/exclusive lock; waiting exclusive holders take precedence."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._waiting = 0

    @contextmanager
    def shared(self) -> Generator[None]:
        """Hold the lock in shared mode."""
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
    def exclusive(self) -> Generator[None]:
        """Hold the lock in exclusive mode."""
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


def has_phases(worker: Any) -> bool:
    """Whether a worker, or its class, has the three methods of a ``ShardWorker``."""
    return all(callable(getattr(worker, part, None)) for part in ("read", "compute", "write"))


def tasks_in_flight(make_worker: Callable[[], Any]) -> int:
    """Return the number of tasks in flight per worker: more than one only for a ``ShardWorker``, which can overlap."""
    made = make_worker
    while isinstance(made, partial):
        made = made.func
    return IN_FLIGHT if has_phases(made) else 1


def run_here(worker: Any, tasks: Iterable[Any], *, in_flight: int) -> Iterator[Any]:
    """Run tasks in threads of this process and yield their receipts in order.

    Parameters
    ----------
    worker : ShardWorker or callable
    tasks : iterable
    in_flight : int
        Tasks in flight; 1: in the thread of the caller.
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
        # After an error or an interrupt nothing more is computed, but writes in progress finish.
        pipelined.stop()
        pool.shutdown(wait=True, cancel_futures=True)
