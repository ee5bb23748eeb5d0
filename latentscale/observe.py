"""What a person or a log sees of a run: stages, progress with rates and time left, events, notes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from latentscale.provenance import now

Mode = Literal["auto", "terminal", "json", "quiet"]
JSON_INTERVAL = 5.0


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
        self._observer = observer
        self._started = time.monotonic()
        self._said = self._started
        self._bar = observer.progress.add_task(stage, total=total, unit=unit) if observer.progress else None

    def advance(self, rows: int) -> None:
        """Count rows that are done."""
        self._show(self.done + rows)

    def reach(self, done: int, total: int) -> None:
        """Say how far a stage is that counts steps, not rows."""
        self.total = total
        self._show(done)

    def _show(self, done: int) -> None:
        self.done = done
        if self._bar is not None and self._observer.progress:
            self._observer.progress.update(self._bar, completed=done, total=self.total)
        elif time.monotonic() - self._said >= JSON_INTERVAL:
            self._said = time.monotonic()
            rate = self.done / max(self._said - self._started, 1e-9)
            left = None if self.total is None or not rate else round((self.total - self.done) / rate, 1)
            self._observer.line(
                "progress",
                stage=self.stage,
                done=self.done,
                total=self.total,
                per_second=round(rate, 1),
                seconds_left=left,
            )

    def finish(self) -> None:
        """Fill the bar."""
        if self._bar is not None and self._observer.progress:
            self._observer.progress.update(self._bar, total=max(self.done, 1), completed=max(self.done, 1))


class Observer:
    """Collects the events of a run, and shows them.

    Parameters
    ----------
    mode : {"auto", "terminal", "json", "quiet"}
        ``auto``: bars on a terminal, JSON lines otherwise.
    stream : text file, optional
        By default standard error: standard output is for results.
    """

    def __init__(self, mode: Mode = "auto", stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        if mode == "auto":
            mode = "terminal" if self._stream.isatty() else "json"
        self.mode = mode
        self.events: list[dict[str, Any]] = []
        self.console = Console(file=self._stream, highlight=False)
        self.progress: Progress | None = None

    def event(self, event: str, **facts: Any) -> None:
        """Record an event, and show it as a JSON line where nobody watches."""
        self.events.append({"time": now(), "event": event, **facts})
        self.line(event, **facts)

    def note(self, text: str, **facts: Any) -> None:
        """Say something that a person should know: a choice made for them, a sample, a cut."""
        self.event("note", text=text, **facts)
        if self.mode == "terminal":
            (self.progress.console if self.progress else self.console).print(Text(f"  {text}", style="dim"))

    def line(self, event: str, **facts: Any) -> None:
        """Print one JSON line, without recording it."""
        if self.mode == "json":
            print(
                json.dumps({"time": now(), "event": event, **facts}, ensure_ascii=False), file=self._stream, flush=True
            )

    @contextmanager
    def stage(self, stage: str, *, total: int | None = None, unit: str = "rows") -> Generator[StageProgress]:
        """Watch one stage."""
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
