"""Pipelined tasks of one worker: nothing is computed after a stop."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from latentscale.engines.pipelined import UNWRITTEN, FifoLock, Pipelined, StoppedError


class Slow:
    """A worker whose tasks are written only when the test says so."""

    def __init__(self) -> None:
        self.computed: list[int] = []
        self.reading = threading.Semaphore(0)
        self.writing = threading.Semaphore(0)
        self.go_on = threading.Event()

    def read(self, task: int) -> int:
        self.reading.release()
        return task

    def compute(self, loaded: int) -> int:
        self.computed.append(loaded)
        return loaded

    def write(self, task: int, computed: int) -> int:
        self.writing.release()
        assert self.go_on.wait(60)
        return computed


def test_tasks_waiting_for_a_write_are_not_computed_after_stop() -> None:
    worker = Slow()
    pipelined = Pipelined(worker)
    with ThreadPoolExecutor(UNWRITTEN + 1) as pool:
        first = [pool.submit(pipelined.run, task) for task in range(UNWRITTEN)]
        for _ in first:
            assert worker.writing.acquire(timeout=60)
        last = pool.submit(pipelined.run, UNWRITTEN)
        # It has been read, and waits until one is written, or is about to.
        for _ in range(UNWRITTEN + 1):
            assert worker.reading.acquire(timeout=60)
        while not pipelined._computing.locked():
            threading.Event().wait(0.01)
        pipelined.stop()
        worker.go_on.set()
        assert sorted(one.result(60) for one in first) == list(range(UNWRITTEN))
        with pytest.raises(StoppedError):
            last.result(60)
    assert sorted(worker.computed) == list(range(UNWRITTEN))


def test_who_asks_first_is_served_first() -> None:
    lock, order = FifoLock(), []
    threads: list[threading.Thread] = []

    def work(number: int) -> None:
        with lock:
            order.append(number)

    with lock:
        assert lock.locked()
        for number in range(8):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            # One of them has the lock, and all that were started have asked for it.
            while lock._asked < number + 2:
                threading.Event().wait(0.001)
    for thread in threads:
        thread.join(60)
    assert order == list(range(8))
    assert not lock.locked()
