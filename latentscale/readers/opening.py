"""Open the files of a corpus, verify their content, and fingerprint them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from latentscale.config import StorageConfig, protocol_of
from latentscale.digest import digest_bytes
from latentscale.errors import CorpusError, RequestError, StorageError
from latentscale.file_names import on_disk, shown
from latentscale.readers.archives import open_member
from latentscale.readers.input_table import InputFile, InputTable
from latentscale.storage.columns import BATCH
from latentscale.storage.objects import explain_os_error
from latentscale.storage.remote.connect import connect
from latentscale.storage.remote.protocol import ObjectInfo

HASHED_FILES, HASHED_BYTES = 10_000, 1 << 30
"""Up to so many local files, and bytes of them, ``ingest.fingerprint: auto`` goes by content: BLAKE2b reads about
0.6 GB a second of one processor."""

_RACY_NS = 2_000_000_000
_digests: dict[tuple[str, str, int, str], str] = {}
VERIFIED_BYTES = 64 << 20
"""Maximum size in bytes of objects that are read into memory and verified."""
READS = 3
_MD5 = re.compile(r"[0-9a-f]{32}")


def open_input(file: InputFile, storage: StorageConfig | None, *, as_listed: bool = True) -> BinaryIO:
    """Open the bytes of an input file, still compressed, for reading and seeking.

    Parameters
    ----------
    as_listed : bool
        Refuse a file that was overwritten since the inputs were listed.

    Raises
    ------
    CorpusError
        If it is missing or not readable.
    StorageError
        If the store does not answer, or the file changed since it was listed.
    """
    try:
        if file.member:
            return open_member(file, lambda: open_address(file.url, storage), as_listed=as_listed)
        if not protocol_of(file.url):
            return _open_local(file, as_listed=as_listed)
        with as_corpus_errors():
            remote, path = connect(file.url, storage or StorageConfig())
            like = ObjectInfo(name=file.path, size=file.size, version=file.version)
            return remote.open(path, like=like if as_listed else None)
    except FileNotFoundError as error:
        raise _missing_error(file) from error
    except PermissionError as error:
        raise CorpusError(
            f"the input {shown(file.path)} may not be read: permission denied",
            where=file.url,
            hint="Change its permissions.",
        ) from error
    except OSError as error:
        raise explain_os_error(error, "read", file.url) from error


def _missing_error(file: InputFile) -> CorpusError:
    return CorpusError(
        f"the input {shown(file.path)} does not exist any more",
        where=file.url,
        hint="Run again: the inputs are listed again.",
    )


def open_verified(file: InputFile, storage: StorageConfig | None) -> BinaryIO:
    """Open an input for reading all of it; the content of remote objects is verified by checksum.

    Otherwise a bit flip in transit would alter a text permanently. The ETag of most objects is their MD5. If the digest
    differs, the object is read again: equal content in two reads is accepted, as some ETags are not MD5s (multipart
    uploads, or encryption with customer keys). Not verified are objects of more than 64 MiB, to bound memory, and
    members of archives, which have their own checksums.

    Raises
    ------
    CorpusError, StorageError
        As ``open_input``; also if every read returns different content.
    """
    opened = open_input(file, storage)
    if protocol_of(file.url) != "s3" or file.member or file.size > VERIFIED_BYTES:
        return opened
    read: list[bytes] = []
    for attempt in range(READS):
        with opened if attempt == 0 else open_input(file, storage) as stream:
            data = _read_all(stream, file)
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        if digest.hex() == file.version.lower() or digest in read:
            return io.BytesIO(data)
        if attempt == 0 and not _MD5.fullmatch(file.version.lower()):
            # The ETag is not an MD5: such objects are protected by TLS only.
            return io.BytesIO(data)
        read.append(digest)
    raise StorageError(
        f"{shown(file.path)} was damaged in transit from the store: {READS} readings gave {READS} contents",
        where=file.url,
        hint="Run the same command again, and use https for the store.",
    )


def _read_all(stream: BinaryIO, file: InputFile) -> bytes:
    try:
        return stream.read()
    except OSError as error:
        raise explain_os_error(error, "read", file.url) from error


def open_address(url: str, storage: StorageConfig | None) -> tuple[BinaryIO, str]:
    """Open an archive; returns the open file and a string that identifies its version."""
    if protocol_of(url):
        with as_corpus_errors():
            remote, path = connect(url, storage or StorageConfig())
            info = remote.info(path, name=path)
            if info is None:
                raise FileNotFoundError(path)
            return remote.open(path, like=info), f"{info.size}-{info.version}"
    opened = Path(on_disk(url)).open("rb")  # noqa: SIM115 - the caller closes it
    status = os.fstat(opened.fileno())
    return opened, f"{status.st_size}-{status.st_mtime_ns}"


def _open_local(file: InputFile, *, as_listed: bool) -> BinaryIO:
    opened = Path(on_disk(file.url)).open("rb")  # noqa: SIM115 - the caller closes it
    if as_listed:
        try:
            _compare(file, os.fstat(opened.fileno()))
        except StorageError:
            opened.close()
            raise
    return opened


def check_unchanged(file: InputFile) -> None:
    """Reject a file that was overwritten while it was being read; called at its end.

    For remote objects nothing is checked, as each request already names the listed version.

    Raises
    ------
    CorpusError
        If it is missing.
    StorageError
        If it changed.
    """
    if protocol_of(file.url):
        return
    try:
        if file.member:
            open_member(file, lambda: open_address(file.url, None), as_listed=True).close()
            return
        _compare(file, Path(on_disk(file.url)).stat())
    except FileNotFoundError as error:
        raise _missing_error(file) from error


def _compare(file: InputFile, status: os.stat_result) -> None:
    # The version of the demo corpus is a digest of its content.
    touched = file.version.isdigit() and file.version != str(status.st_mtime_ns)
    if touched or status.st_size != file.size:
        raise StorageError(
            f"the input {shown(file.path)} was overwritten since the inputs were listed",
            where=file.url,
            hint="Run the same command again: the inputs are listed again.",
        )


@contextlib.contextmanager
def as_corpus_errors() -> Generator[None]:
    """Translate errors about a workspace's store into errors about the corpus."""
    try:
        yield
    except CorpusError:
        raise
    except RequestError as error:
        if type(error).__name__ != "WorkspaceError":
            raise
        raise CorpusError(error.message, where=error.where, hint=error.hint) from error


def fingerprint_rule(files: InputTable) -> Literal["stat", "content"]:
    """Resolve ``ingest.fingerprint: auto`` for a new corpus.

    By content, so that a corpus has the same ids on every machine, if reading it once more is a small part of a run;
    never for remote objects, whose ETags are equivalent.
    """
    small = len(files) <= HASHED_FILES and int(files.sizes.sum()) <= HASHED_BYTES
    return "content" if small and not any(protocol_of(root) for root in files.roots) else "stat"


def identities(files: InputTable, how: Literal["stat", "content"], storage: StorageConfig | None) -> Iterator[str]:
    """Yield the fingerprint of each input: its path with size and version, or with a digest of its content.

    The path is included in both, since it is stored with the documents.
    """
    if how == "stat":
        for start in range(0, len(files), BATCH):
            stop = start + BATCH
            sizes = files.sizes[start:stop].tolist()
            texts = (files.paths.slice(start, BATCH).to_pylist(), files.versions.slice(start, BATCH).to_pylist())
            for path, size, version in zip(texts[0], sizes, texts[1], strict=True):
                yield f"{path}\0{size}\0{version}"
        return
    for file in files:
        yield f"{file.path}\0{_content_digest(file, storage)}"


def _content_digest(file: InputFile, storage: StorageConfig | None) -> str:
    key = (file.url, file.member, file.size, file.version)
    held = _digests.get(key)
    if held is None:
        begun = time.time_ns()
        with open_input(file, storage, as_listed=False) as stream:
            held = digest_bytes(chunks(stream))
        # Cached, as a plan needs it several times; but not for files modified just now, which may change again within
        # the resolution of the modification time (racy entries in git).
        if file.version.isdigit() and int(file.version) < begun - _RACY_NS:
            if len(_digests) >= HASHED_FILES:
                _digests.clear()
            _digests[key] = held
    return held


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the content of an open file in chunks."""
    while chunk := stream.read(1 << 22):
        yield chunk
