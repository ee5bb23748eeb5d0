"""Run blocks of array work on threads, with results that do not depend on the number of threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """Split ``range(n)`` into ranges of ``size``, independent of the machine."""
    return [(start, min(start + size, n)) for start in range(0, n, size)]


class _BlasLimit:
    """A process-wide, reference-counted limit of BLAS to one thread.

    BLAS has one setting for all threads. If each user restored the value it had read, the first to finish would lift
    the limit while others are still computing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: Any = None

    def enter(self) -> None:
        import threadpoolctl

        with self._lock:
            if self._users == 0:
                _take_control()
                # The cached controller, where available, rescans loaded libraries only after further imports.
                find = getattr(threadpoolctl, "get_cached_controller", threadpoolctl.ThreadpoolController)
                self._limit = cast(Any, find()).limit(limits=1, user_api="blas")
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                _take_control()
                self._limit.restore_original_limits()
                _take_control()


def _take_control() -> None:
    """Allow this thread to set the number of OpenBLAS threads.

    threadpoolctl silently ignores all threads but the first that set it.
    """
    import threadpoolctl

    controller = getattr(threadpoolctl, "OpenBLASController", None)
    if hasattr(controller, "clear_controlling_thread"):
        cast(Any, controller).clear_controlling_thread(force=True)


_blas_limit = _BlasLimit()


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Run BLAS on the calling thread only, for any number of concurrent threads.

    How BLAS splits a product among its threads changes the last bits of the result; callers split it themselves.
    """
    _blas_limit.enter()
    try:
        yield
    finally:
        _blas_limit.leave()


def run_blocks(work: Callable[[int, int], Any], ranges: list[tuple[int, int]], *, threads: int) -> list[Any]:
    """Call ``work(start, stop)`` for every range, on up to ``threads`` threads; results in the order of ``ranges``.

    Only work that releases the GIL (matrix products, compiled kernels) gains from more than one.
    """
    with one_blas_thread():
        if threads <= 1 or len(ranges) <= 1:
            return [work(start, stop) for start, stop in ranges]
        pool = ThreadPoolExecutor(min(threads, len(ranges)), thread_name_prefix="latentscale-block")
        try:
            return list(pool.map(lambda pair: work(*pair), ranges))
        finally:
            # After success there is nothing left to wait for; after an interrupt do not wait for running blocks.
            pool.shutdown(wait=False, cancel_futures=True)
