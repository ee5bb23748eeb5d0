"""Read members of .zip archives, each of which is a separate input."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, NamedTuple, cast

from latentscale.config import CorpusConfig
from latentscale.errors import CorpusError, StorageError
from latentscale.file_names import escaped, shown
from latentscale.readers.formats import chosen_format, fits, is_hidden
from latentscale.readers.input_table import InputFile
from latentscale.readers.unread import Unread

Opener = Callable[[], tuple[BinaryIO, str]]
"""Opens an archive; also returns a string that identifies its version."""

LARGE = 32 << 20
"""Bytes of content from which a file is asked how far it expands: as many short lines take some seconds to be read."""


class _Directory(NamedTuple):
    archive: zipfile.ZipFile
    size: int
    members: dict[str, zipfile.ZipInfo]


# Cache of directories: reading it for each member would take quadratic time in the number of members.
_OPEN = 4
_archives: OrderedDict[tuple[int, str, str], _Directory] = OrderedDict()


def list_members(url: str, path: str, corpus: CorpusConfig, opener: Opener, unread: Unread) -> Iterator[InputFile]:
    """List the readable members of an archive, under the path ``<path of the archive>/<name of the member>``.

    Raises
    ------
    CorpusError
        If it is damaged or encrypted, or its compression ratio exceeds the limit.
    """
    directory = _directory(url, path, opener)
    total = sum(info.file_size for info in directory.members.values())
    if total > LARGE and total > corpus.max_expansion * directory.size:
        raise expansion_error(path, url, total / max(directory.size, 1), corpus.max_expansion)
    for name, info in directory.members.items():
        parts = name.split("/")
        if info.is_dir() or "__MACOSX" in parts or any(is_hidden(part) for part in parts):
            continue
        form = chosen_format(name, corpus.format) if fits(name, corpus.format) else None
        if form is None or form[0] == "zip":
            unread.add_file(f"{path}/{name}")
            continue
        if info.flag_bits & 1:
            raise CorpusError(
                f"{shown(path)} is encrypted", where=url, hint="Unpack it with its password, and give the files."
            )
        yield InputFile(
            url=url,
            path=escaped(f"{path}/{name}"),
            size=info.file_size,
            version=_version(info),
            format=form[0],
            compression=form[1],
            member=name,
        )


def open_member(file: InputFile, opener: Opener, *, as_listed: bool) -> BinaryIO:
    """Open the content of a member; its checksum is verified at the end of the content.

    Raises
    ------
    CorpusError
        If it is missing, or its compression method is not supported.
    StorageError
        If the archive changed since it was listed.
    """
    directory = _directory(file.url, file.path, opener)
    info = directory.members.get(file.member)
    if info is None or (as_listed and (info.file_size, _version(info)) != (file.size, file.version)):
        raise StorageError(
            f"the input {shown(file.path)} was overwritten since the inputs were listed",
            where=file.url,
            hint="Run the same command again: the inputs are listed again.",
        )
    try:
        opened = directory.archive.open(info)
    except NotImplementedError as error:
        raise CorpusError(
            f"{shown(file.path)} is packed by a method that is not read ({error})",
            where=file.url,
            hint="Unpack the archive, or pack it again with plain `zip`.",
        ) from error
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise damaged_archive(file.path, file.url, error) from error
    return cast(BinaryIO, _Member(file, opened, info.compress_size))


class _Member(io.BufferedIOBase):
    """A member opened for reading; ``packed`` is its compressed size in bytes."""

    def __init__(self, file: InputFile, opened: IO[bytes], packed: int) -> None:
        super().__init__()
        self._file = file
        self._opened = opened
        self.packed = packed

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return self._opened.read(-1 if size is None else size)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise damaged_archive(self._file.path, self._file.url, error) from error

    def close(self) -> None:
        self._opened.close()
        super().close()


def _directory(url: str, path: str, opener: Opener) -> _Directory:
    """Read the directory of an archive; of members with equal names the last wins, as in `unzip`."""
    raw, version = opener()
    # Keyed by process, as a forked one would share the file position.
    key = (os.getpid(), url, version)
    found = _archives.get(key)
    if found is not None:
        raw.close()
        _archives.move_to_end(key)
        return found
    try:
        size = raw.seek(0, io.SEEK_END)
        opened = zipfile.ZipFile(raw)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, struct.error) as error:
        raw.close()
        raise damaged_archive(path, url, error) from error
    found = _archives[key] = _Directory(opened, size, {info.filename: info for info in opened.infolist()})
    while len(_archives) > _OPEN:
        _archives.popitem(last=False)
    return found


def _version(info: zipfile.ZipInfo) -> str:
    return f"crc32:{info.CRC:08x}"


def damaged_archive(path: str, url: str, error: BaseException) -> CorpusError:
    """Build the error for a damaged archive or member."""
    return CorpusError(
        f"{shown(path)} is damaged or cut short: {error or 'it ends early'}",
        where=url,
        hint="Fetch or pack the archive again, or take it out of the corpus.",
    )


def expansion_error(path: str, url: str, ratio: float, limit: int) -> CorpusError:
    """Build the error for a file whose compression ratio exceeds the limit."""
    return CorpusError(
        f"{shown(path)} expands to more than {LARGE >> 20} MB, over {ratio:,.0f} times its size",
        where=url,
        hint=f"This is what a decompression bomb does (the limit is {limit}). Read it all the same: "
        f"--set corpus.max_expansion={max(limit * 10, 10_000)}.",
    )
