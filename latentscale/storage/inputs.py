"""The files of a corpus: what they are, in which order, and how to recognise them again."""

from __future__ import annotations

import contextlib
import difflib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import fsspec

from latentscale.config import CorpusConfig, StorageConfig, protocol_of
from latentscale.digest import digest, digest_bytes
from latentscale.errors import CorpusError, EnvironmentFailure, LatentScaleError, RequestError, StorageError
from latentscale.storage.objects import explain_os_error
from latentscale.storage.remote import ObjectInfo, Remote, connect

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
    storage = corpus.storage or StorageConfig()
    found: dict[str, InputFile] = {}
    taken: set[str] = set()
    for source in corpus.sources:
        for file in _expand(source, corpus.format, storage, notes if notes is not None else []):
            if file.url in found:
                continue
            path = _free_path(file, taken)
            taken.add(path)
            found[file.url] = file if path == file.path else replace(file, path=path)
    return list(found.values())


def open_input(file: InputFile, storage: StorageConfig | None, *, as_listed: bool = True) -> BinaryIO:
    """Open the bytes of an input file, still compressed, for reading and seeking.

    Parameters
    ----------
    as_listed : bool
        Refuse a file that was written again since the inputs were listed.

    Raises
    ------
    CorpusError
        If it is gone or may not be read.
    StorageError
        If the store does not answer, or the file is not the one any more that was listed.
    """
    try:
        if not protocol_of(file.url):
            return _open_local(file, as_listed=as_listed)
        with _of_the_corpus():
            remote, path = connect(file.url, storage or StorageConfig())
            like = ObjectInfo(name=file.path, size=file.size, version=file.version)
            return remote.open(path, like=like if as_listed else None)
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


def _open_local(file: InputFile, *, as_listed: bool) -> BinaryIO:
    opened = Path(file.url).open("rb")  # noqa: SIM115 - the caller closes it
    if as_listed:
        try:
            _compare(file, os.fstat(opened.fileno()))
        except StorageError:
            opened.close()
            raise
    return opened


def check_as_listed(file: InputFile) -> None:
    """Refuse a file that was written again while it was read; called when all of it has been read.

    A store says so itself: each read of an object names the version that was listed.

    Raises
    ------
    CorpusError
        If it is gone.
    StorageError
        If it is another now.
    """
    if protocol_of(file.url):
        return
    try:
        _compare(file, Path(file.url).stat())
    except FileNotFoundError as error:
        raise CorpusError(
            f"the input {file.path} is gone", where=file.url, hint="Run again: the inputs are listed anew."
        ) from error


def _compare(file: InputFile, status: os.stat_result) -> None:
    # The version of the demo is a digest of its bytes.
    touched = file.version.isdigit() and file.version != str(status.st_mtime_ns)
    if touched or status.st_size != file.size:
        raise StorageError(
            f"the input {file.path} was written again since the inputs were listed",
            where=file.url,
            hint="Run the same command again: the inputs are listed anew.",
        )


@contextlib.contextmanager
def _of_the_corpus() -> Generator[None]:
    """What is wrong with a request to a store is here wrong with the corpus."""
    try:
        yield
    except CorpusError:
        raise
    except RequestError as error:
        if type(error).__name__ != "WorkspaceError":
            raise
        raise CorpusError(error.message, where=error.where, hint=error.hint) from error


def fingerprint(file: InputFile, how: Literal["stat", "content"], storage: StorageConfig | None) -> str:
    """Return the identity of an input: 32 hex characters over its path and its size and version, or its bytes.

    The path is part of both, since the documents carry it.
    """
    if how == "stat":
        return digest(["stat", file.path, file.size, file.version])
    with open_input(file, storage, as_listed=False) as stream:
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


def _expand(source: str, wanted: str, storage: StorageConfig, notes: list[str]) -> list[InputFile]:
    if source == DEMO:
        return [_demo()]
    try:
        if protocol_of(source):
            with _of_the_corpus():
                return _expand_remote(source, wanted, storage, notes)
        return _expand_local(source, wanted, notes)
    except LatentScaleError:
        raise
    except PermissionError as error:
        raise CorpusError(
            f"{source} may not be read: permission denied", where=source, hint="Change its permissions."
        ) from error
    except OSError as error:
        raise explain_os_error(error, "list", source) from error
    except Exception as error:  # fsspec's back ends raise whatever their client library raises
        raise EnvironmentFailure(
            f"cannot list {source}: {type(error).__name__}: {error}",
            hint="Check the address and the credentials in the environment, then run the same command again.",
        ) from error


def _expand_local(source: str, wanted: str, notes: list[str]) -> list[InputFile]:
    fs = fsspec.filesystem("file")
    plain = source.removeprefix("file://").removeprefix("local://")
    root = str(Path(plain).expanduser().absolute())
    path = Path(root)
    if path.is_file():
        return [_one_file(root, wanted, source, lambda: _describe_local(root, posixpath.dirname(root), wanted))]
    if path.is_dir():
        files = [one for one in _walk(root) if _fits(one, wanted)]
        chosen = [_describe_local(one, root.rstrip("/"), wanted) for one in files]
        return _without_readmes(_select(source, files, chosen, wanted, what="directory"), source, notes)
    if not _WILDCARD.search(root):
        raise _missing(source, root, lambda folder: os.listdir(folder))  # noqa: PTH208 - names are what is wanted
    fixed = _fixed_folder(root)
    found = cast(dict[str, dict[str, Any]], fs.glob(root, detail=True))
    files = [one for one, detail in found.items() if detail.get("type") == "file" or _is_file(detail)]
    files = [one for one in files if "/." in root[len(fixed) :] or not _hidden(one[len(fixed) :])]
    return _select(source, files, [_describe_local(one, fixed, wanted) for one in files], wanted, what="pattern")


def _expand_remote(source: str, wanted: str, storage: StorageConfig, notes: list[str]) -> list[InputFile]:
    remote, root = connect(source, storage)
    try:
        found = remote.info(root, name=posixpath.basename(root))
    except RequestError:
        # The refusal of a question about one object has no body that says why; that of a listing has.
        remote.check(root, write=False, purpose="corpus")
        raise
    if found is not None:
        describe = partial(_describe_remote, remote, posixpath.dirname(root), found, wanted)
        return [_one_file(root, wanted, source, describe)]
    if remote.is_folder(root):
        infos = remote.find(root, relative_to=root)
        infos = {name: info for name, info in infos.items() if not _hidden(name)}
        fitting = {name: info for name, info in infos.items() if _fits(name, wanted)}
        chosen = [_describe_remote(remote, root, info, wanted) for info in fitting.values()]
        return _without_readmes(_select(source, infos, chosen, wanted, what="directory"), source, notes)
    if not _WILDCARD.search(root):
        raise _missing(source, root, remote.beside)
    fixed = _fixed_folder(root)
    infos = remote.glob(root, relative_to=fixed)
    if "/." not in root[len(fixed) :]:
        infos = {name: info for name, info in infos.items() if not _hidden(name)}
    chosen = [_describe_remote(remote, fixed, info, wanted) for info in infos.values()]
    return _select(source, infos, chosen, wanted, what="pattern")


def _fixed_folder(pattern: str) -> str:
    """The folder above the first wildcard."""
    return posixpath.dirname(pattern[: cast(re.Match[str], _WILDCARD.search(pattern)).start()] + "x")


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


def _one_file(root: str, wanted: str, source: str, describe: Callable[[], InputFile | None]) -> InputFile:
    file = describe()
    if file is None:
        raise CorpusError(
            f"{posixpath.basename(root)} is of no format that its name tells",
            where=source,
            hint=f"Say how to read it (--set corpus.format=jsonl, csv, lines …), or use one of {_READ}.",
        )
    return file


def _without_readmes(files: list[InputFile], source: str, notes: list[str]) -> list[InputFile]:
    tables = [file for file in files if file.format not in ("lines", "files")]
    # A README beside the tables of a data set is about them, not one of its documents.
    if tables and len(tables) < len(files):
        notes.append(
            f"{len(files) - len(tables):,} text files in {source} are not read, since there are tables beside them; "
            "name them by a pattern if they are documents"
        )
    return tables or files


def _is_file(detail: Mapping[str, Any]) -> bool:
    return detail.get("type") == "link" and Path(str(detail["name"])).is_file()


def _walk(root: str) -> list[str]:
    files: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in names:
            path = Path(folder, name)
            # Links to files are followed (a model hub's cache is made of them); links to folders could go round.
            if name[0] not in "._" and path.is_file():
                files.append(str(path))
    return files


def _hidden(relative: str) -> bool:
    return any(part[:1] in (".", "_") for part in relative.split("/") if part)


def _select(
    source: str, there: Collection[str], chosen: Iterable[InputFile | None], wanted: str, *, what: str
) -> list[InputFile]:
    files = [file for file in chosen if file is not None]
    if not files:
        suffixes = Counter(posixpath.splitext(path)[1] or "(no suffix)" for path in there)
        counted = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5)) or "nothing"
        read = _READ if wanted == "auto" else f"files of format {wanted}"
        message = "matches no readable file" if what == "pattern" else "holds no readable file"
        raise CorpusError(
            f"the {what} {source} {message}: {counted} there",
            where=source,
            hint=f"Read are {read}. For files of other names give a pattern and --set corpus.format=….",
        )
    return sorted(files, key=lambda file: file.path)


def _fits(path: str, wanted: str) -> bool:
    """Say whether a file of a folder belongs to the corpus when the format is set by the user."""
    named = format_of(path)[0]
    if wanted in ("lines", "files"):
        return named in ("lines", "files", None)
    return wanted == "auto" or named == wanted or {named, wanted} == {"csv", "tsv"}


def _format(path: str, wanted: str) -> tuple[Format, Compression] | None:
    named, compression = format_of(path)
    chosen = named if wanted == "auto" else cast(Format, wanted)
    return None if chosen is None else (chosen, compression)


def _describe_local(path: str, root: str, wanted: str) -> InputFile | None:
    form = _format(path, wanted)
    if form is None:
        return None
    status = Path(path).stat()
    return InputFile(
        url=path,
        path=path[len(root) :].lstrip("/"),
        size=status.st_size,
        version=str(status.st_mtime_ns),
        format=form[0],
        compression=form[1],
    )


def _describe_remote(remote: Remote, root: str, info: ObjectInfo, wanted: str) -> InputFile | None:
    url = remote.address(f"{root}/{info.name}" if root else info.name)
    form = _format(url, wanted)
    if form is None:
        return None
    return InputFile(url=url, path=info.name, size=info.size, version=info.version, format=form[0], compression=form[1])


def _free_path(file: InputFile, taken: Iterable[str]) -> str:
    """Lengthen a path that an earlier source has used already by the folders above it."""
    parts = re.sub(r"^\w+://", "", file.url).strip("/").split("/")
    path, length = file.path, file.path.count("/") + 1
    while path in taken and length < len(parts):
        length += 1
        path = "/".join(parts[-length:])
    return path if path not in taken else file.url


def _missing(source: str, root: str, list_names: Callable[[str], Iterable[str]]) -> CorpusError:
    folder, name = posixpath.split(root.rstrip("/"))
    try:
        names = sorted(list_names(folder))
    except (OSError, ValueError, LatentScaleError):
        return CorpusError(f"there is no {source}", hint=f"The folder {folder} is not there either; check the path.")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    there = ", ".join(names[:6]) + (" …" if len(names) > 6 else "")
    hint = f"Did you mean {' or '.join(near)}?" if near else f"In {folder} there is: {there or 'nothing'}."
    return CorpusError(f"there is no {source}", hint=hint)


def absolute_source(source: str) -> str:
    """Return a source as it is written in the workspace's record: a local path in full, a URL as it is."""
    if source == DEMO or "://" in source:
        return source
    return str(Path(source).expanduser().absolute())
