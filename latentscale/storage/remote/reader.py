"""Read a remote object by ranged requests, with read-ahead that grows while reading is sequential."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

# Large enough for the footer of a parquet file in one request.
SMALLEST_FETCH = 64 << 10
LARGEST_FETCH = 8 << 20


class RangeReader(io.BufferedIOBase):
    """A seekable, readable file over an object; a read outside the buffer is one ranged request, or several at once.

    Parameters
    ----------
    fetch : function of (start, stop)
        Returns exactly those bytes, or raises.
    size : int
        Size of the object in bytes.
    buffered : bytes
        Bytes that were fetched already.
    start : int
        Offset of these bytes in the object.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, buffered: bytes = b"", start: int = 0) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._offset = 0
        self._start = start
        self._buffered = buffered
        self._ahead = SMALLEST_FETCH
        self._expected = -1

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return self._offset

    @property
    def size(self) -> int:
        """Size of the object in bytes."""
        return self._size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a negative offset")
        self._offset = base + offset
        return self._offset

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes, fewer only at the end."""
        if self.closed:
            raise ValueError("the file is closed")
        left = max(0, self._size - self._offset)
        wanted = left if size is None or size < 0 else min(size, left)
        offset = self._offset - self._start
        if offset >= 0 and offset + wanted <= len(self._buffered):
            data = self._buffered[offset : offset + wanted]
        else:
            data = self._miss(wanted)
        self._offset += len(data)
        return data

    def _miss(self, wanted: int) -> bytes:
        offset = self._offset - self._start
        kept = self._buffered[offset:] if 0 <= offset < len(self._buffered) else b""
        begin = self._offset + len(kept)
        if begin == self._expected:
            self._ahead = min(self._ahead * 2, LARGEST_FETCH)
        else:
            self._ahead = SMALLEST_FETCH
        stop = min(self._size, max(self._offset + wanted, begin + self._ahead))
        fetched = self._fetch(begin, stop)
        self._expected = stop
        data = kept + fetched if kept else fetched
        # After a large read, only the read-ahead bytes are kept.
        self._start, self._buffered = self._offset + wanted, data[wanted:]
        if wanted <= LARGEST_FETCH:
            self._start, self._buffered = self._offset, data
        return data[:wanted]

    def read1(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes."""
        return self.read(SMALLEST_FETCH if size < 0 else size)

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    readinto1 = readinto

    def close(self) -> None:
        """Release the buffer and close."""
        self._buffered = b""
        super().close()
