"""Transport of workers' errors to the driver: serialised as JSON there, raised here as the same type."""

from __future__ import annotations

import builtins
import json
import traceback
from typing import Any, cast

from latentscale import errors
from latentscale.errors import EnvironmentFailure, LatentScaleError
from latentscale.redaction import without_signatures

# Long enough for any stack of ours, and short enough for a row of Ray Data.
TRACEBACK_CHARACTERS = 20_000


class WorkerTraceback(Exception):  # noqa: N818 - it is the cause of an error, as the traceback that it holds
    """The traceback of a worker, which only ``--debug`` shows."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class WorkerError(Exception):
    """An error of a worker whose type is known only there."""


def describe_failure(error: BaseException) -> str:
    """Write an error as JSON: ours with its place and hint, any other with its traceback."""
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
    """Raise what ``describe_failure`` wrote.

    Raises
    ------
    LatentScaleError
        Of the kind it was.
    Exception
        One of Python's own as it was, another as ``WorkerError``; the worker's traceback is its cause.
    """
    facts = json.loads(failure)
    if "ours" in facts:
        kind = getattr(errors, facts["ours"], EnvironmentFailure)
        raise cast(type[LatentScaleError], kind)(facts["message"], where=facts["where"], hint=facts["hint"])
    raise _rebuild(facts["kind"], facts["arguments"]) from WorkerTraceback(facts["traceback"])


def _name(error: BaseException) -> str:
    """The nearest kind that is Python's own where it tells the command line what to say, else its own name."""
    for kind in (MemoryError, OSError):
        if isinstance(error, kind) and type(error).__module__ != "builtins":
            return kind.__name__
    return type(error).__name__


def _rebuild(name: str, arguments: list[Any]) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(*arguments)
        except TypeError:  # such as UnicodeDecodeError, which wants the bytes
            pass
    return WorkerError(f"{name}: {', '.join(map(str, arguments))}")
