"""The protocols of engines, and of the workers of a shard stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from latentscale.machine import Place
from latentscale.stages.context import StageContext
from latentscale.storage.attempts import AttemptLog

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Result = TypeVar("Result")
TaskIn = TypeVar("TaskIn", contravariant=True)
ReceiptOut = TypeVar("ReceiptOut", covariant=True)


class ShardWorker(Protocol[TaskIn, ReceiptOut]):
    """Work on one shard in three parts, so that the next shards are read and the last ones written meanwhile.

    The parts run in different threads: ``compute`` never concurrently with itself, ``read`` and ``write`` concurrently
    with everything. A worker without separate parts is a plain callable from a task to its receipt.
    """

    def read(self, task: TaskIn) -> Any:
        """Fetch what ``compute`` needs."""
        ...

    def compute(self, loaded: Any) -> Any:
        """Turn what was read into what is to be written, without any input or output."""
        ...

    def write(self, task: TaskIn, computed: Any) -> ReceiptOut:
        """Write the result and return the receipt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Instead of the receipt of a shard whose every attempt ended with its worker's death, or that was given up.

    Attributes
    ----------
    key : str
        Of the task.
    tries : int
        Deaths; 0 where a worker gave it up.
    reason : str
        What is known of the deaths, or why it was given up, in a sentence.
    """

    key: str
    tries: int
    reason: str


class Engine(Protocol):
    """Runs the work of stages, on this machine or on a cluster."""

    def describe(self) -> dict[str, Any]:
        """What runs the work, for the run's record."""
        ...

    def place(self, stage: str) -> Place:
        """Measure the place where a worker of ``stage`` runs; measured once for each stage.

        Raises
        ------
        ResourceError
            If no worker can start there in time.
        """
        ...

    def map_shards(
        self,
        make_worker: Callable[[], ShardWorker[Task, Receipt] | Callable[[Task], Receipt]],
        tasks: Sequence[Task],
        *,
        stage: str,
        task_type: type[Task],
        receipt_type: Any,
        attempts: AttemptLog,
        seconds: float = math.inf,
    ) -> Iterator[Receipt | Quarantined]:
        """Run a worker over tasks and yield each receipt as it comes, in any order.

        Parameters
        ----------
        make_worker : callable
            A class or a partial of one, importable by name; it travels to other processes, and each calls it once.
        tasks : sequence of dataclass
            References to shards, never their rows.
        stage : str
            ``ingest`` or ``embed``: whose resources a worker gets.
        task_type, receipt_type : type
            What a task and a receipt are, for they travel as JSON. A task has a ``key``.
        attempts : AttemptLog
            Counts the attempts that ended with their worker's death.
        seconds : float
            What the tasks take on one processor, roughly: the local engine starts no processes for a moment's work.

        Raises
        ------
        LatentScaleError
            What a worker raised.
        Exception
            Any other error of a worker, as what it was.
        """
        ...

    def call(
        self,
        make: Callable[[StageContext], Result],
        context: StageContext,
        *,
        stage: str,
        progress: Callable[[int, int], None] | None = None,
        starts_workers: bool = False,
    ) -> Result:
        """Run one function that needs the whole data, and return what it returns.

        Parameters
        ----------
        make : callable
            A partial of a module's function, or a method of an object that can be pickled: it may travel to another
            process. It gets ``context`` with the threads, memory, device and scratch folder of the place where it
            runs; what it tells ``context.notice`` reaches the driver.
        context : StageContext
            The store and the run.
        stage : str
            ``neighbors``, ``project`` …: whose resources the function gets.
        progress : callable, optional
            Called here with what the function tells ``context.progress``.
        starts_workers : bool
            Whether the function starts workers of its own where there are other nodes: the stage's resources are
            theirs, in ``context.replicas``.

        Raises
        ------
        LatentScaleError
            What the function raised, or the loss of its worker.
        Exception
            Any other error of the function, as what it was.
        """
        ...

    def close(self) -> None:
        """Release the engine's resources."""
        ...
