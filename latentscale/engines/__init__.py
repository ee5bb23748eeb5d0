"""Engines run the work of stages: in this process, or on a Ray cluster; the pipeline does not know which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from latentscale.config import EngineConfig
from latentscale.storage.attempts import AttemptLog

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """What stands for the receipt of a shard that was given up, since every try of it ended with its worker's death.

    Attributes
    ----------
    key : str
        Of the task.
    tries : int
    reason : str
        What is known of the deaths, in a sentence.
    """

    key: str
    tries: int
    reason: str


class Engine(Protocol):
    """What the pipeline asks of an engine."""

    @property
    def name(self) -> str:
        """``local`` or ``ray``."""
        ...

    def describe(self) -> dict[str, Any]:
        """What runs the work, for the run's record."""
        ...

    def map_shards(
        self,
        make_worker: Callable[[], Callable[[Task], Receipt]],
        tasks: Sequence[Task],
        *,
        stage: str,
        task_type: type[Task],
        receipt_type: Any,
        attempts: AttemptLog,
    ) -> Iterator[Receipt | Quarantined]:
        """Run a worker over tasks and yield each receipt as it comes, in any order.

        Parameters
        ----------
        make_worker : callable
            Makes a worker; it may travel to another process, and is called once a worker.
        tasks : sequence of dataclass
            References to shards, never their rows.
        stage : str
            ``ingest`` or ``embed``: whose resources a worker gets.
        task_type, receipt_type : type
            What a task and a receipt are, for engines that send them as JSON. A task has a ``key``.
        attempts : AttemptLog
            Counts the tries that ended with their worker's death, for engines whose workers are other processes.

        Raises
        ------
        LatentScaleError
            What a worker raised.
        """
        ...

    def call(
        self, function: Callable[..., Result], *, stage: str, progress: Callable[[int, int], None] | None = None
    ) -> Result:
        """Run one function that needs the whole data, and return what it returns.

        Parameters
        ----------
        function : callable
            A partial of a module's function; it may travel to another process.
        stage : str
            ``neighbors``, ``project`` …: whose resources the function gets.
        progress : callable, optional
            Called with (done, total) by functions that take a ``progress``, where the engine runs them here.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...


def open_engine(config: EngineConfig) -> Engine:
    """Open the engine that ``config`` names."""
    if config.name == "ray":
        from latentscale.engines.ray import RayEngine

        return RayEngine(config)
    from latentscale.engines.local import LocalEngine

    return LocalEngine()
