"""Run everything in this process: the libraries of each stage use the processors by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil

from latentscale.backends.capability import describe as describe_machine
from latentscale.config import EngineConfig, ResourcesConfig
from latentscale.engines import Quarantined
from latentscale.engines.requests import GLOBAL_STAGES, SHARD_STAGES, Cluster, Node, request_of
from latentscale.errors import ConfigError, ResourceError
from latentscale.provenance import available_memory, available_processors
from latentscale.storage.attempts import AttemptLog

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Result = TypeVar("Result")


class LocalEngine:
    """The default engine: a loop, no daemon, no import of Ray."""

    name = "local"

    def __init__(self, config: EngineConfig) -> None:
        check_machine(config)
        self._config = config

    def describe(self) -> dict[str, Any]:
        """What runs the work, for the run's record."""
        return {"engine": self.name}

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
        """Run a worker over tasks, one after the other; one that dies takes this process with it."""
        if not tasks:
            return
        worker = make_worker()
        for task in tasks:
            yield worker(task)

    def call(
        self, function: Callable[..., Result], *, stage: str, progress: Callable[[int, int], None] | None = None
    ) -> Result:
        """Call the function."""
        return function() if progress is None else function(progress=progress)

    def threads(self, stage: str) -> int:
        """How many threads a stage may use."""
        return self._config.threads or available_processors()

    def memory(self, stage: str) -> float:
        """Bytes of memory that are free here."""
        return available_memory()

    def close(self) -> None:
        """Nothing is held."""


def check_machine(config: EngineConfig) -> None:
    """Refuse settings that this machine cannot give, and those that only a cluster knows.

    Raises
    ------
    ConfigError
        If an address or a runtime environment is given.
    ResourceError
        If more processors, memory or GPUs are asked for than there are.
    """
    if config.address is not None:
        raise ConfigError(
            f"engine.address is {config.address}, but engine.name is local",
            hint="Set engine.name to ray: --engine ray.",
        )
    if config.runtime_env is not None:
        raise ConfigError(
            "engine.runtime_env is for the workers of a cluster, but engine.name is local",
            hint="Leave it out, or set engine.name to ray: --engine ray.",
        )
    if config.resources == ResourcesConfig():
        return
    resources = {"CPU": float(available_processors()), "memory": float(psutil.virtual_memory().total)}
    gpus = describe_machine().gpus
    if gpus:
        resources["GPU"] = float(len(gpus))
    machine = Cluster(nodes=[Node(resources, name="this machine")], place="the local engine")
    for stage in (*SHARD_STAGES, *GLOBAL_STAGES):
        request = request_of(config, stage, machine)
        if not request.fits(machine.nodes[0]):
            raise ResourceError(
                f"stage {stage} asks for {request.describe()}, and this machine has {machine.describe()}",
                where=f"engine.resources.{stage}",
                hint="Ask for less, or take a Ray cluster that has it: --engine ray --address HOST:PORT.",
            )
