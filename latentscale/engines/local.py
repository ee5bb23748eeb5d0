"""Run all stages on this machine: shards in worker processes if that is faster, global stages in this process."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import psutil

from latentscale.config import EngineConfig, ResourcesConfig, StageResources
from latentscale.engines.pipelined import run_here, tasks_in_flight
from latentscale.engines.place import measure_place
from latentscale.engines.pool import WorkerPool, thread_variables
from latentscale.engines.protocol import Quarantined, ShardWorker
from latentscale.engines.resources import GLOBAL_STAGES, SHARD_STAGES, Cluster, Node, gpu_notices, gpus_of, request_of
from latentscale.errors import ConfigError, ResourceError
from latentscale.machine import Place, available_memory, available_processors, release_memory, visible_gpus
from latentscale.registry import resources_of
from latentscale.stages.context import StageContext, ignore_progress
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.scratch import scratch_folder

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Result = TypeVar("Result")

# Estimated CPU-seconds from which worker processes are started: a start (imports, model) takes about a second.
PROCESS_SECONDS = 4.0
# Default memory of an ingest or embed worker in bytes, an upper bound for shards of the default size.
WORKER_BYTES = 1e9
# Tasks in flight of a worker with one CPU: one is read or written while one is computed. A third would only interrupt
# the computation; it cost 6 % of the CPU time of embed with the static model.
IN_FLIGHT_ON_ONE = 2


class LocalEngine:
    """The default engine: no daemon, no import of Ray.

    Parameters
    ----------
    config : EngineConfig
    on_notice : callable, optional
        Called with messages for the user, such as that a worker died.
    """

    name = "local"

    def __init__(self, config: EngineConfig, *, on_notice: Callable[[str], None] | None = None) -> None:
        check_machine(config)
        self._config = config
        self._on_notice = on_notice or logging.getLogger(__name__).warning
        self._pool = WorkerPool(self._on_notice)
        self._places: dict[str, Place] = {}
        self._workers: dict[str, int] = {}
        self._machine = this_machine(config)
        for sentence in gpu_notices(config, self._machine):
            self._on_notice(sentence)

    def describe(self) -> dict[str, Any]:
        """Describe the engine for the run's record."""
        return {"engine": self.name, "workers": dict(self._workers)}

    def place(self, stage: str) -> Place:
        """Measure the resources of this machine, or a shard worker's share of them."""
        name = resources_of(stage)
        if name not in self._places:
            cpus = self._cpus(name)
            workers = self._worker_count(name) if name in SHARD_STAGES else 1
            place = measure_place(cpus=cpus, memory_bytes=self._memory() / workers)
            self._places[name] = place
        return self._places[name]

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
        """Run shards in worker processes, or in this process if they are few or quick.

        In this process, deaths cannot be counted as attempts, since no driver survives them.
        """
        if not tasks:
            return
        in_flight = tasks_in_flight(make_worker)
        workers = min(self._worker_count(stage), len(tasks))
        here = workers == 1 or seconds < PROCESS_SECONDS or not _importable(make_worker)
        # A stage may have several types of workers.
        self._workers[stage] = max(self._workers.get(stage, 0), 1 if here else workers)
        if here:
            yield from run_here(make_worker(), tasks, in_flight=in_flight)
            return
        processors = max(1, int(self._cpus(stage)))
        each = thread_variables(processors)
        shares = [each | self._gpus_of(stage, i) for i in range(workers)]
        yield from self._pool.map(
            make_worker,
            tasks,
            variables=shares,
            in_flight=in_flight if processors > 1 else min(in_flight, IN_FLIGHT_ON_ONE),
            task_type=task_type,
            receipt_type=receipt_type,
            attempts=attempts,
        )

    def call(
        self,
        make: Callable[[StageContext], Result],
        context: StageContext,
        *,
        stage: str,
        progress: Callable[[int, int], None] | None = None,
        starts_workers: bool = False,
    ) -> Result:
        """Call the function with this machine's resources."""
        # Shard workers are no longer needed, and this stage needs their memory.
        self._pool.close()
        release_memory()
        return make(
            context.at(
                threads=self._config.threads or available_processors(),
                memory=self._memory(),
                device="cuda:0" if self.place(stage).gpus else "cpu",
                scratch=scratch_folder(),
                progress=progress or ignore_progress,
                notice=self._on_notice,
            )
        )

    def close(self) -> None:
        """Stop the workers."""
        self._pool.close()

    def _requested(self, stage: str) -> StageResources:
        return getattr(self._config.resources, resources_of(stage))

    def _gpus_of(self, stage: str, worker: int) -> dict[str, str]:
        """Assign each worker its own GPUs, or a share of one; hides all GPUs if none are requested."""
        asked = self._requested(stage)
        share = gpus_of(asked, self._machine)
        if not share:
            return {} if asked.gpus is None else {"CUDA_VISIBLE_DEVICES": ""}
        visible = visible_gpus()
        first = int(worker * share + 1e-9)
        chosen = [visible[(first + i) % len(visible)] for i in range(max(1, int(share)))]
        return {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}

    def _cpus(self, name: str) -> float:
        """Return the number of CPUs of one worker."""
        asked = self._requested(name).cpus
        if asked is not None:
            return max(asked, 1.0)
        return 1.0 if name in SHARD_STAGES else float(self._config.threads or available_processors())

    def _memory(self) -> float:
        """Return the available memory in bytes, or the limit of the settings."""
        free = available_memory()
        return min(free, float(self._config.memory)) if self._config.memory else free

    def _worker_count(self, stage: str) -> int:
        """Return the number of workers: as requested, else one per CPU, limited by memory."""
        asked = self._requested(stage)
        given = asked.workers or (None if asked.max_workers else self._config.workers)
        processors = self._config.threads or available_processors()
        wanted = given or max(1, int(processors / self._cpus(stage)))
        if asked.max_workers and not given:
            wanted = min(wanted, asked.max_workers)
        share = gpus_of(asked, self._machine)
        if share and not given:
            wanted = min(wanted, max(1, int(len(visible_gpus()) / share + 1e-9)))
        room = max(1, int(self._memory() / (asked.memory or WORKER_BYTES)))
        if room < wanted and given:
            self._on_notice(f"{stage}: memory holds {room} of the {wanted} workers that were asked for")
        return min(wanted, room)


def check_machine(config: EngineConfig) -> None:
    """Reject requests that this machine cannot satisfy, and settings that apply only to clusters.

    Raises
    ------
    ConfigError
        If an address, a runtime environment or an image is given.
    ResourceError
        If more CPUs, memory or GPUs are requested than exist.
    """
    if config.address is not None:
        raise ConfigError(
            f"engine.address is {config.address}, but engine.name is local",
            hint="Set engine.name to ray: --engine ray.",
        )
    stages = (*SHARD_STAGES, *GLOBAL_STAGES)
    settings: list[tuple[str, Any]] = [("engine.runtime_env", config.runtime_env)]
    for stage in stages:
        asked: StageResources = getattr(config.resources, stage)
        settings += [(f"engine.resources.{stage}.{name}", getattr(asked, name)) for name in ("runtime_env", "image")]
    for name, value in settings:
        if value is not None:
            raise ConfigError(
                f"{name} is for the workers of a cluster, but engine.name is local",
                hint="Leave it out, or set engine.name to ray: --engine ray.",
            )
    if config.resources == ResourcesConfig():
        return
    machine = this_machine(config)
    for stage in stages:
        request = request_of(config, stage, machine)
        if not request.fits(machine.nodes[0]):
            raise ResourceError(
                f"stage {stage} asks for {request.describe()}, and this machine has {machine.describe()}",
                where=f"engine.resources.{stage}",
                hint="Ask for less, or take a Ray cluster that has it: --engine ray --address HOST:PORT.",
            )


def this_machine(config: EngineConfig) -> Cluster:
    """Describe this machine as a cluster of one node; GPUs are detected only if a stage may use them."""
    resources = {"CPU": float(available_processors()), "memory": float(psutil.virtual_memory().total)}
    if any(config.resources.of(stage).gpus for stage in (*SHARD_STAGES, *GLOBAL_STAGES)):
        resources["GPU"] = float(len(visible_gpus()))
    return Cluster(nodes=[Node(resources, name="this machine")], place="the local engine")


def _importable(make_worker: Any) -> bool:
    """Whether other processes can import the worker's class: not if it is defined in a script or a function."""
    while isinstance(make_worker, partial):
        make_worker = make_worker.func
    return make_worker.__module__ != "__main__" and "<locals>" not in make_worker.__qualname__
