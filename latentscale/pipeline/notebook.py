"""Progress of a run in a notebook: an area of the cell's output that is updated in place."""

from __future__ import annotations

import html
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Seconds between updates, each of which the front end draws.
INTERVAL = 0.25


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows what cells display.

    IPython is not a dependency, and is never imported here: a kernel has loaded it.
    """
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and "kernel" in dir(shell)


@dataclass(slots=True)
class _Line:
    stage: str
    total: int | None
    unit: str = ""
    done: int = 0
    seconds: float | None = None


class NotebookDisplay:
    """Shows the events of a run: a line with a bar for each stage, then the notes."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []
        self._notes: list[str] = []
        self._handle: Any = None

    def show(self, event: Mapping[str, Any]) -> None:
        """Show an event of an ``Observer``; events that are not for display are ignored."""
        kind = event["event"]
        if kind == "stage started":
            self._lines.append(_Line(event["stage"], event["total"]))
        elif kind in ("progress", "stage done") and self._lines:
            line = self._lines[-1]
            line.done, line.unit = event["done"], event.get("unit", line.unit)
            line.total, line.seconds = event.get("total", line.total), event.get("seconds")
        elif kind == "note":
            self._notes.append(event["text"])
        else:
            return
        self._show()

    def _show(self) -> None:
        from IPython.display import display  # pyright: ignore[reportMissingImports]

        if self._handle is None:
            self._handle = display(self, display_id=True)
        else:
            self._handle.update(self)

    def _repr_html_(self) -> str:
        rows = "".join(_row(line) for line in self._lines)
        notes = "".join(f"<div>{html.escape(text)}</div>" for text in self._notes)
        return f'<table style="font-size:smaller">{rows}</table><div style="opacity:.7;font-size:smaller">{notes}</div>'

    def __repr__(self) -> str:
        return "\n".join([*(_text(line) for line in self._lines), *self._notes])


def _text(line: _Line) -> str:
    total = "" if not line.total else f" of {line.total:,}"
    count = f"{line.done:,}{total} {line.unit}" if line.done else ""
    ended = "…" if line.seconds is None else f"{line.seconds:.1f} s"
    return f"{line.stage:<10} {count} {ended}"


def _row(line: _Line) -> str:
    share = 1.0 if line.seconds is not None else (line.done / line.total if line.total else None)
    bar = "<progress></progress>" if share is None else f'<progress value="{share:.3f}"></progress>'
    total = "" if not line.total else f" of {line.total:,}"
    count = f"{line.done:,}{total} {html.escape(line.unit)}" if line.done else ""
    ended = "" if line.seconds is None else f"{line.seconds:.1f} s"
    return f"<tr><td>{html.escape(line.stage)}</td><td>{bar}</td><td>{count}</td><td>{ended}</td></tr>"
