"""Run blocks of array work on threads, with results that do not depend on how many there are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """Cut ``range(n)`` into ranges of ``size``; where the cuts fall never depends on the machine."""
    return [(start, min(start + size, n)) for start in range(0, n, size)]


@contextmanager
def one_blas_thread() -> Generator[None]:
    """Keep matrix products on the calling thread.

    How a BLAS cuts a product among its threads changes the last bits of the result; we cut it ourselves.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def run_blocks(work: Callable[[int, int], Any], ranges: list[tuple[int, int]], *, threads: int) -> list[Any]:
    """Call ``work(start, stop)`` for every range, on up to ``threads`` threads; results in the order of ``ranges``.

    Only work that releases the GIL (matrix products, compiled kernels) gains from more than one.
    """
    with one_blas_thread():
        if threads <= 1 or len(ranges) <= 1:
            return [work(start, stop) for start, stop in ranges]
        with ThreadPoolExecutor(min(threads, len(ranges)), thread_name_prefix="latentscale-block") as pool:
            return list(pool.map(lambda pair: work(*pair), ranges))
