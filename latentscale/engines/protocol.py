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
    """Work on one shard in three phases, so that reading and writing other shards overlaps with computing.

    The phases run in different threads: ``compute`` never concurrently with itself, ``read`` and ``write`` concurrently
    with everything. A worker without separate phases is a plain callable from a task to its receipt.
    """

    def read(self, task: TaskIn) -> Any:
        """Read the input of ``compute``."""
        ...

    def compute(self, loaded: Any) -> Any:
        """Compute the output from what was read, without any I/O."""
        ...

    def write(self, task: TaskIn, computed: Any) -> ReceiptOut:
        """Write the result and return the receipt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """Replaces the receipt of a shard whose attempts all killed their worker, or which a worker gave up.

    Attributes
    ----------
    key : str
        Key of the task.
    tries : int
        Number of worker deaths; 0 if a worker gave it up.
    reason : str
        The causes of the deaths, or why it was given up, in a sentence.
    """

    key: str
    tries: int
    reason: str


class Engine(Protocol):
    """Runs the work of stages, on this machine or on a cluster."""

    def describe(self) -> dict[str, Any]:
        """Describe the engine for the run's record."""
        ...

    def place(self, stage: str) -> Place:
        """Measure the resources of the place where a worker of ``stage`` runs; cached for each stage.

        Raises
        ------
        ResourceError
            If no worker starts there in time.
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
        """Run a worker over tasks and yield receipts as they arrive, in any order.

        Parameters
        ----------
        make_worker : callable
            A class or a partial of one, importable by name; sent to worker processes, each of which calls it once.
        tasks : sequence of dataclass
            References to shards, never their rows.
        stage : str
            ``ingest`` or ``embed``; determines the resources of a worker.
        task_type, receipt_type : type
            Types of a task and a receipt, which are sent as JSON. A task has a ``key``.
        attempts : AttemptLog
            Records attempts that ended with the death of their worker.
        seconds : float
            Estimated CPU-seconds of the tasks; the local engine starts no processes for short work.

        Raises
        ------
        LatentScaleError
            An error of a worker.
        Exception
            Any other error of a worker, with its original type.
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
        """Run a function that needs the whole data set, and return its result.

        Parameters
        ----------
        make : callable
            A partial of a module-level function, or a method of a picklable object, as it may be sent to another
            process. It receives ``context`` with the threads, memory, device and scratch folder of the place where it
            runs; messages to ``context.notice`` reach the driver.
        context : StageContext
            The store and the run.
        stage : str
            ``neighbors``, ``project`` …; determines the resources of the function.
        progress : callable, optional
            Called in this process with the arguments that the function passes to ``context.progress``.
        starts_workers : bool
            Whether the function starts workers of its own on other nodes: the stage's resources are then those of
            each such worker, in ``context.replicas``.

        Raises
        ------
        LatentScaleError
            An error of the function, or the death of its worker.
        Exception
            Any other error of the function, with its original type.
        """
        ...

    def close(self) -> None:
        """Release the engine's resources."""
        ...
