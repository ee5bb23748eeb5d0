"""Bytes of an input as blocks of whole lines: decompressed, in UTF-8, and never more than a bounded piece."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

import zstandard

from latentscale.errors import CorpusError
from latentscale.storage.input_table import InputFile
from latentscale.storage.objects import explain_os_error

BLOCK_BYTES = 4 << 20
# A file made with `zstd --long=31` (dumps of whole sites are) needs a window of this size.
_ZSTD_WINDOW = 1 << 31
# A byte of zstd can become 32 kilobytes: this much is decompressed at once, 64 MiB at worst.
_ZSTD_PIECE = 2 << 10
_MAGIC = ((b"\x1f\x8b", "gzip", ".gz"), (b"\x28\xb5\x2f\xfd", "zstd", ".zst"), (b"PAR1", "parquet", ".parquet"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Whole lines of a file.

    Attributes
    ----------
    data : bytes
        UTF-8, each line with its end (the last of a file perhaps without). What cannot be decoded is not valid UTF-8.
    first : int
        0-based number of the first line.
    """

    data: bytes
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LongLine:
    """A line that is longer than any record may be; only its beginning was kept."""

    data: bytes
    first: int


def _mark(error: UnicodeError) -> tuple[str, int]:
    return "\udcff", cast(UnicodeDecodeError, error).end


# Bytes that an encoding cannot read become a byte that UTF-8 cannot read, and are found where all others are.
codecs.register_error("latentscale-mark", _mark)


class _Zstandard:
    """The frames of a zstd file; the package's own reader takes a file that is cut short for a whole one."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input = memoryview(b"")
        self._output = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes; none at the end of the last frame.

        Raises
        ------
        EOFError
            If the last frame is not whole.
        """
        while not len(self._output):
            if not len(self._input):
                self._input = memoryview(self._raw.read(BLOCK_BYTES))
                if not len(self._input):
                    if self._frame is not None:
                        raise EOFError("the last frame has no end")
                    return b""
            piece = self._input[:_ZSTD_PIECE]
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            self._output = memoryview(self._frame.decompress(piece))
            unused = 0
            if self._frame.eof:
                unused = len(self._frame.unused_data)
                self._frame = None
            self._input = self._input[len(piece) - unused :]
        taken, self._output = self._output[:size], self._output[size:]
        return taken.tobytes()


class Decompressed:
    """The decompressed bytes of an input, read in exact amounts.

    Parameters
    ----------
    file : InputFile
        For the messages, and for its compression.
    raw : binary file
        Closed by whoever opened it.
    """

    def __init__(self, file: InputFile, raw: BinaryIO) -> None:
        self._file = file
        if file.compression == "gzip":
            self._stream: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))
        elif file.compression == "zstd":
            self._stream = cast(BinaryIO, _Zstandard(raw))
        else:
            self._stream = raw

    def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes, fewer only at the end.

        Raises
        ------
        CorpusError
            If the compressed data is damaged or cut short.
        """
        pieces: list[bytes] = []
        wanted = size
        try:
            while wanted and (piece := self._stream.read(wanted)):
                pieces.append(piece)
                wanted -= len(piece)
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
            raise CorpusError(
                f"{self._file.path} is damaged or cut short: {error}",
                where=self._file.url,
                hint="Fetch or compress the file again, or take it out of the corpus.",
            ) from error
        except OSError as error:
            raise explain_os_error(error, "read", self._file.url) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def refuse_other_content(file: InputFile, start: bytes) -> None:
    """Refuse a file whose first bytes are of another kind than its name says.

    Raises
    ------
    CorpusError
    """
    for magic, kind, suffix in _MAGIC:
        if start.startswith(magic):
            raise CorpusError(
                f"{file.path} is read as {file.format}, but what it holds is {kind}",
                where=file.url,
                hint=f"Give it a name that ends in {suffix}.",
            )


def read_lines(file: InputFile, raw: BinaryIO, *, encoding: str, limit: int) -> Iterator[Lines | LongLine]:
    """Read a text file as blocks of whole lines; the blocks depend on nothing but the bytes of the file.

    Parameters
    ----------
    file : InputFile
    raw : binary file
        As stored, perhaps compressed.
    encoding : str
    limit : int
        Bytes of one line at most; a longer one comes as a ``LongLine``.

    Raises
    ------
    CorpusError
        If the compressed data is damaged, or the file is of another kind than its name says.
    """
    source = Decompressed(file, raw)
    utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    decoder = None if utf8 else codecs.getincrementaldecoder(encoding)("latentscale-mark")
    number = 0
    kept: list[bytes] = []
    kept_bytes = 0
    skipping = False
    at_start = True
    while True:
        chunk = source.read(BLOCK_BYTES)
        final = len(chunk) < BLOCK_BYTES
        if at_start:
            refuse_other_content(file, chunk[:4])
        if decoder is not None:
            chunk = decoder.decode(chunk, final).encode("utf-8", "surrogateescape")
        if at_start:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            at_start = False
        end = chunk.rfind(b"\n") + 1
        if end and skipping:
            # The rest of a long line; what was kept of it has been handed on.
            begin = chunk.index(b"\n") + 1
            chunk, end = chunk[begin:], end - begin
            skipping = False
        if end:
            head = b"".join([*kept, chunk[:end]])
            # Only the first line of a block can be longer than a block.
            if kept_bytes and (first_end := head.index(b"\n") + 1) > limit:
                yield LongLine(data=head[:BLOCK_BYTES], first=number)
                number += 1
                head = head[first_end:]
            if head:
                yield Lines(data=head, first=number)
                number += head.count(b"\n")
            kept, kept_bytes = [], 0
        rest = chunk[end:]
        if rest and not skipping:
            kept.append(rest)
            kept_bytes += len(rest)
            if kept_bytes > limit:
                yield LongLine(data=b"".join(kept)[:BLOCK_BYTES], first=number)
                number += 1
                kept, kept_bytes, skipping = [], 0, True
        if final:
            break
    if kept:
        yield Lines(data=b"".join(kept), first=number)


def read_whole(file: InputFile, raw: BinaryIO, *, limit: int) -> tuple[bytes, bool]:
    """Read a whole small file; returns its first ``limit`` bytes and whether that was all."""
    source = Decompressed(file, raw)
    data = source.read(limit + 1)
    return data[:limit], len(data) <= limit


def spool(file: InputFile, raw: BinaryIO, target: BinaryIO) -> None:
    """Write the decompressed bytes of an input to a local file, for formats that must be read at random places."""
    source = Decompressed(file, raw)
    while chunk := source.read(BLOCK_BYTES):
        target.write(chunk)
    target.seek(0, io.SEEK_SET)
