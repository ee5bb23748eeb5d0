"""The files of a corpus: what they are, in which order, and how to recognise them again."""

from __future__ import annotations

import contextlib
import difflib
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import fsspec
import numpy as np

from latentscale.config import CorpusConfig, StorageConfig, protocol_of
from latentscale.digest import digest_bytes
from latentscale.errors import CorpusError, EnvironmentFailure, LatentScaleError, RequestError, StorageError
from latentscale.redaction import lacks_signature
from latentscale.storage.columns import BATCH
from latentscale.storage.input_table import FORMATS, Compression, Format, InputFile, InputTable
from latentscale.storage.objects import explain_os_error
from latentscale.storage.remote import ObjectInfo, Remote, connect

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


def list_inputs(corpus: CorpusConfig, notes: list[str] | None = None) -> InputTable:
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
    for source in corpus.sources:
        if lacks_signature(source):
            raise CorpusError(
                f"the presigned address {source} was recorded without its signature",
                where=source,
                hint="Give a new one to latentscale run; for updates name the bucket itself (s3://…).",
            )
    said = notes if notes is not None else []
    return _joined([_expand(source, corpus.format, storage, said) for source in corpus.sources])


def _joined(tables: Sequence[InputTable]) -> InputTable:
    if len(tables) == 1:
        return tables[0]
    urls: set[str] = set()
    taken: set[str] = set()
    kept: list[int] = []
    paths: list[str] = []
    joined = InputTable.concat(tables)
    for place, file in enumerate(joined):
        if file.url not in urls:
            urls.add(file.url)
            paths.append(_free_path(file, taken))
            taken.add(paths[-1])
            kept.append(place)
    return joined.take(np.array(kept, dtype=np.int64)).with_paths(paths)


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


def identities(files: InputTable, how: Literal["stat", "content"], storage: StorageConfig | None) -> Iterator[str]:
    """What each input is recognised by: its path with its size and version, or with a digest of its bytes.

    The path is part of both, since the documents carry it.
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
        with open_input(file, storage, as_listed=False) as stream:
            yield f"{file.path}\0{digest_bytes(_chunks(stream))}"


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


def _expand(source: str, wanted: str, storage: StorageConfig, notes: list[str]) -> InputTable:
    if source == DEMO:
        return InputTable([_demo()])
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


def _expand_local(source: str, wanted: str, notes: list[str]) -> InputTable:
    fs = fsspec.filesystem("file")
    plain = source.removeprefix("file://").removeprefix("local://")
    root = str(Path(plain).expanduser().absolute())
    path = Path(root)
    if path.is_file():
        found = _describe_local(root, posixpath.dirname(root), wanted)
        return InputTable([_one_file(root, source, found)])
    if path.is_dir():
        files = [one for one in _walk(root) if _fits(one, wanted)]
        chosen = (_describe_local(one, root.rstrip("/"), wanted) for one in files)
        return _without_readmes(_select(source, files, chosen, wanted, what="directory"), source, notes)
    if not _WILDCARD.search(root):
        raise _missing(source, root, lambda folder: os.listdir(folder))  # noqa: PTH208 - names are what is wanted
    fixed = _fixed_folder(root)
    found = cast(dict[str, dict[str, Any]], fs.glob(root, detail=True))
    files = [one for one, detail in found.items() if detail.get("type") == "file" or _is_file(detail)]
    files = [one for one in files if "/." in root[len(fixed) :] or not _hidden(one[len(fixed) :])]
    return _select(source, files, (_describe_local(one, fixed, wanted) for one in files), wanted, what="pattern")


def _expand_remote(source: str, wanted: str, storage: StorageConfig, notes: list[str]) -> InputTable:
    remote, root = connect(source, storage)
    try:
        found = remote.info(root, name=posixpath.basename(root))
    except RequestError:
        # The refusal of a question about one object has no body that says why; that of a listing has.
        remote.check(root, write=False, purpose="corpus")
        raise
    if found is not None:
        file = _describe_remote(remote, posixpath.dirname(root), found, wanted)
        return InputTable([_one_file(root, source, file)])
    if remote.is_folder(root):
        infos = remote.find(root, relative_to=root)
        fitting = (info for name, info in infos.items() if not _hidden(name) and _fits(name, wanted))
        chosen = (_describe_remote(remote, root, info, wanted) for info in fitting)
        there = (name for name in infos if not _hidden(name))
        return _without_readmes(_select(source, there, chosen, wanted, what="directory"), source, notes)
    if not _WILDCARD.search(root):
        raise _missing(source, root, remote.beside)
    fixed = _fixed_folder(root)
    infos = remote.glob(root, relative_to=fixed)
    shown = "/." in root[len(fixed) :]
    chosen = (
        _describe_remote(remote, fixed, info, wanted) for name, info in infos.items() if shown or not _hidden(name)
    )
    there = (name for name in infos if shown or not _hidden(name))
    return _select(source, there, chosen, wanted, what="pattern")


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


def _one_file(root: str, source: str, file: InputFile | None) -> InputFile:
    if file is None:
        raise CorpusError(
            f"{posixpath.basename(root)} is of no format that its name tells",
            where=source,
            hint=f"Say how to read it (--set corpus.format=jsonl, csv, lines …), or use one of {_READ}.",
        )
    return file


def _without_readmes(files: InputTable, source: str, notes: list[str]) -> InputTable:
    tables = np.flatnonzero(~np.isin(files.formats, [FORMATS.index("lines"), FORMATS.index("files")]))
    # A README beside the tables of a data set is about them, not one of its documents.
    if not len(tables) or len(tables) == len(files):
        return files
    notes.append(
        f"{len(files) - len(tables):,} text files in {source} are not read, since there are tables beside them; "
        "name them by a pattern if they are documents"
    )
    return files.take(tables)


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
    source: str, there: Iterable[str], chosen: Iterable[InputFile | None], wanted: str, *, what: str
) -> InputTable:
    files = InputTable(file for file in chosen if file is not None)
    if not len(files):
        suffixes = Counter(posixpath.splitext(path)[1] or "(no suffix)" for path in there)
        counted = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5)) or "nothing"
        read = _READ if wanted == "auto" else f"files of format {wanted}"
        message = "matches no readable file" if what == "pattern" else "holds no readable file"
        raise CorpusError(
            f"the {what} {source} {message}: {counted} there",
            where=source,
            hint=f"Read are {read}. For files of other names give a pattern and --set corpus.format=….",
        )
    return files.by_path()


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
    # A query is no part of the name, and may be a signature.
    path = info.name.partition("?")[0] if url.startswith(("http://", "https://")) else info.name
    return InputFile(url=url, path=path, size=info.size, version=info.version, format=form[0], compression=form[1])


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
