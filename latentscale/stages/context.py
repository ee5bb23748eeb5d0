"""The context of a stage: its resources where it runs, and its callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentscale.machine import Replicas

if TYPE_CHECKING:
    from latentscale.storage.objects import Store


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

    def at(self, **changes: Any) -> StageContext:
        """Return the same context with other values, such as those of the machine where the stage runs."""
        return replace(self, **changes)
