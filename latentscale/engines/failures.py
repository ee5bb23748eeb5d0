"""Transport of workers' errors to the driver: serialised as JSON there, raised here as the same type."""

from __future__ import annotations

import builtins
import json
import traceback
from typing import Any, cast

from latentscale import errors
from latentscale.errors import EnvironmentFailure, LatentScaleError
from latentscale.redaction import without_signatures

# Characters of a traceback: enough for our call stacks, and small enough for a row of Ray Data.
TRACEBACK_CHARACTERS = 20_000


class WorkerTraceback(Exception):  # noqa: N818 - a traceback, raised only as the cause of an error
    """The traceback of a worker, shown only with ``--debug``."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class WorkerError(Exception):
    """A worker's error whose type cannot be rebuilt in the driver."""


def describe_failure(error: BaseException) -> str:
    """Serialise an error as JSON: a ``LatentScaleError`` with location and hint, any other with its traceback."""
    if isinstance(error, LatentScaleError):
        facts: dict[str, Any] = {"ours": type(error).__name__, "message": error.message}
        return json.dumps(facts | {"where": error.where, "hint": error.hint})
    stack = without_signatures("".join(traceback.format_exception(error)))[-TRACEBACK_CHARACTERS:]
    plain = all(one is None or isinstance(one, str | int | float) for one in error.args)
    arguments = list(error.args) if plain else [str(error)]
    if isinstance(error, OSError) and error.errno is not None:
        arguments = [error.errno, error.strerror or "", None if error.filename is None else str(error.filename)]
    return json.dumps({"kind": _name(error), "arguments": arguments, "traceback": stack})


def raise_failure(failure: str) -> None:
    """Raise the error that ``describe_failure`` serialised.

    Raises
    ------
    LatentScaleError
        Of the original class.
    Exception
        A builtin exception as itself, any other as ``WorkerError``; its cause is the worker's traceback.
    """
    facts = json.loads(failure)
    if "ours" in facts:
        kind = getattr(errors, facts["ours"], EnvironmentFailure)
        raise cast(type[LatentScaleError], kind)(facts["message"], where=facts["where"], hint=facts["hint"])
    raise _rebuild(facts["kind"], facts["arguments"]) from WorkerTraceback(facts["traceback"])


def _name(error: BaseException) -> str:
    """Return the nearest builtin base class that the command line handles, else the class name."""
    for kind in (MemoryError, OSError):
        if isinstance(error, kind) and type(error).__module__ != "builtins":
            return kind.__name__
    return type(error).__name__


def _rebuild(name: str, arguments: list[Any]) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(*arguments)
        except TypeError:  # such as UnicodeDecodeError, which requires the bytes
            pass
    return WorkerError(f"{name}: {', '.join(map(str, arguments))}")
