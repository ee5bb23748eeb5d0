"""Partition the hashes of many rows into buckets by their leading bits, in a scratch file."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from latentscale.storage.hashing import Words
from latentscale.storage.objects import explain_os_error

RECORD = np.dtype([("first", "<u8"), ("second", "<u8"), ("shard", "<u4"), ("row", "<u4")])
Records = NDArray[Any]
"""Structured array of ``RECORD``: the two halves of a hash, the number of a shard, and the row in it."""

NO_RECORDS: Records = np.empty(0, dtype=RECORD)
BLOCK_ROWS = 1 << 19
_MAX_BITS = 14


def records_of(first: Words, second: Words, shard: NDArray[Any] | int, row: NDArray[Any]) -> Records:
    """Combine columns of shape (n,) into a structured array."""
    records = np.empty(len(first), dtype=RECORD)
    records["first"], records["second"], records["shard"], records["row"] = first, second, shard, row
    return records


def bits_for(rows: int, bucket_rows: int) -> int:
    """Return the number of leading bits that splits ``rows`` rows into buckets of about ``bucket_rows`` at most."""
    return min(max(-(-rows // bucket_rows) - 1, 0).bit_length(), _MAX_BITS)


def bounds(records: Records, bits: int) -> NDArray[np.int64]:
    """Return the bucket boundaries in ``records``, sorted by their first half (int64, shape (2**bits + 1,))."""
    if not bits:
        return np.array([0, len(records)])
    firsts = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
    return np.append(np.searchsorted(np.ascontiguousarray(records["first"]), firsts), len(records))


class Spool:
    """Partitions records by the leading bits of their hash.

    At most one block is kept in memory; if there is only one, nothing is written. The scratch file is unlinked, so
    that a killed process leaves no file.

    Parameters
    ----------
    bits : int
        Number of leading bits; there are ``2**bits`` buckets.
    block_rows : int
        Rows sorted and written at a time.
    """

    def __init__(self, bits: int, *, block_rows: int = BLOCK_ROWS) -> None:
        self.bits = bits
        self._block_rows = block_rows
        self._waiting: list[Records] = []
        self._rows = 0
        self._file: IO[bytes] | None = None
        self._blocks: list[tuple[int, NDArray[np.int32]]] = []
        self._last: tuple[Records, NDArray[np.int32]] | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, records: Records) -> None:
        """Add records.

        Raises
        ------
        StorageError
            If the disk of the scratch file is full.
        """
        self._waiting.append(records)
        self._rows += len(records)
        if self._rows >= self._block_rows:
            self._write(*self._sorted())

    def bucket(self, number: int) -> Sequence[Records]:
        """Return the records of one bucket, in pieces; no records can be added afterwards."""
        if self._last is None:
            self._last = self._sorted()
        pieces: list[Records] = []
        for offset, starts in self._blocks:
            start, stop = int(starts[number]), int(starts[number + 1])
            if start < stop:
                assert self._file is not None, "blocks are in the file"
                self._file.seek(offset + start * RECORD.itemsize)
                pieces.append(np.frombuffer(self._file.read((stop - start) * RECORD.itemsize), dtype=RECORD))
        block, starts = self._last
        return [*pieces, block[int(starts[number]) : int(starts[number + 1])]]

    def _sorted(self) -> tuple[Records, NDArray[np.int32]]:
        """Sort the buffered records by bucket; also returns the bucket boundaries."""
        block = np.concatenate(self._waiting) if self._waiting else NO_RECORDS
        self._waiting, self._rows = [], 0
        if not self.bits:
            return block, np.array([0, len(block)], dtype=np.int32)
        buckets = (block["first"] >> np.uint64(64 - self.bits)).astype(np.uint16)
        block = block[np.argsort(buckets, kind="stable")]
        sizes = np.bincount(buckets, minlength=1 << self.bits)
        return block, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)

    def _write(self, block: Records, starts: NDArray[np.int32]) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="latentscale-ids-")  # noqa: SIM115 - closed with the spool
            self._blocks.append((self._file.seek(0, 2), starts))
            self._file.write(block.tobytes())
            self._file.flush()
        except OSError as error:
            raise explain_os_error(error, "write to", tempfile.gettempdir()) from error
