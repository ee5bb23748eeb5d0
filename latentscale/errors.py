"""The exceptions that LatentScale raises, with the exit code and the next step of each.

.. code-block:: text

    LatentScaleError
    ├── RequestError          exit 2: the request or the input is wrong, nothing was computed
    │   ├── ConfigError       a setting that does not exist or cannot be
    │   ├── CorpusError       a file, row or column of the corpus
    │   ├── RejectLimitError  too many rows had to be set aside
    │   ├── WorkspaceError    the output belongs to something else, or holds no such thing
    │   ├── ShapeError        arrays that do not belong together
    │   └── MissingPackageError  an optional package that the request needs
    ├── EnvironmentFailure    exit 4: something around us failed (disk, store, cluster); resumable
    │   ├── StorageError      an object could not be read, written or listed
    │   ├── DamagedObjectError  an object of the workspace does not hold what it should
    │   └── ResourceError     memory, disk, processors or a cluster that cannot do it
    └── QuarantineError       exit 3: done, except for quarantined shards
"""

from __future__ import annotations

import importlib
from types import ModuleType

from latentscale.redaction import without_signatures

EXIT_DONE = 0
EXIT_REQUEST = 2
EXIT_QUARANTINE = 3
EXIT_ENVIRONMENT = 4
EXIT_INTERRUPTED = 130


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
        message = without_signatures(message)
        super().__init__(message)
        self.message = message
        self.where = None if where is None else without_signatures(where)
        self.hint = None if hint is None else without_signatures(hint)

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.hint:
            lines.append(f"  next: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments are lost by the default, and errors travel between processes.
        return (_rebuild, (type(self), self.message, self.where, self.hint))


def _rebuild(kind: type[LatentScaleError], message: str, where: str | None, hint: str | None) -> LatentScaleError:
    return kind(message, where=where, hint=hint)


class RequestError(LatentScaleError):
    """The request or the input is wrong; nothing was computed."""

    exit_code = EXIT_REQUEST


class ConfigError(RequestError):
    """A setting that does not exist or whose value cannot be."""


class CorpusError(RequestError):
    """A file, row or column of the corpus is not what the request says."""


class RejectLimitError(CorpusError):
    """More rows had to be set aside than ``ingest.max_reject_fraction`` allows."""


class WorkspaceError(RequestError):
    """The workspace belongs to another corpus, or does not hold what was asked for."""


class ShapeError(RequestError):
    """Arrays that do not belong together."""


class MissingPackageError(RequestError):
    """The request needs an optional package that is not installed."""


class EnvironmentFailure(LatentScaleError):  # noqa: N818 - `EnvironmentError` is a builtin
    """Something around us failed; the same command goes on where it stopped."""

    exit_code = EXIT_ENVIRONMENT


class StorageError(EnvironmentFailure):
    """An object could not be read, written or listed."""


class DamagedObjectError(EnvironmentFailure):
    """An object of the workspace does not hold what it should."""


class ResourceError(EnvironmentFailure):
    """Memory, disk, processors or a cluster that cannot do what was asked."""


class QuarantineError(LatentScaleError):
    """The run ended, but some shards killed their worker three times and were set aside."""

    exit_code = EXIT_QUARANTINE


def require(module: str, *, extra: str, used_for: str) -> ModuleType:
    """Import an optional package, or say in one sentence how to get it.

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
