"""What the compressed batches of an Arrow file will take once they are decompressed, before Arrow does it.

Arrow decompresses a whole batch at once, and some kilobytes can be gigabytes. Each compressed buffer begins with its
decompressed size; where the buffers are stands in the metadata of the batch, a flatbuffer (Arrow's ``Message.fbs``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3


def decompressed_sizes(source: Any) -> Iterator[tuple[int, int]]:
    """Yield for each batch its bytes in the file, and those that its buffers decompress to.

    Parameters
    ----------
    source : pyarrow.NativeFile
        At the first message: the begin of a stream, or byte 8 of a file.
    """
    reader = pa.ipc.MessageReader.open_stream(source)
    while True:
        try:
            message = reader.read_next_message()
            yield message.body.size, _decompressed(memoryview(message.metadata), message.body)
        except StopIteration:
            return
        except (pa.ArrowException, OSError, struct.error, AttributeError):
            # The end of the messages in a file; or damage, which reading will report.
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
    """Position of a field of a table; 0 where it has its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    (size,) = struct.unpack_from("<H", data, vtable)
    entry = 4 + 2 * number
    if entry + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", data, vtable + entry)
    return table + offset if offset else 0
