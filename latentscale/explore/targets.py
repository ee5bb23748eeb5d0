"""Files and folders that a command writes beside a workspace: checked before any work, and complete or absent."""

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

# What a killed command leaves in the folder that it was to fill; the next one begins anew.
_UNFINISHED = ".unfinished"


def check_new_file(to: Path) -> None:
    """Refuse, before anything is computed, a name under which no file can be.

    Raises
    ------
    RequestError
        If it is a folder, a device or a pipe, lies below a file, or is ``-``.
    """
    refuse_stream(to)
    if to.is_dir():
        raise RequestError(f"{to} is a folder, and a file is to be written", hint="Name a file.")
    if to.exists() and not to.is_file():
        raise RequestError(f"{to} is no plain file, and one is to be written", hint="Name a file.")
    _check_parents(to)


def check_new_page(store: Store, folder: Path) -> None:
    """Find out before anything is computed whether a page of this workspace can be written to a folder.

    Raises
    ------
    LatentScaleError
        As :func:`check_new_folder` and :func:`check_outside_corpus` do.
    """
    check_new_folder(folder)
    # A corpus of plain text takes files of any name.
    check_outside_corpus(store, folder / "index.html")


def check_new_folder(folder: Path) -> None:
    """Find out before anything is computed whether a folder is new.

    Raises
    ------
    WorkspaceError
        If there is anything in it.
    RequestError
        If it is a file, lies below one, is ``-``, or cannot be written to.
    """
    refuse_stream(folder)
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file, and a folder is to be written", hint="Name a new folder.")
    _check_parents(folder)
    if folder.exists() and any(path.name != _UNFINISHED for path in folder.iterdir()):
        raise WorkspaceError(f"{folder} is not empty", hint="Choose a new folder.")


def check_outside_corpus(store: Store, to: Path) -> None:
    """Refuse, before anything is computed, a file of this workspace that its next update would read as documents.

    Raises
    ------
    RequestError
        As :func:`check_no_document` does, for the corpus of the workspace and that of its current map.
    """
    current = current_map(store)
    check_no_document(to, read_workspace(store).corpus)
    if current is not None and current.job is not None:
        check_no_document(to, current.job["corpus"])


def check_no_document(to: Path, corpus: Mapping[str, Any]) -> None:
    """Refuse a file that would be read as documents of a corpus, or overwrite them.

    Folders with pages are known again when a corpus is listed; a CSV file is like any other.

    Parameters
    ----------
    corpus : mapping
        The settings of a corpus.

    Raises
    ------
    RequestError
        If one of its sources has, or would have, the file.
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
    """A folder within ``folder`` to write to, whose content becomes that of ``folder`` when the block ends.

    A command that is killed, or fails, leaves no page that seems whole, and the same command begins anew.

    Raises
    ------
    LatentScaleError
        As :func:`check_new_folder` does.
    """
    check_new_folder(folder)
    unfinished = folder / _UNFINISHED
    created = not folder.exists()
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        # The page itself comes last.
        for path in sorted(unfinished.iterdir(), key=lambda path: path.name == "index.html"):
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if created and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _check_parents(to: Path) -> None:
    """Refuse what lies below a file, or below a folder that may not be written to."""
    nearest = to.absolute() if to.is_dir() else to.absolute().parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise RequestError(f"{to} lies below {nearest}, which is a file", hint="Name another place.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RequestError(f"{to} cannot be written: {nearest} is read-only", hint="Name another place.")
