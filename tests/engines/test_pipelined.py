"""Pipelined tasks of one worker: nothing is computed after a stop."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from latentscale.engines.pipelined import IN_FLIGHT, FifoLock, Pipelined, StoppedError


class Slow:
    """A worker that computes only when the test lets it."""

    def __init__(self) -> None:
        self.computed: list[int] = []
        self.written: list[int] = []
        self.reading = threading.Semaphore(0)
        self.computing = threading.Semaphore(0)
        self.continued = threading.Event()

    def read(self, task: int) -> int:
        self.reading.release()
        return task

    def compute(self, loaded: int) -> int:
        self.computed.append(loaded)
        self.computing.release()
        assert self.continued.wait(60)
        return loaded

    def write(self, task: int, computed: int) -> int:
        self.written.append(computed)
        return computed


def test_a_task_that_was_read_is_not_computed_after_a_stop() -> None:
    worker = Slow()
    pipelined = Pipelined(worker)
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        first = pool.submit(pipelined.run, 0)
        assert worker.computing.acquire(timeout=60)
        others = [pool.submit(pipelined.run, task) for task in range(1, IN_FLIGHT)]
        for _ in range(IN_FLIGHT):
            assert worker.reading.acquire(timeout=60)
        pipelined.stop()
        worker.continued.set()
        # What was computed is written.
        assert first.result(60) == 0
        for other in others:
            with pytest.raises(StoppedError):
                other.result(60)
    assert worker.computed == worker.written == [0]


def test_the_next_task_is_computed_while_earlier_ones_are_written() -> None:
    worker = Slow()
    worker.continued.set()
    everything = threading.Barrier(IN_FLIGHT, timeout=60)

    def write(task: int, computed: int) -> int:
        # Returns only once all tasks in flight are being written.
        everything.wait()
        return computed

    worker.write = write
    pipelined = Pipelined(worker)
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        assert sorted(pool.map(pipelined.run, range(2 * IN_FLIGHT))) == list(range(2 * IN_FLIGHT))


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
