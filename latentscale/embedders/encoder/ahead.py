"""An iterator that prepares its next items in a thread while the current one is used."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ahead(Iterator[Item], Generic[Item]):
    """An ordered iterator with read-ahead, which starts at once.

    The thread ends when the items are exhausted, and when this object is closed or garbage-collected, so the items must
    not reference it. An exception of the items is raised in the consumer.

    Parameters
    ----------
    items : iterable
    depth : int
        Maximum number of items that are ready; one more may be in preparation.
    """

    def __init__(self, items: Iterable[Item], *, depth: int = 1) -> None:
        self._queue: _BoundedQueue[Item] = _BoundedQueue(depth)
        self._thread = threading.Thread(target=_fill, args=(self._queue, items), name="next-batch", daemon=True)
        self._finalizer = weakref.finalize(self, self._queue.stop)
        # Interpreter exit does not wait for the thread.
        self._finalizer.atexit = False
        self._thread.start()

    def __next__(self) -> Item:
        return self._queue.take()

    def close(self) -> None:
        """Stop preparing, and wait until the thread has ended."""
        self._queue.stop()
        self._thread.join()


class _BoundedQueue(Generic[Item]):
    """A bounded queue between two threads, with an end and an error."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._ready: deque[Item] = deque()
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Wait for room and add an item; return False if the queue was stopped."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) < self._depth or self._stopped)
            if self._stopped:
                return False
            self._ready.append(item)
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self) -> Item:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended or self._stopped)
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise StopIteration

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()


def _fill(queue: _BoundedQueue[Item], items: Iterable[Item]) -> None:
    # The thread references only the queue, so that dropping the iterator stops it.
    error = None
    try:
        for item in items:
            if not queue.put(item):
                break
    except BaseException as raised:  # noqa: BLE001 - raised again in the consumer
        error = raised
    queue.end(error)
