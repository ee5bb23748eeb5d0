"""The context of a stage: its resources where it runs, and its callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from latentscale.machine import Replicas

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latentscale.storage.objects import Store


class LayoutPreview(Protocol):
    """Shows a layout while it is being optimised; it travels to where the stage runs."""

    def begin(self, notice: Callable[[str], None]) -> None:
        """Start the clock of a layout; ``notice`` is told where the preview lies, or why there is none."""
        ...

    def show(self, row_ids: NDArray[np.int64], coordinates: NDArray[np.float32], done: int, total: int) -> None:
        """Show coordinates, float32 of shape (n, 2) or (n, 3), after ``done`` of ``total`` steps. It never fails."""
        ...


def ignore_progress(done: int, total: int) -> None:
    """Ignore progress."""


def ignore_notice(text: str) -> None:
    """Ignore a notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """Resources and callbacks of a stage where it runs.

    Attributes
    ----------
    store : Store
        The workspace.
    run : str or None
        Id of the run, for the records.
    job : mapping or None
        Its settings as the record of a map keeps them.
    threads : int
    memory : float
        Bytes that the work may use; 0 where unknown.
    device : str
        ``cpu``, or ``cuda:0`` where the engine gave a GPU.
    scratch : Path or None
        A folder of this node for files that may be lost.
    progress : callable
        Told (done, total) in the stage's own units.
    notice : callable
        Told what a person should know.
    replicas : Replicas or None
        What each worker gets that the work starts on a cluster; None where there is no other node.
    preview : LayoutPreview or None
        Shows the map's layout on its way; None where it is not asked for.
    """

    store: Store
    run: str | None = None
    job: Mapping[str, Any] | None = None
    threads: int = 1
    memory: float = 0.0
    device: str = "cpu"
    scratch: Path | None = None
    progress: Callable[[int, int], None] = ignore_progress
    notice: Callable[[str], None] = ignore_notice
    replicas: Replicas | None = None
    preview: LayoutPreview | None = None

    def at(self, **changes: Any) -> StageContext:
        """Return the same context with other values, such as those of the machine where the stage runs."""
        return replace(self, **changes)
