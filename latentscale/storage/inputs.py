"""The files of a corpus: what they are, in which order, and how to recognise them again."""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import fsspec
from fsspec.core import url_to_fs

from latentscale.config import CorpusConfig
from latentscale.digest import digest, digest_bytes
from latentscale.errors import CorpusError, EnvironmentFailure, LatentScaleError, MissingPackageError
from latentscale.storage.objects import explain_os_error

Format = Literal["parquet", "csv", "tsv", "jsonl", "lines", "files"]
Compression = Literal["none", "gzip", "zstd"]

SUFFIXES: Mapping[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json-lines": "jsonl",
    ".txt": "lines",
    ".text": "lines",
    ".lines": "lines",
    ".md": "files",
    ".markdown": "files",
    ".rst": "files",
}
COMPRESSIONS: Mapping[str, Compression] = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
DEMO = "demo"

_WILDCARD = re.compile(r"[*?\[]")
_READ = ".parquet .csv .tsv .jsonl .ndjson .txt .md, each plain, .gz or .zst"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFile:
    """One file of the corpus.

    Attributes
    ----------
    url : str
        Where it is: a local path or an fsspec URL.
    path : str
        Relative to the source that named it: its stable identity, and the ``source`` of its documents.
    size : int
        Bytes.
    version : str
        ETag, or the modification time.
    format : {"parquet", "csv", "tsv", "jsonl", "lines", "files"}
    compression : {"none", "gzip", "zstd"}
    """

    url: str
    path: str
    size: int
    version: str
    format: Format
    compression: Compression

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def list_inputs(corpus: CorpusConfig, notes: list[str] | None = None) -> list[InputFile]:
    """List the files of a corpus, source by source and by path within a source; a file named twice counts once.

    Parameters
    ----------
    corpus : CorpusConfig
    notes : list of str, optional
        Gets a sentence for each choice that was made for the user.

    Of a directory all readable files below it belong to the corpus, but text files (.txt, .md …) only where it holds no
    tables (parquet, CSV, JSON lines); a pattern or ``corpus.format`` takes what it says.

    Raises
    ------
    CorpusError
        If a source is missing, has a format that is not read, or holds no readable file.
    """
    options = dict(corpus.storage_options)
    found: dict[str, InputFile] = {}
    taken: set[str] = set()
    for source in corpus.sources:
        for file in _expand(source, corpus.format, options, notes if notes is not None else []):
            if file.url in found:
                continue
            path = _free_path(file, taken)
            taken.add(path)
            found[file.url] = file if path == file.path else replace(file, path=path)
    return list(found.values())


def open_input(file: InputFile, storage_options: Mapping[str, Any]) -> BinaryIO:
    """Open the bytes of an input file, still compressed, for reading and seeking.

    Raises
    ------
    CorpusError
        If it is gone or may not be read.
    StorageError
        If the store does not answer.
    """
    try:
        if "://" not in file.url:
            return Path(file.url).open("rb")
        fs, path = url_to_fs(file.url, **storage_options)
        return cast(BinaryIO, fs.open(path, "rb"))
    except FileNotFoundError as error:
        raise CorpusError(
            f"the input {file.path} is gone", where=file.url, hint="Run again: the inputs are listed anew."
        ) from error
    except PermissionError as error:
        raise CorpusError(
            f"the input {file.path} may not be read: permission denied", where=file.url, hint="Change its permissions."
        ) from error
    except OSError as error:
        raise explain_os_error(error, "read", file.url) from error


def fingerprint(file: InputFile, how: Literal["stat", "content"], storage_options: Mapping[str, Any]) -> str:
    """Return the identity of an input: 32 hex characters over its path and its size and version, or its bytes.

    The path is part of both, since the documents carry it.
    """
    if how == "stat":
        return digest(["stat", file.path, file.size, file.version])
    with open_input(file, storage_options) as stream:
        return digest(["content", file.path, digest_bytes(_chunks(stream))])


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(1 << 22):
        yield chunk


def format_of(name: str) -> tuple[Format | None, Compression]:
    """Read format and compression off a file's name; the format is None where the suffix says nothing."""
    if name.startswith(("http://", "https://")):
        name = name.partition("?")[0]
    stem, suffix = posixpath.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix, "none")
    if compression != "none":
        suffix = posixpath.splitext(stem)[1]
    return SUFFIXES.get(suffix), compression


def _expand(source: str, wanted: str, options: dict[str, Any], notes: list[str]) -> list[InputFile]:
    if source == DEMO:
        return [_demo()]
    try:
        fs, root = _locate(source, options)
        if not (fs.isfile(root) or fs.isdir(root)):
            if _WILDCARD.search(root):
                return _expand_glob(fs, source, root, wanted)
            raise _missing(fs, source, root)
        if fs.isfile(root):
            return [_one_file(fs, source, root, wanted)]
        return _expand_folder(fs, source, root, wanted, notes)
    except LatentScaleError:
        raise
    except PermissionError as error:
        raise CorpusError(
            f"{source} may not be read: permission denied", where=source, hint="Change its permissions."
        ) from error
    except ImportError as error:
        raise MissingPackageError(
            f"{source} needs a package that is not installed ({error})",
            hint="pip install 'latentscale[s3]'" if source.startswith("s3") else "Install that package.",
        ) from error
    except OSError as error:
        raise explain_os_error(error, "list", source) from error
    except Exception as error:  # fsspec's back ends raise whatever their client library raises
        raise EnvironmentFailure(
            f"cannot list {source}: {type(error).__name__}: {error}",
            hint="Check the address and the credentials in the environment, then run the same command again.",
        ) from error


def _locate(source: str, options: dict[str, Any]) -> tuple[fsspec.AbstractFileSystem, str]:
    if "://" not in source:
        source = str(Path(source).expanduser().absolute())
        return fsspec.filesystem("file"), source
    try:
        fs, root = url_to_fs(source, **options)
    except ValueError as error:
        raise CorpusError(f"{source} is not a place that can be read: {error}") from error
    fs.invalidate_cache()
    return fs, root if isinstance(root, str) else str(root)


def _is_local(fs: fsspec.AbstractFileSystem) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _demo() -> InputFile:
    from latentscale.demo import corpus_path

    path = Path(corpus_path())
    # Known by its bytes, so that every installation gives it the same identity.
    with path.open("rb") as stream:
        version = digest_bytes(_chunks(stream))
    return InputFile(
        url=str(path),
        path=path.name,
        size=path.stat().st_size,
        version=version,
        format="parquet",
        compression="none",
    )


def _one_file(fs: fsspec.AbstractFileSystem, source: str, root: str, wanted: str) -> InputFile:
    file = _describe(fs, root, fs.info(root), posixpath.dirname(root), wanted)
    if file is None:
        raise CorpusError(
            f"{posixpath.basename(root)} is of no format that its name tells",
            where=source,
            hint=f"Say how to read it (--set corpus.format=jsonl, csv, lines …), or use one of {_READ}.",
        )
    return file


def _expand_folder(
    fs: fsspec.AbstractFileSystem, source: str, root: str, wanted: str, notes: list[str]
) -> list[InputFile]:
    root = root.rstrip("/") or root
    files = _select(fs, source, root, _walk(fs, root), wanted, what="directory", explicit=False)
    tables = [file for file in files if file.format not in ("lines", "files")]
    # A README beside the tables of a data set is about them, not one of its documents.
    if tables and len(tables) < len(files):
        notes.append(
            f"{len(files) - len(tables):,} text files in {source} are not read, since there are tables beside them; "
            "name them by a pattern if they are documents"
        )
    return tables or files


def _expand_glob(fs: fsspec.AbstractFileSystem, source: str, pattern: str, wanted: str) -> list[InputFile]:
    fixed = posixpath.dirname(pattern[: cast(re.Match[str], _WILDCARD.search(pattern)).start()] + "x")
    found = cast(dict[str, dict[str, Any]], fs.glob(pattern, detail=True))
    files = {path: detail for path, detail in found.items() if detail.get("type") == "file" or _is_file(detail)}
    if "/." not in pattern[len(fixed) :]:
        files = {path: detail for path, detail in files.items() if not _hidden(path[len(fixed) :])}
    return _select(fs, source, fixed, files, wanted, what="pattern", explicit=True)


def _is_file(detail: Mapping[str, Any]) -> bool:
    return detail.get("type") == "link" and Path(str(detail["name"])).is_file()


def _walk(fs: fsspec.AbstractFileSystem, root: str) -> dict[str, dict[str, Any]]:
    if not _is_local(fs):
        found = cast(dict[str, dict[str, Any]], fs.find(root, detail=True))
        return {path: detail for path, detail in found.items() if not _hidden(path[len(root) :])}
    files: dict[str, dict[str, Any]] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in names:
            path = Path(folder, name)
            # Links to files are followed (a model hub's cache is made of them); links to folders could go round.
            if name[0] not in "._" and path.is_file():
                files[str(path)] = {}
    return files


def _hidden(relative: str) -> bool:
    return any(part[:1] in (".", "_") for part in relative.split("/") if part)


def _select(
    fs: fsspec.AbstractFileSystem,
    source: str,
    root: str,
    files: Mapping[str, Mapping[str, Any]],
    wanted: str,
    *,
    what: str,
    explicit: bool,
) -> list[InputFile]:
    chosen: list[InputFile] = []
    for path in files:
        if explicit or _fits(path, wanted):
            file = _describe(fs, path, files[path], root, wanted)
            if file is not None:
                chosen.append(file)
    if not chosen:
        suffixes = Counter(posixpath.splitext(path)[1] or "(no suffix)" for path in files)
        there = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5)) or "nothing"
        read = _READ if wanted == "auto" else f"files of format {wanted}"
        message = "matches no readable file" if what == "pattern" else "holds no readable file"
        raise CorpusError(
            f"the {what} {source} {message}: {there} there",
            where=source,
            hint=f"Read are {read}. For files of other names give a pattern and --set corpus.format=….",
        )
    return sorted(chosen, key=lambda file: file.path)


def _fits(path: str, wanted: str) -> bool:
    """Say whether a file of a folder belongs to the corpus when the format is set by the user."""
    named = format_of(path)[0]
    if wanted in ("lines", "files"):
        return named in ("lines", "files", None)
    return wanted == "auto" or named == wanted or {named, wanted} == {"csv", "tsv"}


def _describe(
    fs: fsspec.AbstractFileSystem, path: str, detail: Mapping[str, Any], root: str, wanted: str
) -> InputFile | None:
    named, compression = format_of(path)
    chosen = named if wanted == "auto" else cast(Format, wanted)
    if chosen is None:
        return None
    relative = path[len(root) :].lstrip("/")
    if _is_local(fs):
        status = Path(path).stat()
        return InputFile(
            url=path,
            path=relative,
            size=status.st_size,
            version=str(status.st_mtime_ns),
            format=chosen,
            compression=compression,
        )
    tag = detail.get("ETag") or detail.get("etag") or detail.get("md5Hash")
    tag = tag or detail.get("mtime") or detail.get("LastModified") or detail.get("created") or ""
    return InputFile(
        url=str(fs.unstrip_protocol(path)),
        path=relative,
        size=int(detail.get("size") or 0),
        version=str(tag).strip('"'),
        format=chosen,
        compression=compression,
    )


def _free_path(file: InputFile, taken: Iterable[str]) -> str:
    """Lengthen a path that an earlier source has used already by the folders above it."""
    parts = re.sub(r"^\w+://", "", file.url).strip("/").split("/")
    path, length = file.path, file.path.count("/") + 1
    while path in taken and length < len(parts):
        length += 1
        path = "/".join(parts[-length:])
    return path if path not in taken else file.url


def _missing(fs: fsspec.AbstractFileSystem, source: str, root: str) -> CorpusError:
    folder, name = posixpath.split(root.rstrip("/"))
    try:
        names = [posixpath.basename(str(entry).rstrip("/")) for entry in cast(list[str], fs.ls(folder, detail=False))]
    except (OSError, ValueError):
        return CorpusError(f"there is no {source}", hint=f"The folder {folder} is not there either; check the path.")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    there = ", ".join(sorted(names)[:6]) + (" …" if len(names) > 6 else "")
    hint = f"Did you mean {' or '.join(near)}?" if near else f"In {folder} there is: {there or 'nothing'}."
    return CorpusError(f"there is no {source}", hint=hint)


def absolute_source(source: str) -> str:
    """Return a source as it is written in the workspace's record: a local path in full, a URL as it is."""
    if source == DEMO or "://" in source:
        return source
    return str(Path(source).expanduser().absolute())
