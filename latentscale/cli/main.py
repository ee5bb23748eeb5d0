"""Entry point of the command `latentscale`: registers the commands, reports errors and sets exit codes."""

from __future__ import annotations

import _thread
import functools
import gc
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, cast

import typer
import typer.main

from latentscale.cli import deadline, explore, inspect, labels, models, place, prepare, upkeep, work
from latentscale.cli.streams import EXIT_READER_GONE, prepare_streams, reader_gone, silence_libraries
from latentscale.errors import (
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_REQUEST,
    LatentScaleError,
    explain_os_error,
)
from latentscale.redaction import without_signatures
from latentscale.version import __version__

app = typer.Typer(
    name="latentscale",
    help="Turn a text corpus of any size into an explorable, labelled map.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_broken: LatentScaleError | None = None
try:
    for module in (work, place, labels, explore, inspect, upkeep, prepare, models):
        module.register(app)
except LatentScaleError as error:
    # A stage of another package that does not fit: said by the command that is given.
    _broken = error


def _version(wanted: bool) -> None:
    if wanted:
        print(f"latentscale {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", envvar="LATENTSCALE_DEBUG", help="Show tracebacks."),
) -> None:
    """Turn a text corpus of any size into an explorable, labelled map."""
    if debug:
        os.environ["LATENTSCALE_DEBUG"] = "1"


# New containers after which garbage is looked for; 700 by default.
GARBAGE_THRESHOLD = 50_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code of docs/errors.md."""
    # A command loads tens of thousands of functions and classes, none of which is garbage: looked for as often as
    # Python does by default, it takes a twentieth of an update's CPU time.
    gc.set_threshold(GARBAGE_THRESHOLD)
    prepare_streams()
    silence_libraries()
    heed_interrupts()
    given = list(sys.argv[1:] if arguments is None else arguments)
    interrupted = ["Interrupted. Finished work is kept; to resume:", f"  latentscale {shlex.join(given)}"]
    deadline.end_in_time([without_signatures(line) for line in interrupted])
    code = 0
    try:
        if _broken is not None:
            raise _broken
        # The context carries what was typed to the commands that record it.
        code = _commands().main(args=given, standalone_mode=False, obj=["latentscale", *given]) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except LatentScaleError as error:
        code = error.exit_code
        _print_error(*f"Error: {error}".splitlines()[:6])
    except typer.Exit as error:
        code = error.exit_code
    except Exception as error:  # noqa: BLE001 - a person gets a sentence, and the traceback when asking for it
        code = _unexpected(error)
    # Versions of typer differ in what they make of an interrupt: the exception, their own, or this exit code.
    if code == EXIT_INTERRUPTED:
        _print_error(*interrupted)
    else:
        deadline.leave()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _unexpected(error)
    sys.exit(EXIT_READER_GONE if not code and reader_gone() else code)


@functools.cache
def _commands() -> Any:
    """The click command of the application, built once per process."""
    return typer.main.get_command(app)


def heed_interrupts() -> None:
    """Treat SIGTERM like Ctrl-C, and make sure that neither is lost.

    Python drops what is raised while a destructor runs, an interrupt too: it is then raised again a moment later.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # A process that runs several commands needs one.
    if not isinstance(sys.unraisablehook, _DroppedInterrupts):
        sys.unraisablehook = _DroppedInterrupts(sys.unraisablehook)


class _DroppedInterrupts:
    """An unraisable hook that raises a dropped interrupt again, and passes all else to the previous hook."""

    def __init__(self, usual: Callable[[sys.UnraisableHookArgs], Any]) -> None:
        self._usual = usual

    def __call__(self, dropped: sys.UnraisableHookArgs, /) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            _interrupt_later()
        else:
            self._usual(dropped)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Raised within the hook it would be dropped for good, and on a busy machine the main thread may be there for long.
    while frame is not None:
        if frame.f_code is _DroppedInterrupts.__call__.__code__:
            _interrupt_later()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _interrupt_later() -> None:
    # No Timer: a signal that strikes while one is started would wait for its lock, which this very thread holds.
    _thread.start_new_thread(_interrupt_main_thread, ())


def _interrupt_main_thread() -> None:
    time.sleep(0.05)
    if hasattr(signal, "pthread_kill"):
        # A real signal, which ends a call that waits.
        signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)


def _print_error(*lines: str) -> None:
    print(without_signatures("\n".join(lines)), file=sys.stderr)
    if os.environ.get("LATENTSCALE_DEBUG") and sys.exc_info()[0] is not None:
        print(without_signatures(traceback.format_exc()), file=sys.stderr, end="")


def _unexpected(error: Exception) -> int:
    # A wrong option; newer versions of typer carry click within them, older ones import it.
    if any(kind.__name__ == "ClickException" for kind in type(error).__mro__):
        cast(Any, error).show()
        return EXIT_REQUEST
    if isinstance(error, MemoryError):
        _print_error("Error: there is not enough memory", "  next: latentscale plan shows what each stage needs.")
        return EXIT_ENVIRONMENT
    if isinstance(error, OSError):
        _print_error(*f"Error: {explain_os_error(error, 'use', str(error.filename or 'a file'))}".splitlines())
        return EXIT_ENVIRONMENT
    _print_error(
        f"Error: {type(error).__name__}: {error}",
        "  This is a bug in LatentScale. Finished work is kept; the same command resumes from there.",
        "  next: run it again with --debug and report the traceback.",
    )
    return 1


if __name__ == "__main__":
    main()
