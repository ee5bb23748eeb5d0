"""Write many objects concurrently, with a bound on the bytes in memory."""

from __future__ import annotations

import threading
from collections import deque

from latentscale.storage.objects import Store

# Writers on a local disk, where each object waits for two fsyncs.
LOCAL_WRITERS = 4
PENDING_BYTES = 256 << 20


class Uploads:
    """Writes objects of one store in the background.

    The threads are daemons that end when the queue is empty, so that an interrupted process does not wait for a store
    that does not answer. Writes are atomic, so no partial objects are left.

    Parameters
    ----------
    store : Store
    writers : int, optional
        Objects written concurrently; by default ``storage.max_requests``, and 4 on a local disk.
    pending_bytes : int
        ``put`` waits while more bytes than this are pending; a larger object is written alone.
    """

    def __init__(self, store: Store, *, writers: int | None = None, pending_bytes: int = PENDING_BYTES) -> None:
        self._store = store
        self._writers = writers or (LOCAL_WRITERS if store.is_local else store.storage.max_requests)
        self._limit = pending_bytes
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, bytes | memoryview]] = deque()
        self._pending = 0
        self._running = 0
        self._error: BaseException | None = None

    def put(self, name: str, data: bytes | memoryview) -> None:
        """Queue an object for writing; ``data`` must not be modified afterwards.

        Raises
        ------
        LatentScaleError
            If an earlier object could not be written.
        """
        size = memoryview(data).nbytes
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._pending or self._pending + size <= self._limit)
            self._check()
            self._waiting.append((name, data))
            self._pending += size
            if self._running < self._writers:
                self._running += 1
                threading.Thread(target=self._write, name="latentscale-upload", daemon=True).start()

    def wait(self) -> None:
        """Wait until all objects are written.

        Raises
        ------
        LatentScaleError
            If one could not be written.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._running)
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or self._error is not None:
                    self._waiting.clear()
                    self._running -= 1
                    self._changed.notify_all()
                    return
                name, data = self._waiting.popleft()
            try:
                self._store.put_bytes(name, data)
            except BaseException as error:  # noqa: BLE001 - raised where the next object is put, or at the end
                with self._changed:
                    self._error = self._error or error
            finally:
                size = memoryview(data).nbytes
                del data
                with self._changed:
                    self._pending -= size
                    self._changed.notify_all()
