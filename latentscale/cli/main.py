"""The command `latentscale`: its commands, its errors and its exit codes."""

from __future__ import annotations

import _thread
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any, cast

import typer

from latentscale import __version__
from latentscale.cli import explore, inspect, prepare, upkeep, work
from latentscale.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_REQUEST, LatentScaleError
from latentscale.redaction import without_signatures

app = typer.Typer(
    name="latentscale",
    help="Turn a text corpus of any size into an explorable, labelled map.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (work, explore, inspect, upkeep, prepare):
    module.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"latentscale {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Say the version."),
    debug: bool = typer.Option(False, "--debug", envvar="LATENTSCALE_DEBUG", help="Show tracebacks."),
) -> None:
    """Turn a text corpus of any size into an explorable, labelled map."""
    if debug:
        os.environ["LATENTSCALE_DEBUG"] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code of docs/errors.md."""
    heed_interrupts()
    given = list(sys.argv[1:] if arguments is None else arguments)
    code = 0
    try:
        code = app(args=given, standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except LatentScaleError as error:
        code = error.exit_code
        _say(*f"Error: {error}".splitlines()[:6])
    except typer.Exit as error:
        code = error.exit_code
    except Exception as error:  # noqa: BLE001 - a person gets a sentence, and the traceback when asking for it
        code = _unexpected(error)
    # Versions of typer differ in what they make of an interrupt: the exception, their own, or this exit code.
    if code == EXIT_INTERRUPTED:
        _say("Interrupted. What was done is kept; to go on:", f"  latentscale {shlex.join(given)}")
    sys.stdout.flush()
    sys.exit(code)


def heed_interrupts() -> None:
    """Let SIGTERM interrupt as Ctrl-C does, and let neither be lost.

    Python drops what is raised while a destructor runs, an interrupt too: it is then raised again a moment later.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    usual = sys.unraisablehook

    def again(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            usual(dropped)
            return
        timer = threading.Timer(0.05, _interrupt_main_thread)
        timer.daemon = True
        timer.start()

    sys.unraisablehook = again


def _interrupt_main_thread() -> None:
    if hasattr(signal, "pthread_kill"):
        # A real signal, which ends a call that waits.
        signal.pthread_kill(cast(int, threading.main_thread().ident), signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(*lines: str) -> None:
    print(without_signatures("\n".join(lines)), file=sys.stderr)
    if os.environ.get("LATENTSCALE_DEBUG") and sys.exc_info()[0] is not None:
        print(without_signatures(traceback.format_exc()), file=sys.stderr, end="")


def _unexpected(error: Exception) -> int:
    # A wrong option; newer versions of typer carry click within them, older ones import it.
    if any(kind.__name__ == "ClickException" for kind in type(error).__mro__):
        cast(Any, error).show()
        return EXIT_REQUEST
    if isinstance(error, MemoryError):
        _say("Error: there is not enough memory", "  next: latentscale plan shows what each stage needs.")
        return EXIT_ENVIRONMENT
    if isinstance(error, OSError):
        from latentscale.storage.objects import explain_os_error

        _say(*f"Error: {explain_os_error(error, 'use', str(error.filename or 'a file'))}".splitlines())
        return EXIT_ENVIRONMENT
    _say(
        f"Error: {type(error).__name__}: {error}",
        "  This is a fault of LatentScale. What was done is kept; the same command goes on from there.",
        "  next: run it again with --debug and report the traceback.",
    )
    return 1


if __name__ == "__main__":
    main()
