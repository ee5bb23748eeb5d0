"""Determine the decompressed sizes of the batches of an Arrow file without decompressing them.

Arrow decompresses a whole batch at once, and a few kilobytes can expand to gigabytes. Each compressed buffer begins
with its decompressed size; the offsets of the buffers are in the batch's metadata, a flatbuffer (``Message.fbs``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


def decompressed_sizes(source: Any) -> Iterator[tuple[int, int]]:
    """Yield (compressed, decompressed) size in bytes of each batch.

    Parameters
    ----------
    source : pyarrow.NativeFile
        Positioned at the first message: the start of a stream, or byte 8 of a file.
    """
    reader = pa.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = reader.read_next_message()
            yield message.body.size, _decompressed(memoryview(message.metadata), message.body)
        except StopIteration:
            return
        except (pa.ArrowException, OSError, struct.error, AttributeError):
            # End of the messages, or damage, which reading will report.
            return


def _decompressed(metadata: memoryview, body: pa.Buffer) -> int:
    root = _offset(metadata, 0)
    kind = _field(metadata, root, 1)
    header = _field(metadata, root, 2)
    if not kind or not header or metadata[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return 0
    batch = header + _offset(metadata, header)
    if metadata[kind] == _DICTIONARY_BATCH:
        data = _field(metadata, batch, 1)
        batch = data + _offset(metadata, data)
    vector = _field(metadata, batch, 2)
    if not _field(metadata, batch, 3) or not vector:
        return 0
    start = vector + _offset(metadata, vector)
    total = 0
    for number in range(_offset(metadata, start)):
        offset, length = struct.unpack_from("<qq", metadata, start + 4 + 16 * number)
        if length >= 8:
            (size,) = struct.unpack_from("<q", body, offset)
            total += length if size < 0 else size
    return total


def _offset(data: memoryview, position: int) -> int:
    return struct.unpack_from("<I", data, position)[0]


def _field(data: memoryview, table: int, number: int) -> int:
    """Return the position of a field in a flatbuffer table; 0 if it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    entry = 4 + 2 * number
    if entry + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", data, vtable + entry)
    return table + offset if offset else 0
