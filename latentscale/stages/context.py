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
    """Shows a layout while it is being optimised; it is sent to the node where the stage runs."""

    def begin(self, notice: Callable[[str], None]) -> None:
        """Start timing a layout; ``notice`` receives the address of the preview, or why there is none."""
        ...

    def show(self, row_ids: NDArray[np.int64], coordinates: NDArray[np.float32], done: int, total: int) -> None:
        """Show coordinates, float32 of shape (n, 2) or (n, 3), after ``done`` of ``total`` steps; never raises."""
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
        Settings of the run, as stored in the record of a map.
    threads : int
    memory : float
        Available memory in bytes; 0 where unknown.
    device : str
        ``cpu``, or ``cuda:0`` if the engine assigned a GPU.
    scratch : Path or None
        A folder of this node for temporary files.
    progress : callable
        Called with (done, total) in the stage's own units.
    notice : callable
        Called with messages for the user.
    replicas : Replicas or None
        Number and resources of the workers that the stage may start on a cluster; None on a single machine.
    preview : LayoutPreview or None
        Shows the map's layout while it is optimised; None where not requested.
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
        """Return a copy with other values, such as those of the machine where the stage runs."""
        return replace(self, **changes)
