"""Code for the processes of a Ray cluster: workers of shards, the one worker of a global stage, and a probe."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, cast

from pydantic import TypeAdapter

from latentscale.engines.failures import describe_failure
from latentscale.engines.pipelined import Pipelined, SharedExclusiveLock
from latentscale.engines.place import measure_place
from latentscale.errors import require
from latentscale.machine import Place, available_memory
from latentscale.stages.context import StageContext
from latentscale.storage.attempts import AttemptLog, judge
from latentscale.storage.objects import Store
from latentscale.storage.scratch import scratch_folder
from latentscale.storage.vectors import release_vectors
from latentscale.version import __version__


class Environment:
    """Environment variables on their way to a worker; their values are in no ``repr``."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __repr__(self) -> str:
        return f"Environment({', '.join(self._values)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Environment, (self._values,))

    def apply(self) -> None:
        """Apply the values in this process."""
        os.environ.update(self._values)


class Packed:
    """Something that is unpacked only after the environment is set: a store looks for its keys when it is opened."""

    def __init__(self, environment: Environment, content: Any) -> None:
        self._environment = environment
        self._data = cast(bytes, _ray().cloudpickle.dumps(content))

    def open(self) -> Any:
        """Set the environment, and return what was packed."""
        self._environment.apply()
        return _ray().cloudpickle.loads(self._data)


class ShardActor:
    """Runs a worker in a Ray actor; an ordinary error becomes a row, so that no block errs.

    Parameters
    ----------
    packed : Packed
        ``(make_worker, task_type, receipt_type, attempts)``.
    in_flight : int
        How many tasks Ray may give it at once.
    """

    def __init__(self, packed: Packed, in_flight: int) -> None:
        context = _ray().get_runtime_context()
        if not _ray().get_gpu_ids():
            # Versions of Ray differ in whether they hide the GPUs from a worker that asked for none.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._node = str(context.get_node_id())
        self._host = str(_ray().util.get_node_ip_address())
        make_worker, task_type, receipt_type, attempts = packed.open()
        self._attempts = cast(AttemptLog, attempts)
        self._tasks: TypeAdapter[Any] = TypeAdapter(task_type)
        self._receipts: TypeAdapter[Any] = TypeAdapter(receipt_type)
        self._single = in_flight == 1
        self._run_lock = SharedExclusiveLock()
        self._error: Exception | None = None
        try:
            self._worker = Pipelined(make_worker())
        except Exception as error:  # noqa: BLE001 - Ray would start the actor again and again
            self._error = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run the tasks of a batch; each row of the result is a receipt, an error or a quarantined shard, as JSON.

        Ray calls this from several threads where the worker has several tasks in flight.
        """
        rows = [self._run(str(text)) for text in batch["task"]]
        return {name: [row[name] for row in rows] for name in ("receipt", "failure", "quarantined", "node")}

    def _run(self, text: str) -> dict[str, str]:
        row = {"receipt": "", "failure": "", "quarantined": "", "node": self._host}
        try:
            if self._error is not None:
                raise self._error
            task = self._tasks.validate_json(text)
            # Ray restarts a dead actor and retries its tasks without end: the recorded attempts decide.
            deaths = self._attempts.deaths(task.key, _lost_nodes)
            verdict = judge(deaths)
            if verdict.quarantined is not None:
                values = (str(task.key), verdict.tries, verdict.quarantined)
                row["quarantined"] = TypeAdapter(tuple[str, int, str]).dump_json(values).decode()
                return row
            with self._run_lock.exclusive() if verdict.alone else self._run_lock.shared():
                alone = verdict.alone or self._single
                with self._attempts.attempt(task.key, node=self._node, host=self._host, alone=alone):
                    receipt = self._worker.run(task)
            row["receipt"] = self._receipts.dump_json(receipt).decode()
            if deaths:
                self._attempts.forget(task.key)
        except Exception as error:  # noqa: BLE001 - any error of a worker must reach the driver as data
            row["failure"] = describe_failure(error)
        return row


class ShardStream:
    """Ray Data over references to shards, row by row as they are done; an actor where the driver is a Ray client.

    Parameters
    ----------
    packed : Packed
        As ``ShardActor`` takes it.
    tasks : list of str
        JSON.
    blocks : int
        How many blocks the references make.
    workers : (int, int)
        The smallest and the largest size of the pool.
    options : mapping
        Resources and environment of a worker, as Ray names them.
    in_flight : int
        Tasks of one worker at once: the next are read and the last ones written while one is computed.
    stall_seconds : float
        Ray Data gives up when nothing was finished for so long.
    """

    def __init__(
        self,
        packed: Packed,
        tasks: list[str],
        *,
        blocks: int,
        workers: tuple[int, int],
        options: Mapping[str, Any],
        in_flight: int,
        stall_seconds: float,
    ) -> None:
        data = cast(Any, require("ray.data", extra="ray", used_for="the engine 'ray'"))
        least, most = workers
        size = {"size": most} if least == most else {"min_size": least, "max_size": most}
        # By itself Ray Data lets one call run at a time, however many tasks an actor has.
        several = {
            "max_tasks_in_flight_per_actor": in_flight,
            "max_concurrent_calls_per_actor": in_flight,
            "enable_true_multi_threading": True,
        }
        pool = data.ActorPoolStrategy(**size, **(several if in_flight > 1 else {}))
        dataset = data.from_items([{"task": task} for task in tasks], override_num_blocks=blocks).map_batches(
            ShardActor, batch_size=1, compute=pool, fn_constructor_args=(packed, in_flight), **options
        )
        context = dataset.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # By itself Ray Data waits for ever: for a node that never comes back, for a process that was paused.
        context.execution_no_progress_timeout_s = stall_seconds
        # A node that is lost while its workers start is no reason to end the others.
        context.max_consecutive_actor_init_deaths = 3 * most
        self._rows = iter(dataset.iter_rows())

    def next(self) -> dict[str, str] | None:
        """Return the next row that is done, or None after the last."""
        return next(self._rows, None)


class StageActor:
    """The one worker of a global stage; it is asked for its progress while it works.

    Parameters
    ----------
    packed : Packed
        ``(make, context)``.
    threads : int or None
        The setting, by default the CPUs that Ray assigned.
    """

    def __init__(self, packed: Packed, threads: int | None) -> None:
        self._packed = packed
        self._threads = threads
        self._progress = (0, 0)
        self._notices: list[str] = []
        self._lock = threading.Lock()

    def ready(self) -> tuple[str, str]:
        """Confirm the resources: return the version that runs here, and the node."""
        return __version__, str(_ray().get_runtime_context().get_node_id())

    def run(self) -> tuple[Any, str, str]:
        """Call the function; returns its result, its failure and the node's address."""
        host = str(_ray().util.get_node_ip_address())
        try:
            make, context = self._packed.open()
            return make(self._here(context)), "", host
        except Exception as error:  # noqa: BLE001 - what Ray raises itself must mean that the worker was lost
            return None, describe_failure(error), host

    def state(self, heard: int) -> tuple[tuple[int, int], list[str]]:
        """Steps done and steps in all; and the notices after the first ``heard``."""
        with self._lock:
            return self._progress, self._notices[heard:]

    def _here(self, context: StageContext) -> StageContext:
        given = cast("dict[str, float]", _ray().get_runtime_context().get_assigned_resources())
        return context.at(
            threads=self._threads or max(1, int(given.get("CPU", 0.0))),
            memory=float(given.get("memory", 0.0)) or available_memory(),
            device="cuda:0" if _ray().get_gpu_ids() else "cpu",
            scratch=scratch_folder(),
            progress=self._note,
            notice=self._tell,
        )

    def _note(self, done: int, total: int) -> None:
        with self._lock:
            self._progress = (done, total)

    def _tell(self, text: str) -> None:
        with self._lock:
            self._notices.append(text)


def probe_place(cpus: float) -> str:
    """Measure what a worker has here, as JSON."""
    given = cast("dict[str, float]", _ray().get_runtime_context().get_assigned_resources())
    memory = float(given.get("memory", 0.0)) or available_memory()
    ids = [str(one) for one in _ray().get_gpu_ids()]
    name = f"the node {_ray().util.get_node_ip_address()}"
    place = measure_place(cpus=cpus, memory_bytes=memory, gpu_ids=ids, name=name)
    return TypeAdapter(Place).dump_json(place).decode()


def release_on_node(packed: Packed) -> None:
    """Remove from this node the vectors of a workspace that no process uses any more."""
    release_vectors(cast(Store, packed.open()))


def probe_worker() -> str:
    """Return the worker's version of this package."""
    return __version__


def _lost_nodes() -> set[str]:
    return {str(node["NodeID"]) for node in _ray().nodes() if not node["Alive"]}


def _ray() -> Any:
    return cast(Any, require("ray", extra="ray", used_for="the engine 'ray'"))
