"""Read objects some at a time and use them in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from latentscale.storage.objects import Store

Item = TypeVar("Item")
Result = TypeVar("Result")

# A disk is read by few threads; a bucket answers many at once.
LOCAL_THREADS, REMOTE_THREADS = 4, 8


def in_order(
    store: Store, function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int | None = None
) -> Iterator[Result]:
    """Call ``function`` on each item in some threads, and yield its results in the order of the items.

    As many as there are threads are active or wait to be consumed, so that memory does not grow with their number;
    fewer than a disk or a bucket can bear where ``ahead`` is less.
    """
    threads = LOCAL_THREADS if store.is_local else REMOTE_THREADS
    threads = threads if ahead is None else min(threads, ahead)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
