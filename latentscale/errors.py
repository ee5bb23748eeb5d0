"""The exceptions that LatentScale raises, with the exit code and the next step of each.

.. code-block:: text

    LatentScaleError
    ├── RequestError          exit 2: the request or the input is wrong, nothing was computed
    │   ├── ConfigError       a setting that does not exist or cannot be
    │   ├── CorpusError       a file, row or column of the corpus
    │   │   └── UndecidedTextError  text files: a document a line, or a file?
    │   ├── RejectLimitError  too many rows were rejected
    │   ├── WorkspaceError    the output belongs to something else, or holds no such thing
    │   │   └── MissingObjectError  an object of the workspace is not there
    │   ├── ShapeError        arrays that do not belong together
    │   └── MissingPackageError  an optional package that the request needs
    ├── EnvironmentFailure    exit 4: something around us failed (disk, store, cluster); resumable
    │   ├── StorageError      an object could not be read, written or listed
    │   ├── DamagedObjectError  an object of the workspace does not hold what it should
    │   └── ResourceError     memory, disk, processors or a cluster that cannot do it
    └── QuarantineError       exit 3: done, except for quarantined shards
"""

from __future__ import annotations

import errno
import importlib
import os
import traceback
from collections.abc import Sequence
from types import ModuleType

from latentscale.redaction import without_signatures

EXIT_DONE = 0
EXIT_REQUEST = 2
EXIT_QUARANTINE = 3
EXIT_ENVIRONMENT = 4
EXIT_INTERRUPTED = 130
MAX_SENTENCE, MAX_NAME = 1_200, 60
"""Characters of a message or hint, and of a name in one: what comes from a corpus may be of any length."""


def shortened(text: str, most: int = MAX_NAME) -> str:
    """The text, or its beginning where it is longer than ``most`` characters."""
    return text if len(text) <= most else text[: most - 2].rstrip() + " …"


def name_list(names: Sequence[str], most: int = 20) -> str:
    """The first ``most`` names, each of at most 60 characters, and how many there are in all."""
    shown = ", ".join(shortened(name) for name in names[:most])
    return shown + (f" … ({len(names):,} in all)" if len(names) > most else "")


class LatentScaleError(Exception):
    """Base of everything raised on purpose.

    Parameters
    ----------
    message : str
        What happened, with the numbers and names that matter.
    where : str, optional
        The place: a file, with its row and column where there are any.
    hint : str, optional
        What to do next, as a sentence or a command.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        message = _readable(message)
        super().__init__(message)
        self.message = message
        self.where = None if where is None else _readable(where)
        self.hint = None if hint is None else _readable(hint)

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.hint:
            lines.append(f"  next: {self.hint}")
        return "\n".join(lines)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: a person in a notebook needs what happened and what to do."""
        if os.environ.get("LATENTSCALE_DEBUG"):
            return traceback.format_exception(self)
        first, *others = str(self).split("\n")
        return [f"{type(self).__name__}: {first}", *others]

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default, and errors travel between processes.
        return (_rebuild, (type(self), self.message, self.where, self.hint))


def _readable(text: str) -> str:
    """Without keys, and of a length that a person reads, whatever names and values it repeats."""
    return shortened(without_signatures(text), MAX_SENTENCE)


def _rebuild(kind: type[LatentScaleError], message: str, where: str | None, hint: str | None) -> LatentScaleError:
    return kind(message, where=where, hint=hint)


class RequestError(LatentScaleError):
    """The request or the input is wrong; nothing was computed."""

    exit_code = EXIT_REQUEST


class ConfigError(RequestError):
    """A setting that does not exist, or has an invalid value."""


class CorpusError(RequestError):
    """A file, row or column of the corpus does not match the request."""


class UndecidedTextError(CorpusError):
    """Text files of which a document may be a line or a file; the settings must say which."""


class RejectLimitError(CorpusError):
    """More rows were rejected than ``ingest.max_reject_fraction`` allows."""


class WorkspaceError(RequestError):
    """The workspace belongs to another corpus, or lacks what was requested."""


class MissingObjectError(WorkspaceError):
    """An object of the workspace is not there, or not any more."""


class ShapeError(RequestError):
    """Arrays of shapes that do not match."""


class MissingPackageError(RequestError):
    """The request needs an optional package that is not installed."""


class EnvironmentFailure(LatentScaleError):  # noqa: N818 - `EnvironmentError` is a builtin
    """The environment failed; the same command resumes where it stopped."""

    exit_code = EXIT_ENVIRONMENT


class StorageError(EnvironmentFailure):
    """An object could not be read, written or listed."""


class DamagedObjectError(EnvironmentFailure):
    """An object of the workspace differs from what was written."""


class ResourceError(EnvironmentFailure):
    """Not enough memory, disk, processors or cluster resources for the request."""


class QuarantineError(LatentScaleError):
    """The run ended, but some shards killed their worker three times and were quarantined."""

    exit_code = EXIT_QUARANTINE


def explain_os_error(error: OSError, action: str, path: str) -> LatentScaleError:
    """Translate an ``OSError`` into an error that says what to do next."""
    if error.errno == errno.ENAMETOOLONG:
        return RequestError(f"the name {path} is longer than its disk allows", hint="Choose a shorter one.")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"cannot {action} {path}: the disk is full ({error.strerror})",
            hint="Free some space and run the same command again; it resumes where it stopped.",
        )
    if error.errno == errno.EFBIG:
        return StorageError(
            f"cannot {action} {path}: no file may be so large there ({error.strerror})",
            hint="Raise the limit (ulimit -f), or choose another disk, and run the same command again.",
        )
    wait = "When the store answers again" if "://" in path else "When the disk can be used again"
    return StorageError(
        f"cannot {action} {path}: {error.strerror or error}",
        hint=f"{wait}, run the same command; it resumes where it stopped.",
    )


def refuse_stream(path: object) -> None:
    """Refuse ``-``, by which other programs mean a standard stream, as the name of a file that is written.

    Raises
    ------
    RequestError
    """
    if str(path) == "-":
        raise RequestError(
            "- is no name of a file: this is written to a file, and not to standard output", hint="Name a file."
        )


def require(module: str, *, extra: str, used_for: str) -> ModuleType:
    """Import an optional package, or raise an error with the command that installs it.

    Raises
    ------
    MissingPackageError
        If ``module`` cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"{used_for} needs the package {module!r}, which cannot be imported ({error})",
            hint=f"pip install 'latentscale[{extra}]'",
        ) from error
