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
            A partial of a module's function; it may travel to another process, where its ``threads`` are those that
            its worker has.
        stage : str
            ``neighbors``, ``project`` …: whose resources the function gets.
        progress : callable, optional
            Called with (done, total); the function then gets a ``progress`` of its own.
        """
        ...

    def threads(self, stage: str) -> int:
        """How many threads a stage may use where it runs."""
        ...

    def memory(self, stage: str) -> float:
        """Bytes of memory that there are where a stage runs."""
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...


def open_engine(config: EngineConfig, *, say: Callable[[str], None] | None = None) -> Engine:
    """Open the engine that ``config`` names.

    Parameters
    ----------
    config : EngineConfig
    say : callable, optional
        Told what a person should know, such as that the run waits for resources.

    Raises
    ------
    ResourceError
        If it cannot give what the stages ask for.
    """
    if config.name == "ray":
        from latentscale.engines.ray import RayEngine

        return RayEngine(config, say=say)
    from latentscale.engines.local import LocalEngine

    return LocalEngine(config)


def check_engine(config: EngineConfig) -> None:
    """Refuse, before any work and without starting anything, what the engine cannot give.

    Raises
    ------
    ConfigError
        If a runtime environment cannot be read, a variable to pass on is not set, or this process is connected to
        another cluster already.
    MissingPackageError
        If Ray is asked for and is not installed.
    ResourceError
        If the cluster does not answer, wants another token or version, or can never give what a stage asks for; for
        the local engine, if this machine cannot.
    """
    from latentscale.engines.requests import check_requests

    if config.name == "ray":
        from latentscale.engines.ray import passed_environment, read_runtime_env
        from latentscale.engines.ray_contact import reach_cluster, refuse_late_environment

        passed_environment(config)
        runtime_env = read_runtime_env(config)
        contact = reach_cluster(config.address)
        refuse_late_environment(contact, runtime_env)
        if contact.cluster is not None:
            check_requests(config, contact.cluster)
        else:
            # A Ray client knows nothing before it is connected.
            open_engine(config).close()
        return
    from latentscale.engines.local import check_machine

    check_machine(config)
