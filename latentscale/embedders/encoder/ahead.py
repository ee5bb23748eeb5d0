"""Prepare the next items in a thread while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def ahead(items: Iterable[Item], *, depth: int = 1) -> Generator[Item, None, None]:
    """Yield the items, of which up to ``depth`` are prepared before they are asked for.

    The thread ends with the items, or when the generator is closed; an error of the items is raised where they are
    used.
    """
    ready: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for item in items:
                ready.put(item)
                if stopped.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that uses the items
            failed.append(error)
        ready.put(_END)

    thread = threading.Thread(target=work, name="next-batch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            yield item  # pyright: ignore[reportReturnType] - whatever is not the end came from the items
        if failed:
            raise failed[0]
    finally:
        stopped.set()
        while thread.is_alive():
            # A thread that waits for room sees only then that nobody takes its items.
            try:
                ready.get(timeout=0.05)
            except queue.Empty:
                continue
