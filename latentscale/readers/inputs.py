"""List the files of a corpus, in a stable order."""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pyarrow.compute as pc

from latentscale.config import CorpusConfig, StorageConfig, protocol_of
from latentscale.digest import digest_bytes
from latentscale.errors import CorpusError, EnvironmentFailure, LatentScaleError, RequestError
from latentscale.file_names import escaped, shown
from latentscale.readers.archives import list_members
from latentscale.readers.formats import GROUPS, READ, Archive, chosen_format, fits, is_hidden
from latentscale.readers.input_table import FORMATS, Compression, Format, InputFile, InputTable
from latentscale.readers.lance import SUFFIX as LANCE
from latentscale.readers.lance import is_lance_table, lance_input, refuse_remote_table
from latentscale.readers.local_files import (
    WILDCARD,
    WORKSPACE_RECORD,
    Walk,
    expanded,
    fixed_folder,
    is_record,
    is_workspace,
    refuse_other_than_file,
)
from latentscale.readers.opening import as_corpus_errors, check_unchanged, chunks, identities, open_address, open_input
from latentscale.readers.own_pages import pages_of
from latentscale.readers.partitions import partitions_of
from latentscale.readers.saved_datasets import STATE, check_complete
from latentscale.readers.unread import LINK_FOLDER, LINK_OUT, PAGE, WORKSPACE, Unread
from latentscale.redaction import lacks_signature
from latentscale.storage.objects import explain_os_error
from latentscale.storage.remote.connect import connect
from latentscale.storage.remote.protocol import ObjectInfo, Remote

__all__ = ["absolute_source", "check_unchanged", "identities", "list_inputs", "open_input"]

ASIDE = "beside other files"
DEMO = "demo"
HASHED_FILES, HASHED_BYTES = 10_000, 1 << 30
"""Up to so many local files, and bytes of them, ``ingest.fingerprint: auto`` goes by content: BLAKE2b reads about
0.6 GB a second of one processor."""

_Form = tuple[Format | Archive, Compression]


def list_inputs(corpus: CorpusConfig, notes: list[str] | None = None, unread: Unread | None = None) -> InputTable:
    """List the files of a corpus, source by source and by path within a source; a file named twice counts once.

    Parameters
    ----------
    corpus : CorpusConfig
    notes : list of str, optional
        Receives a sentence for each choice made on behalf of the user.
    unread : Unread, optional
        Receives the files of the sources that are not read.

    Of a directory all readable files below it belong to the corpus, but .json, .xlsx and .zip only where it holds no
    parquet, CSV, JSON lines or Arrow, and text files (.txt, .md …) only where it holds none of these; a pattern or
    ``corpus.format`` takes what it says. Workspaces of LatentScale are never part of a corpus.

    Raises
    ------
    CorpusError
        If a source is missing, has an unsupported format, contains no readable file or an unreadable folder.
    """
    storage = corpus.storage or StorageConfig()
    for source in corpus.sources:
        refuse_remote_table(source)
        if lacks_signature(source):
            raise CorpusError(
                f"the presigned address {source} was recorded without its signature",
                where=source,
                hint="Give a new one to latentscale run; for updates name the bucket itself (s3://…).",
            )
    left = Unread()
    files = _merge_sources([_expand(source, corpus, storage, left) for source in corpus.sources])
    if notes is not None and len(left):
        notes.append(f"not read: {left}{_format_hint(left)}")
    if unread is not None:
        unread.update(left)
    return files


def _format_hint(left: Unread) -> str:
    if LINK_OUT in left.kinds or LINK_FOLDER in left.kinds:
        return "; --set corpus.follow_links=true follows links"
    return "; name files by a pattern if they are documents" if any(ASIDE in kind for kind in left.kinds) else ""


def _merge_sources(tables: Sequence[InputTable]) -> InputTable:
    if len(tables) == 1:
        return tables[0]
    urls: set[str] = set()
    used_paths: set[str] = set()
    kept: list[int] = []
    paths: list[str] = []
    joined = InputTable.concat(tables)
    for index, file in enumerate(joined):
        address = f"{file.url}\0{file.member}" if file.member else file.url
        if address not in urls:
            urls.add(address)
            paths.append(_unique_path(file, used_paths))
            used_paths.add(paths[-1])
            kept.append(index)
    return joined.take(np.array(kept, dtype=np.int64)).with_paths(paths)


def _expand(source: str, corpus: CorpusConfig, storage: StorageConfig, unread: Unread) -> InputTable:
    if source == DEMO:
        return InputTable([_demo()])
    try:
        if protocol_of(source):
            with as_corpus_errors():
                return _expand_remote(source, corpus, storage, unread)
        return _expand_local(source, corpus, unread)
    except LatentScaleError:
        raise
    except PermissionError as error:
        raise CorpusError(
            f"{shown(source)} may not be read: permission denied",
            where=escaped(str(error.filename or source)),
            hint="Change its permissions.",
        ) from error
    except OSError as error:
        raise explain_os_error(error, "list", escaped(str(error.filename or source))) from error
    except Exception as error:  # fsspec's back ends raise whatever their client library raises
        raise EnvironmentFailure(
            f"cannot list {source}: {type(error).__name__}: {error}",
            hint="Check the address and the credentials in the environment, then run the same command again.",
        ) from error


def _expand_local(source: str, corpus: CorpusConfig, unread: Unread) -> InputTable:
    wanted = corpus.format
    root = expanded(source)
    refuse_other_than_file(root, source)
    path = Path(root)
    if is_lance_table(root):
        return InputTable([lance_input(root, source)])
    if path.is_file():
        base = _above_partitions(posixpath.dirname(root))
        form = _one_format(root, source, wanted)
        one = _local_file(base, root[len(base) :].lstrip("/"), path.stat(), form)
        return _select_files(source, [one], corpus, unread, what="file")
    if path.is_dir():
        if is_workspace(root):
            raise CorpusError(
                f"{shown(source)} is a workspace of LatentScale, and no corpus",
                where=escaped(root),
                hint="latentscale export WORKSPACE FILE.parquet --text writes its documents with their texts.",
            )
        base = _above_partitions(root)
        walk = Walk(root, unread, follow=corpus.follow_links)
        found = _local_files(base, root, walk, wanted, unread)
        return _select_files(source, found, corpus, unread, what="directory")
    if not WILDCARD.search(root):
        raise _missing(source, root, lambda folder: os.listdir(folder))  # noqa: PTH208 - only names are needed
    fixed = fixed_folder(root)
    if not Path(fixed).is_dir():
        raise _missing(source, fixed, lambda folder: os.listdir(folder))  # noqa: PTH208
    pattern = root[len(fixed) :].lstrip("/")
    try:
        walk = Walk(fixed, unread, follow=corpus.follow_links, pattern=pattern)
    except (ValueError, re.error) as error:
        raise _no_pattern(source, error) from error
    found = _local_files(_above_partitions(fixed), fixed, walk, wanted, unread, pattern=True)
    return _select_files(source, found, corpus, unread, what="pattern")


def _local_files(
    base: str, root: str, walk: Walk, wanted: str, unread: Unread, *, pattern: bool = False
) -> Iterator[InputFile | _Archive]:
    """Yield the files of a walk with a known format; their paths are relative to ``base``."""
    between = root[len(base) :].lstrip("/")
    for name, status in walk.files():
        form = chosen_format(name, wanted) if pattern or fits(name, wanted) else None
        if form is None:
            unread.add_file(name)
            continue
        path = f"{between}/{name}" if between else name
        yield _local_file(base, path, status, form)


def _local_file(base: str, path: str, status: os.stat_result, form: _Form) -> InputFile | _Archive:
    url = escaped(f"{base.rstrip('/')}/{path}")
    if form[0] == "zip":
        return _Archive(url, escaped(path))
    return InputFile(
        url=url,
        path=escaped(path),
        size=status.st_size,
        version=str(status.st_mtime_ns),
        format=form[0],
        compression=form[1],
    )


def _above_partitions(folder: str) -> str:
    """Return the folder above trailing ``key=value`` folders, which are columns and must be part of the path."""
    while "=" in posixpath.basename(folder) and partitions_of(f"{posixpath.basename(folder)}/x"):
        folder = posixpath.dirname(folder)
    return folder


def _expand_remote(source: str, corpus: CorpusConfig, storage: StorageConfig, unread: Unread) -> InputTable:
    wanted = corpus.format
    remote, root = connect(source, storage)
    try:
        found = remote.info(root, name=posixpath.basename(root))
    except RequestError:
        # A refused HEAD request has no error body, unlike a refused listing.
        remote.check(root, write=False, purpose="corpus")
        raise
    if found is not None:
        form = _one_format(remote.address(root), source, wanted)
        folder = posixpath.dirname(root)
        base = _above_partitions(folder)
        one = _remote_file(remote, folder, folder[len(base) :].lstrip("/"), found, form)
        return _select_files(source, [one], corpus, unread, what="file")
    if remote.is_folder(root):
        infos = remote.find(root, relative_to=root)
        files = _remote_files(remote, root, infos, wanted, unread)
        return _select_files(source, files, corpus, unread, what="directory")
    if not WILDCARD.search(root):
        raise _missing(source, root, remote.list_dir)
    fixed = fixed_folder(root)
    try:
        infos = remote.glob(root, relative_to=fixed)
    except (ValueError, re.error) as error:
        raise _no_pattern(source, error) from error
    files = _remote_files(remote, fixed, infos, wanted, unread, pattern=root[len(fixed) :])
    return _select_files(source, files, corpus, unread, what="pattern")


def _remote_files(
    remote: Remote,
    root: str,
    infos: Mapping[str, ObjectInfo],
    wanted: str,
    unread: Unread,
    *,
    pattern: str | None = None,
) -> Iterator[InputFile | _Archive]:
    """Yield the objects below ``root`` with a known format."""
    base = _above_partitions(root)
    between = root[len(base) :].lstrip("/")
    workspaces = _remote_workspaces(remote, root, infos, listed=pattern is None)
    for folder in workspaces:
        unread.add(WORKSPACE, folder)
    others = [name for name in infos if not (workspaces and name.startswith(workspaces))]
    pages = pages_of(others, lambda name: remote.read(f"{root}/{name}" if root else name))
    for folder in pages:
        unread.add(PAGE, folder)
    own = workspaces + pages
    for name, info in infos.items():
        if own and name.startswith(own):
            continue
        if _hidden(name) and (pattern is None or "/." not in f"/{pattern}"):
            continue
        form = chosen_format(name, wanted) if pattern is not None or fits(name, wanted) else None
        if form is None:
            unread.add_file(name)
        else:
            yield _remote_file(remote, root, between, info, form)


def _remote_file(remote: Remote, root: str, between: str, info: ObjectInfo, form: _Form) -> InputFile | _Archive:
    url = remote.address(f"{root}/{info.name}" if root else info.name)
    # The query is not part of the name, and may contain a signature.
    path = info.name.partition("?")[0] if url.startswith(("http://", "https://")) else info.name
    path = f"{between}/{path}" if between else path
    if form[0] == "zip":
        return _Archive(url, path)
    return InputFile(url=url, path=path, size=info.size, version=info.version, format=form[0], compression=form[1])


def _hidden(relative: str) -> bool:
    return any(is_hidden(part) for part in relative.split("/"))


def _remote_workspaces(remote: Remote, root: str, infos: Mapping[str, ObjectInfo], *, listed: bool) -> tuple[str, ...]:
    """Return the folders below ``root`` that are workspaces, with trailing slashes."""
    if listed:
        records = [name for name in infos if posixpath.basename(name) == WORKSPACE_RECORD]
    else:
        above = {parent for name in infos for parent in _parents(name)}
        records = [f"{parent}/{WORKSPACE_RECORD}" for parent in sorted(above)]
    found: list[str] = []
    for record in records:
        path = f"{root}/{record}" if root else record
        folder = posixpath.dirname(record)
        if not listed and remote.info(path, name=record) is None:
            continue
        if not is_record(remote.read(path)):
            continue
        if not folder:
            raise CorpusError(
                f"{remote.address(root)} is a workspace of LatentScale, and no corpus",
                where=remote.address(root),
                hint="latentscale export WORKSPACE FILE.parquet --text writes its documents with their texts.",
            )
        found.append(f"{folder}/")
    return tuple(found)


def _parents(name: str) -> Iterator[str]:
    while "/" in name:
        name = posixpath.dirname(name)
        yield name


def _no_pattern(source: str, error: Exception) -> CorpusError:
    return CorpusError(
        f"{shown(source)} is not a pattern that can be read: {error}",
        where=source,
        hint="* matches within a name, ** any folders and is a part of its own: 'corpus/**/*.csv'.",
    )


def _demo() -> InputFile:
    from latentscale.demo import corpus_path

    path = Path(corpus_path())
    # Identified by content, so that it has the same identity in every installation.
    with path.open("rb") as stream:
        version = digest_bytes(chunks(stream))
    return InputFile(
        url=str(path),
        path=path.name,
        size=path.stat().st_size,
        version=version,
        format="parquet",
        compression="none",
    )


def _one_format(root: str, source: str, wanted: str) -> _Form:
    form = chosen_format(root, wanted)
    if form is None:
        raise CorpusError(
            f"{shown(posixpath.basename(root))} is of no format that its name tells",
            where=escaped(source),
            hint=f"Set the format (--format jsonl, csv, lines …), or use one of {READ}.",
        )
    return form


@dataclass(frozen=True, slots=True)
class _Archive:
    """A .zip file, whose members are inputs."""

    url: str
    path: str


def _select_files(
    source: str,
    found: Iterable[InputFile | _Archive],
    corpus: CorpusConfig,
    unread: Unread,
    *,
    what: Literal["directory", "pattern", "file"],
) -> InputTable:
    """Select the files of a source that belong together, sorted by path, including members of archives."""
    archives: list[_Archive] = []

    def plain() -> Iterator[InputFile]:
        for one in found:
            if isinstance(one, _Archive):
                archives.append(one)
            else:
                yield one

    files = InputTable(plain())
    if what == "directory" and corpus.format == "auto":
        files, archives = _first_group(files, archives, corpus, unread)
    if archives:
        members = [_members(one, corpus, unread) for one in archives]
        files = InputTable.concat([files, *members])
    if not len(files):
        raise _nothing_to_read(source, corpus.format, what, unread)
    files = files.by_path()
    same = pc.call_function("equal", [files.paths.slice(1), files.paths.slice(0, len(files) - 1)])
    for position in np.flatnonzero(same.to_numpy(zero_copy_only=False)).tolist():
        raise CorpusError(
            f"two files of {shown(source)} have one name once it is text: {shown(files[position].path)}",
            where=escaped(source),
            hint="Rename one of them.",
        )
    return files


def _members(archive: _Archive, corpus: CorpusConfig, unread: Unread) -> InputTable:
    listed = list_members(archive.url, archive.path, corpus, lambda: open_address(archive.url, corpus.storage), unread)
    files = InputTable(listed)
    return _first_group(files, [], corpus, unread)[0] if corpus.format == "auto" else files


def _first_group(
    files: InputTable, archives: list[_Archive], corpus: CorpusConfig, unread: Unread
) -> tuple[InputTable, list[_Archive]]:
    """Select the first group of formats: a README next to tables describes them and is not a document."""
    kinds = {FORMATS[code] for code in np.unique(files.formats).tolist()} | ({"zip"} if archives else set[str]())
    group = next((group for group in GROUPS if group & kinds), frozenset[str]())
    if kinds <= group:
        return files, archives
    kept = np.isin(files.formats, [FORMATS.index(cast(Format, name)) for name in group if name != "zip"])
    states: list[InputFile] = []
    for position in np.flatnonzero(~kept).tolist():
        path = str(files.paths[position])
        unread.add_file(path, ASIDE)
        if posixpath.basename(path) == STATE:
            states.append(files[position])
    if "zip" not in group:
        for archive in archives:
            unread.add_file(archive.path, ASIDE)
        archives = []
    files = files.take(np.flatnonzero(kept))
    check_complete(states, files, corpus)
    return files, archives


def _nothing_to_read(source: str, wanted: str, what: str, unread: Unread) -> CorpusError:
    read = READ if wanted == "auto" else f"files of format {wanted}"
    verb = "matches" if what == "pattern" else "holds"
    what = "archive" if what == "file" else what
    hint = f"What is read: {read}. For files of other names give a pattern and --format."
    if LANCE in unread.kinds:
        hint = "A data base of LanceDB holds tables: name one of them, FOLDER/NAME.lance."
    if LINK_OUT in unread.kinds or LINK_FOLDER in unread.kinds:
        hint = "To read what the links lead to: --set corpus.follow_links=true."
    return CorpusError(
        f"the {what} {shown(source)} {verb} no readable file: {unread if len(unread) else 'nothing'} there",
        where=escaped(source),
        hint=hint,
    )


def _unique_path(file: InputFile, used_paths: Iterable[str]) -> str:
    """Prefix a path that an earlier source has used by its parent folders."""
    parts = re.sub(r"^\w+://", "", file.url).strip("/").split("/")
    path, length = file.path, file.path.count("/") + 1
    while path in used_paths and length < len(parts):
        length += 1
        path = "/".join(parts[-length:])
    return path if path not in used_paths else file.url


def _missing(source: str, root: str, list_names: Callable[[str], Iterable[str]]) -> CorpusError:
    if source == "-":
        return CorpusError(
            "there is no file -, and standard input is no corpus, which is read more than once",
            hint="Write it to a file, and give that.",
        )
    folder, name = posixpath.split(root.rstrip("/"))
    try:
        names = sorted(list_names(folder))
    except (OSError, ValueError, LatentScaleError):
        hint = f"The folder {shown(folder)} does not exist either; check the path."
        return CorpusError(f"there is no {shown(source)}", where=escaped(source), hint=hint)
    near = [shown(one) for one in difflib.get_close_matches(name, names, n=3, cutoff=0.5)]
    there = ", ".join(map(shown, names[:6])) + (" …" if len(names) > 6 else "")
    hint = f"Did you mean {' or '.join(near)}?" if near else f"In {shown(folder)} there is: {there or 'nothing'}."
    return CorpusError(f"there is no {shown(source)}", where=escaped(source), hint=hint)


def absolute_source(source: str) -> str:
    """Return a source as stored in the workspace's record: an absolute local path, or an unchanged URL."""
    return source if source == DEMO or "://" in source else escaped(expanded(source))
