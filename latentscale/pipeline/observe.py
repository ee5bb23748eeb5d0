"""Observation of a run: stages, progress with rates and time left, events, notes, and how it ended."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, cast, get_args

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from latentscale.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_QUARANTINE, ConfigError, LatentScaleError
from latentscale.pipeline.notebook import INTERVAL, NotebookDisplay, in_notebook
from latentscale.pipeline.prometheus import check_metrics_file, write_metrics_file
from latentscale.readers.frames import name_data
from latentscale.redaction import without_signatures
from latentscale.storage.provenance import now
from latentscale.version import __version__

Mode = Literal["auto", "terminal", "notebook", "plain", "json", "quiet"]
JSON_INTERVAL = 5.0
# Seconds between progress lines in a log.
PLAIN_INTERVAL = 30.0
# Consecutive stages that take less than this many seconds in total share a line.
PLAIN_LINE = 5.0


def check_mode(mode: Any) -> Mode:
    """Return ``mode`` if it is a valid progress mode.

    Raises
    ------
    ConfigError
        If it is none.
    """
    if isinstance(mode, str) and mode in get_args(Mode):
        return cast(Mode, mode)
    raise ConfigError(f"progress is {mode!r}, not one of {', '.join(get_args(Mode))}", hint="`quiet` shows nothing.")


class _Rate(ProgressColumn):
    """Rows or steps a second, and time left."""

    def render(self, task: Task) -> Text:
        if not task.speed or task.finished:
            return Text("")
        left = "" if task.time_remaining is None else f" · {int(task.time_remaining)} s left"
        return Text(f"{task.speed:,.0f} {task.fields['unit']}/s{left}", style="dim")


class StageProgress:
    """Progress of one stage.

    Parameters
    ----------
    observer : Observer
    stage : str
    total : int or None
        Rows or steps, where their number is known.
    unit : str
        What is counted.
    """

    def __init__(self, observer: Observer, stage: str, total: int | None, unit: str) -> None:
        self.stage = stage
        self.total = total
        self.done = 0
        self._unit = unit
        self._observer = observer
        self._started = time.monotonic()
        self._reported = self._started
        self._bar = observer.progress.add_task(stage, total=total, unit=unit) if observer.progress else None

    def advance(self, rows: int) -> None:
        """Add finished rows to the progress."""
        self._show(self.done + rows)

    def reach(self, done: int, total: int) -> None:
        """Set the progress of a stage that counts steps, not rows."""
        self.total = total
        self._show(done)

    def _show(self, done: int) -> None:
        self.done = done
        if self._bar is not None and self._observer.progress:
            self._observer.progress.update(self._bar, completed=done, total=self.total)
        elif time.monotonic() - self._reported >= self._observer.interval:
            self._reported = time.monotonic()
            rate = self.done / max(self._reported - self._started, 1e-9)
            left = None if self.total is None or not rate else round((self.total - self.done) / rate, 1)
            self._observer.line(
                "progress",
                stage=self.stage,
                done=self.done,
                total=self.total,
                unit=self._unit,
                per_second=round(rate, 1),
                seconds_left=left,
            )

    def finish(self) -> None:
        """Complete the progress bar."""
        if self._bar is not None and self._observer.progress:
            self._observer.progress.update(self._bar, total=max(self.done, 1), completed=max(self.done, 1))


class _Nowhere(io.TextIOBase):
    """A text stream that discards its input."""

    def write(self, s: str, /) -> int:
        return len(s)


class Observer:
    """Collects the events of a run, and shows them.

    Parameters
    ----------
    mode : {"auto", "terminal", "notebook", "plain", "json", "quiet"}
        ``auto``: bars on a terminal and in a notebook, a few lines of text otherwise. ``json``: an event a line, for
        programs.
    stream : text file, optional
        By default standard error: standard output is for results.
    metrics_file : Path, optional
        Written when the run ends, for Prometheus.

    Raises
    ------
    ConfigError
        If there is no such mode, or that file cannot be written.

    Attributes
    ----------
    events : list of dict
        Each with its ``time`` and ``event``, the ``run`` and ``workspace`` it is of, and facts of its own.
    metrics_file : Path or None
        What is written when the run ends; None once it is clear that it must not be.
    ending : dict or None
        The last event, once the run has ended: ``run done`` or ``run failed`` with its ``exit_code``.
    """

    def __init__(self, mode: Mode = "auto", stream: IO[str] | None = None, *, metrics_file: Path | None = None) -> None:
        mode = check_mode(mode)
        if metrics_file is not None:
            check_metrics_file(metrics_file)
        self.metrics_file = metrics_file
        # A program without a console has no standard error.
        self._stream = stream or cast("IO[str] | None", sys.stderr) or cast("IO[str]", _Nowhere())
        if mode == "auto":
            mode = "terminal" if self._stream.isatty() else "notebook" if in_notebook() else "plain"
        self.mode = mode
        self.interval = {"plain": PLAIN_INTERVAL, "notebook": INTERVAL}.get(mode, JSON_INTERVAL)
        self._notebook = NotebookDisplay() if mode == "notebook" else None
        self.events: list[dict[str, Any]] = []
        self.ending: dict[str, Any] | None = None
        self.console = Console(file=self._stream, highlight=False)
        self.progress: Progress | None = None
        self._bound: dict[str, Any] = {}
        self._showing = threading.RLock()
        self._reported = False
        self._started = time.monotonic()
        self._done: list[str] = []
        self._done_seconds = 0.0

    # ------------------------------------------------------------------------------------------------ of a whole run

    def begin(self, run: str, workspace: str) -> None:
        """Set the run and the workspace of all further events."""
        self._bound = {"run": run, "workspace": workspace}
        self.event("run started", version=__version__)

    @contextmanager
    def watched(self, workspace: str | None = None) -> Generator[Observer]:
        """Report the end of the block once: ``run failed`` if it raises, else the result set by ``finish``.

        Blocks may be nested: the innermost one reports the end of a run, an outer one failures before it.

        Parameters
        ----------
        workspace : str, optional
            Used for failures before there is a run.
        """
        self._bound = self._bound or ({} if workspace is None else {"workspace": workspace})
        try:
            yield self
        except BaseException as error:
            if isinstance(error, LatentScaleError):
                name_data(error)
            if not self._reported:
                if self.ending is None or self.ending["event"] == "run done":
                    self.fail(error)
                # An error writing this file must not hide the error of the run.
                with suppress(LatentScaleError):
                    self._report()
            raise
        if self.ending is not None and not self._reported:
            self._report()

    def _report(self) -> None:
        assert self.ending is not None
        self._reported = True
        self._show(self.ending)
        if self.metrics_file is not None:
            # The lease thread may have added a note.
            before = [event for event in self.events if event is not self.ending]
            write_metrics_file(self.metrics_file, [*before, self.ending])

    def finish(self, *, quarantined: int = 0, **facts: Any) -> None:
        """Set the result to done; it is shown when nothing can fail any more."""
        code = EXIT_QUARANTINE if quarantined else EXIT_DONE
        self._end("run done", exit_code=code, quarantined=quarantined, **facts)

    def fail(self, error: BaseException) -> None:
        """Set the result to failed, with the error."""
        facts: dict[str, Any] = {"kind": type(error).__name__, "message": without_signatures(str(error))}
        code = 1
        if isinstance(error, LatentScaleError):
            facts |= {"message": error.message, "where": error.where, "hint": error.hint}
            code = error.exit_code
        elif isinstance(error, KeyboardInterrupt):
            facts["message"], code = "interrupted", EXIT_INTERRUPTED
        self._end("run failed", exit_code=code, **facts)

    def _end(self, event: str, **facts: Any) -> None:
        seconds = round(time.monotonic() - self._started, 3)
        self.ending = {"time": now(), "event": event, **self._bound, "seconds": seconds, **facts}
        self.events.append(self.ending)

    # --------------------------------------------------------------------------------------------------------- events

    def event(self, event: str, **facts: Any) -> None:
        """Record an event, and show it."""
        one = {"time": now(), "event": event, **self._bound, **facts}
        self.events.append(one)
        self._show(one)

    def note(self, text: str, **facts: Any) -> None:
        """Report what the user should know: an automatic choice, a sample, a truncation."""
        self.event("note", text=text, **facts)
        if self.mode == "terminal":
            (self.progress.console if self.progress else self.console).print(Text(f"  {text}", style="dim"))

    def line(self, event: str, **facts: Any) -> None:
        """Show an event without recording it."""
        self._show({"time": now(), "event": event, **self._bound, **facts})

    def _show(self, event: dict[str, Any]) -> None:
        # The lease thread adds notes, too: lines must not mix, and a list of stages must be printed once.
        with self._showing:
            if self._notebook is not None:
                self._notebook.show(event)
            if self.mode == "json":
                self._print(json.dumps(event, ensure_ascii=False, default=str))
            elif self.mode == "plain":
                self._show_plain(event)

    def _show_plain(self, event: dict[str, Any]) -> None:
        """Print a few lines for a log; short stages share one."""
        name = event["event"]
        if name == "stage done":
            done = f" {event['done']:,} {event['unit']}" if event["unit"] != "steps" and event["done"] else ""
            self._done.append(f"{event['stage']}{done} ({event['seconds']:.1f} s)")
            self._done_seconds += event["seconds"]
            if self._done_seconds >= PLAIN_LINE:
                self._flush_plain()
            return
        line = None
        if name == "run started":
            line = f"latentscale {__version__}: run {event['run']} in {event['workspace']}"
        elif name == "note":
            line = f"  note: {event['text']}"
        elif name == "progress":
            of = "" if event["total"] is None else f" of {event['total']:,}"
            left = "" if event["seconds_left"] is None else f", {event['seconds_left']:,.0f} s left"
            line = f"  {event['stage']}: {event['done']:,}{of} {event['unit']}{left}"
        elif name == "run done":
            made = f": {event['map']}" if event.get("map") else ""
            line = f"done in {event['seconds']:.1f} s{made} in {event['workspace']}"
        if line is not None or name == "run failed":
            self._flush_plain()
        if line is not None:
            self._print(line)

    def _flush_plain(self) -> None:
        if self._done:
            self._print("  " + " · ".join(self._done))
        self._done, self._done_seconds = [], 0.0

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    @contextmanager
    def stage(self, stage: str, *, total: int | None = None, unit: str = "rows") -> Generator[StageProgress]:
        """Show and record the progress of one stage."""
        self.event("stage started", stage=stage, total=total)
        if self.mode == "terminal":
            self.progress = Progress(
                SpinnerColumn(finished_text="[green]✓[/]"),
                TextColumn("{task.description:<10}"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                _Rate(),
                console=self.console,
            )
            self.progress.start()
        progress = StageProgress(self, stage, total, unit)
        started = time.monotonic()
        try:
            yield progress
            progress.finish()
        finally:
            if self.progress:
                self.progress.stop()
                self.progress = None
        self.event(
            "stage done", stage=stage, done=progress.done, unit=unit, seconds=round(time.monotonic() - started, 3)
        )

    def events_jsonl(self) -> bytes:
        """All events so far, a JSON document a line."""
        return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in self.events).encode()
