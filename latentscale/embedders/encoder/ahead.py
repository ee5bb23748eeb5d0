"""Prepare the next items in a thread while the present one is used."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ahead(Iterator[Item], Generic[Item]):
    """Items in their order, of which some are prepared before they are asked for: the first ones at once.

    The thread ends with the items, when this is closed, or when nobody holds it any more. An error of the items is
    raised where they are used. The items must not hold this object.

    Parameters
    ----------
    items : iterable
    depth : int
        How many are ready at most; one more may be in preparation.
    """

    def __init__(self, items: Iterable[Item], *, depth: int = 1) -> None:
        self._line: _Line[Item] = _Line(depth)
        self._thread = threading.Thread(target=_fill, args=(self._line, items), name="next-batch", daemon=True)
        self._forgotten = weakref.finalize(self, self._line.stop)
        # A process that ends does not wait for it.
        self._forgotten.atexit = False
        self._thread.start()

    def __next__(self) -> Item:
        return self._line.take()

    def close(self) -> None:
        """Stop preparing, and wait until the thread has ended."""
        self._line.stop()
        self._thread.join()


class _Line(Generic[Item]):
    """What two threads share: items that are ready, and how it ended."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._ready: deque[Item] = deque()
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Wait for room; False where no item is wanted any more."""
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


def _fill(line: _Line[Item], items: Iterable[Item]) -> None:
    # The thread holds the line alone: whoever uses the items may forget them, which stops it.
    error = None
    try:
        for item in items:
            if not line.put(item):
                break
    except BaseException as raised:  # noqa: BLE001 - raised again in the thread that uses the items
        error = raised
    line.end(error)
