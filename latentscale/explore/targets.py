"""Output files and folders outside the workspace: checked before any work, and written atomically."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latentscale.errors import RequestError, WorkspaceError, refuse_stream
from latentscale.file_names import shown
from latentscale.readers.new_files import reading_source
from latentscale.storage.head import current_map
from latentscale.storage.objects import Store
from latentscale.storage.workspace_record import read_workspace

# Temporary subfolder of an output folder; a killed command leaves it, and the next one starts over.
_UNFINISHED = ".unfinished"


def check_new_file(to: Path) -> None:
    """Check that a regular file can be created at a path, before anything is computed.

    Raises
    ------
    RequestError
        If it is a folder, a device or a pipe, is below a file, or is ``-``.
    """
    refuse_stream(to)
    if to.is_dir():
        raise RequestError(f"{to} is a folder, and a file is to be written", hint="Name a file.")
    if to.exists() and not to.is_file():
        raise RequestError(f"{to} is no plain file, and one is to be written", hint="Name a file.")
    _check_parents(to)


def check_new_page(store: Store, folder: Path) -> None:
    """Check that a page of this workspace can be written to a folder, before anything is computed.

    Raises
    ------
    LatentScaleError
        As in :func:`check_new_folder` and :func:`check_outside_corpus`.
    """
    check_new_folder(folder)
    # A corpus of text files may include files with any name.
    check_outside_corpus(store, folder / "index.html")


def check_new_folder(folder: Path) -> None:
    """Check that a folder is new or empty and writable, before anything is computed.

    Raises
    ------
    WorkspaceError
        If it is not empty.
    RequestError
        If it is a file, is below one, is ``-``, or is not writable.
    """
    refuse_stream(folder)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, and a folder is to be written", hint="Name a new folder.")
    _check_parents(folder)
    if folder.exists() and any(path.name != _UNFINISHED for path in folder.iterdir()):
        raise WorkspaceError(f"{folder} is not empty", hint="Choose a new folder.")


def check_outside_corpus(store: Store, to: Path) -> None:
    """Check that the next update would not read an output file as documents, before anything is computed.

    Raises
    ------
    RequestError
        As in :func:`check_no_document`, for the corpus of the workspace and that of its current map.
    """
    current = current_map(store)
    check_no_document(to, read_workspace(store).corpus)
    if current is not None and current.job is not None:
        check_no_document(to, current.job["corpus"])


def check_no_document(to: Path, corpus: Mapping[str, Any]) -> None:
    """Check that an output file would not be read as documents of a corpus, or overwrite them.

    Folders with pages are recognised and skipped when a corpus is listed; exported CSV files could not be.

    Parameters
    ----------
    corpus : mapping
        Corpus settings.

    Raises
    ------
    RequestError
        If one of the sources includes, or would include, the file.
    """
    given = corpus.get("sources") or ()
    sources = [given] if isinstance(given, str) else [str(source) for source in given]
    wanted = str(corpus.get("format", "auto"))
    source = reading_source(to, sources, wanted, follow_links=corpus.get("follow_links"))
    if source is not None:
        raise RequestError(
            f"{to} would be read as documents by the next update: the corpus is {shown(source)}",
            hint=f"Write it elsewhere, or to a folder that no corpus includes: {to.parent / '_exports' / to.name}",
        )


@contextmanager
def new_folder(folder: Path) -> Generator[Path]:
    """A temporary folder within ``folder``, whose content is moved to ``folder`` when the block succeeds.

    A command that is killed or fails leaves no seemingly complete page, and repeating it starts over.

    Raises
    ------
    LatentScaleError
        As in :func:`check_new_folder`.
    """
    check_new_folder(folder)
    unfinished = folder / _UNFINISHED
    created = not folder.exists()
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        # index.html is moved last.
        for path in sorted(unfinished.iterdir(), key=lambda path: path.name == "index.html"):
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if created and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _check_parents(to: Path) -> None:
    """Check that no parent is a file, and that the closest existing parent is writable."""
    nearest = to.absolute() if to.is_dir() else to.absolute().parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise RequestError(f"{to} lies below {nearest}, which is a file", hint="Name another place.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RequestError(f"{to} cannot be written: {nearest} is read-only", hint="Name another place.")
