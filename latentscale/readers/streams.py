"""Read inputs as blocks of complete lines, decompressed and converted to UTF-8, in bounded memory."""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import lzma
import re
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

import zstandard

from latentscale.config import CorpusConfig
from latentscale.errors import CorpusError
from latentscale.file_names import shown
from latentscale.readers.archives import LARGE, expansion_error
from latentscale.readers.input_table import InputFile
from latentscale.readers.opening import open_input, open_verified
from latentscale.storage.objects import explain_os_error

BLOCK_BYTES = 4 << 20
# Compressed bytes per step: a byte of zstd can expand to 32 kB, so at most to 64 MiB.
_ZSTD_PIECE = 2 << 10
ENCODING_ADVICE = (
    "Name the encoding of the files: --set corpus.encoding=cp1252 (Western), cp1251 (Cyrillic), gb18030 (Chinese), "
    "shift_jis (Japanese), euc_kr (Korean), utf-16 … With a wrong one, characters are wrong: look at some."
)
_STREAM_PIECE = 64 << 10
# `xz -9` needs 65 MiB.
_XZ_MEMORY = 256 << 20
_MAGIC = (
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", ".zst"),
    (b"\xfd7zXZ\0", "xz", ".xz"),
    (b"PK\x03\x04", "a zip archive", ".zip (or .xlsx)"),
    (b"PAR1", "parquet", ".parquet"),
    (b"ARROW1\0\0", "arrow", ".arrow"),
)
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
SEEKING = ("parquet", "arrow", "excel")
"""Formats that need random access."""
STEEP = 8 << 20
_UNMARKED = 16
MAGIC_BYTES = 10
"""Number of first bytes by which the type of a file is detected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Complete lines of a file.

    Attributes
    ----------
    data : bytes
        UTF-8, including line ends (except possibly the last). Undecodable bytes are invalid UTF-8.
    first : int
        0-based number of the first line.
    end : bytes
        Line terminator: ``\\n`` (also for ``\\r\\n``), or ``\\r`` in files of old systems.
    """

    data: bytes
    first: int
    end: bytes = b"\n"

    def split(self) -> list[bytes]:
        """Split into lines without terminators."""
        lines = self.data.split(self.end)
        if not lines[-1]:
            lines.pop()
        return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class LongLine:
    """A line that exceeds the record limit, truncated to its beginning."""

    data: bytes
    first: int


def _mark(error: UnicodeError) -> tuple[str, int]:
    return "\udcff", cast(UnicodeDecodeError, error).end


# Undecodable bytes are mapped to a byte that is invalid in UTF-8, so that later validation finds them.
codecs.register_error("latentscale-mark", _mark)


_HALF = re.compile("[\ud800-\udcfe\udd00-\udfff]")


class _Zstandard:
    """Reads the frames of a zstd file; the package's own reader does not detect truncated files."""

    def __init__(self, raw: BinaryIO, window: int) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=window)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._input = memoryview(b"")
        self._output = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes; none at the end of the last frame.

        Raises
        ------
        EOFError
            If the last frame is truncated.
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
        chunk, self._output = self._output[:size], self._output[size:]
        return chunk.tobytes()

    @property
    def pending(self) -> int:
        """Bytes read but not decompressed yet."""
        return len(self._input)


class _Streams:
    """Reads the concatenated streams of a bzip2 or xz file, as written by parallel compressors."""

    def __init__(self, raw: BinaryIO, new: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]) -> None:
        self._raw = raw
        self._new = new
        self._stream: bz2.BZ2Decompressor | lzma.LZMADecompressor | None = None
        self._input = b""

    def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes; none at the end of the last stream.

        Raises
        ------
        EOFError
            If the last stream is truncated.
        """
        while True:
            if (self._stream is None or self._stream.needs_input) and not self._fill():
                if self._stream is not None:
                    raise EOFError("the last stream has no end")
                return b""
            if self._stream is None:
                self._stream = self._new()
            output = self._stream.decompress(self._input, size)
            self._input = b""
            if self._stream.eof:
                self._input = self._stream.unused_data
                self._stream = None
            if output:
                return output

    def _fill(self) -> bool:
        """Read more input; returns False at the end. Skips the zero padding that xz allows after a stream."""
        while True:
            self._input = self._input or self._raw.read(_STREAM_PIECE)
            if not self._input:
                return False
            if self._stream is None:
                self._input = self._input.lstrip(b"\0")
            if self._input:
                return True


class _CountingReader:
    """A file that counts the bytes read."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._raw.read(size)
        self.count += len(data)
        return data


class Content:
    """The decompressed content of an input."""

    def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes, fewer only at the end."""
        raise NotImplementedError


class Decompressed(Content):
    """The decompressed bytes of an input, read in exact amounts.

    Parameters
    ----------
    file : InputFile
        For messages and the compression.
    raw : binary file
        Not closed by this object.
    corpus : CorpusConfig, optional
        For the decompression limits.
    """

    def __init__(self, file: InputFile, raw: BinaryIO, corpus: CorpusConfig | None = None) -> None:
        self._file = file
        fields = CorpusConfig.model_fields
        self._window: int = corpus.max_zstd_window if corpus else fields["max_zstd_window"].default
        self._most: int = corpus.max_expansion if corpus else fields["max_expansion"].default
        self._given = 0
        self._counted: _CountingReader | None = None
        # Compressed size of an archive member.
        self._packed: int | None = getattr(raw, "packed", None)
        if file.compression == "none":
            self._stream = raw
            return
        self._counted = _CountingReader(raw)
        packed = cast(BinaryIO, self._counted)
        if file.compression == "gzip":
            self._stream = cast(BinaryIO, gzip.GzipFile(fileobj=packed, mode="rb"))
        elif file.compression == "zstd":
            self._stream = cast(BinaryIO, _Zstandard(packed, self._window))
        elif file.compression == "bzip2":
            self._stream = cast(BinaryIO, _Streams(packed, bz2.BZ2Decompressor))
        else:
            self._stream = cast(BinaryIO, _Streams(packed, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)))

    def read(self, size: int) -> bytes:
        """Read exactly ``size`` bytes, fewer only at the end.

        Raises
        ------
        CorpusError
            If the compressed data is damaged or truncated, or expands beyond the limits.
        """
        pieces: list[bytes] = []
        wanted = size
        try:
            while wanted and (piece := self._stream.read(wanted)):
                pieces.append(piece)
                wanted -= len(piece)
        except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError, lzma.LZMAError) as error:
            raise self._refusal(error) from error
        except OSError as error:
            if self._file.compression == "bzip2" and error.errno is None:
                raise self._refusal(error) from error
            raise explain_os_error(error, "read", self._file.url) from error
        self._given += size - wanted
        packed = self._packed
        if self._counted is not None:
            packed = self._counted.count - getattr(self._stream, "pending", 0)
        # Ratios that no compressed text reaches are rejected earlier.
        large = self._given > LARGE or (self._given > STEEP and self._given > 10 * self._most * (packed or 0))
        if packed is not None and large and self._given > self._most * packed:
            raise expansion_error(self._file.path, self._file.url, self._given / max(packed, 1), self._most)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _refusal(self, error: Exception) -> CorpusError:
        path, url = shown(self._file.path), self._file.url
        if "too much memory" in str(error):
            return CorpusError(
                f"{path} was compressed with a window of more than {self._window >> 20} MB, which reading it takes too",
                where=url,
                hint=f"Allow it: --set corpus.max_zstd_window={1 << 31}. Or compress it again without --long.",
            )
        if isinstance(error, lzma.LZMAError) and "emory" in str(error):
            return CorpusError(
                f"{path} needs more than {_XZ_MEMORY >> 20} MB of memory to be decompressed",
                where=url,
                hint="Compress it again, with xz -9 at most.",
            )
        return CorpusError(
            f"{path} is damaged or cut short: {error}",
            where=url,
            hint="Fetch or compress the file again, or take it out of the corpus.",
        )


@contextlib.contextmanager
def open_content(file: InputFile, corpus: CorpusConfig, *, verified: bool = False) -> Generator[Content]:
    """Open the decompressed content of an input for sequential reading, within the limits of the settings."""
    with (open_verified if verified else open_input)(file, corpus.storage) as raw:
        yield Decompressed(file, raw, corpus)


@contextlib.contextmanager
def open_seekable(file: InputFile, corpus: CorpusConfig, *, verified: bool = False) -> Generator[BinaryIO]:
    """Open the content of an input for random access; compressed content is decompressed to a temporary file first."""
    with (open_verified if verified else open_input)(file, corpus.storage) as raw:
        if file.compression == "none" and not file.member:
            yield raw
            return
        with tempfile.TemporaryFile() as unpacked:
            source = Decompressed(file, raw, corpus)
            while chunk := source.read(BLOCK_BYTES):
                unpacked.write(chunk)
            unpacked.seek(0)
            yield cast(BinaryIO, unpacked)


def content_of(file: InputFile, raw: BinaryIO | Content) -> Content:
    """Return the content of an open input, which may be decompressed already."""
    return raw if isinstance(raw, Content) else Decompressed(file, raw)


def refuse_other_content(file: InputFile, start: bytes) -> None:
    """Reject a file whose first bytes belong to another format than its name.

    Raises
    ------
    CorpusError
    """
    kinds = (*_MAGIC, (start[:MAGIC_BYTES], "bzip2", ".bz2")) if _BZIP2.match(start) else _MAGIC
    for magic, kind, suffix in kinds:
        if start.startswith(magic):
            raise CorpusError(
                f"{file.path} is read as {file.format}, but what it holds is {kind}",
                where=file.url,
                hint=f"Give it a name that ends in {suffix}.",
            )


_WIDE_MARKS = (
    *((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")),
    *((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")),
)


def marked_encoding(start: bytes) -> str | None:
    """Return UTF-16 or UTF-32 if the text begins with its byte order mark, else None."""
    return next((name for mark, name in _WIDE_MARKS if start.startswith(mark)), None)


def unmarked_encoding(start: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark, by its first bytes; returns the encoding or None."""
    start = start[:_UNMARKED]
    if len(start) == _UNMARKED:
        for name, zeros, others in (("utf-16-le", start[1::2], start[::2]), ("utf-16-be", start[::2], start[1::2])):
            if not zeros.strip(b"\0") and 0 not in others:
                return name
    return None


def refuse_wide_encoding(file: InputFile, start: bytes) -> None:
    """Reject UTF-16 or UTF-32 if UTF-8 was expected."""
    if name := marked_encoding(start):
        raise CorpusError(
            f"{file.path} is {name.upper()}, as its first bytes say, and is read as UTF-8",
            where=file.url,
            hint=f"--set corpus.encoding={name}",
        )
    if name := unmarked_encoding(start):
        raise CorpusError(
            f"{file.path} is read as UTF-8, and every second of its first bytes is zero, as in UTF-16",
            where=file.url,
            hint=f"--set corpus.encoding={name}",
        )


def read_lines(file: InputFile, raw: BinaryIO | Content, *, encoding: str, limit: int) -> Iterator[Lines | LongLine]:
    """Read a text file as blocks of complete lines; blocks are determined by the file's content alone.

    Lines end with ``\\n``; with ``\\r`` if the first four megabytes contain only that, as in files of old systems.

    Parameters
    ----------
    file : InputFile
    raw : binary file
        As stored, possibly compressed.
    encoding : str
    limit : int
        Maximum bytes of a line; longer ones are yielded as ``LongLine``.

    Raises
    ------
    CorpusError
        If the compressed data is damaged, or the file has another format than its name implies.
    """
    source = content_of(file, raw)
    utf8 = codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    decoder = None if utf8 else codecs.getincrementaldecoder(encoding)("latentscale-mark")
    number = 0
    kept: list[bytes] = []
    kept_bytes = 0
    skipping = False
    at_start = True
    mark = b"\n"
    while True:
        chunk = source.read(BLOCK_BYTES)
        final = len(chunk) < BLOCK_BYTES
        if at_start:
            refuse_other_content(file, chunk[:MAGIC_BYTES])
            if decoder is None:
                refuse_wide_encoding(file, chunk)
        if decoder is not None:
            try:
                chunk = _as_utf8(decoder.decode(chunk, final))
            except UnicodeError as error:
                # Some encodings require a byte order mark.
                raise CorpusError(
                    f"{file.path} is not {encoding}: {error}",
                    where=file.url,
                    hint="Name the encoding of the files: --set corpus.encoding=….",
                ) from error
        if at_start:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            at_start = False
            if b"\n" not in chunk and b"\r" in chunk[:-1]:
                mark = b"\r"
        end = chunk.rfind(mark) + 1
        if end and skipping:
            # The rest of a long line, whose beginning was yielded already.
            begin = chunk.index(mark) + 1
            chunk, end = chunk[begin:], end - begin
            skipping = False
        if end:
            head = b"".join([*kept, chunk[:end]])
            # Only the first line of a block can be longer than a block.
            if kept_bytes and (first_end := head.index(mark) + 1) > limit:
                yield LongLine(data=head[:BLOCK_BYTES], first=number)
                number += 1
                head = head[first_end:]
            if head:
                yield Lines(data=head, first=number, end=mark)
                number += head.count(mark)
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
        yield Lines(data=b"".join(kept), first=number, end=mark)


def _as_utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Lone surrogates, which UTF-16 and escapes can contain; our own marker is kept.
        return _HALF.sub("\ufffd", text).encode("utf-8", "surrogateescape")


def read_whole(file: InputFile, raw: BinaryIO | Content, *, limit: int) -> tuple[bytes, bool]:
    """Read up to ``limit`` bytes; also returns whether that is the whole file."""
    source = content_of(file, raw)
    data = source.read(limit + 1)
    return data[:limit], len(data) <= limit
