"""Read objects concurrently, and use them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from latentscale.storage.objects import Store

Item = TypeVar("Item")
Result = TypeVar("Result")

# Disks are read by few threads, buckets by many.
LOCAL_THREADS, REMOTE_THREADS = 4, 8


def in_order(
    store: Store, function: Callable[[Item], Result], items: Iterable[Item], *, ahead: int | None = None
) -> Iterator[Result]:
    """Call ``function`` on each item in threads, and yield the results in order.

    At most as many results as threads are pending, so that memory is bounded; ``ahead`` lowers that number.
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
