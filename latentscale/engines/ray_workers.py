"""What runs inside the processes of a Ray cluster: workers of shards, the one worker of a global stage, and a probe."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import TypeAdapter

import latentscale
from latentscale import errors
from latentscale.errors import EnvironmentFailure, LatentScaleError, require
from latentscale.storage.attempts import MAX_ATTEMPTS, AttemptLog

_FAILURE: TypeAdapter[tuple[str, str, str | None, str | None]] = TypeAdapter(tuple[str, str, str | None, str | None])


class Environment:
    """Environment variables on their way to a worker; their values are in no ``repr``."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def __repr__(self) -> str:
        return f"Environment({', '.join(self._values)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Environment, (self._values,))

    def apply(self) -> None:
        """Set them in this process."""
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
    """

    def __init__(self, packed: Packed) -> None:
        context = _ray().get_runtime_context()
        self._node = str(context.get_node_id())
        self._host = str(_ray().util.get_node_ip_address())
        make_worker, task_type, receipt_type, attempts = packed.open()
        self._attempts = cast(AttemptLog, attempts)
        self._tasks: TypeAdapter[Any] = TypeAdapter(task_type)
        self._receipts: TypeAdapter[Any] = TypeAdapter(receipt_type)
        self._error: LatentScaleError | None = None
        try:
            self._worker = cast(Callable[[Any], Any], make_worker())
        except LatentScaleError as error:
            self._error = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run the tasks of a batch; each row of the result is a receipt, an error or a shard given up, as JSON."""
        rows = [self._run(str(text)) for text in batch["task"]]
        return {name: [row[name] for row in rows] for name in ("receipt", "failure", "quarantined", "node")}

    def _run(self, text: str) -> dict[str, str]:
        row = {"receipt": "", "failure": "", "quarantined": "", "node": self._host}
        try:
            if self._error is not None:
                raise self._error
            task = self._tasks.validate_json(text)
            # Ray starts a dead actor, and tries its task, again for ever: what counts is what the tries left.
            deaths = self._attempts.deaths(task.key, _lost_nodes)
            if len(deaths) >= MAX_ATTEMPTS:
                places = "; ".join(one.describe() for one in deaths)
                values = (str(task.key), len(deaths), f"its worker died {len(deaths)} times: {places}")
                row["quarantined"] = TypeAdapter(tuple[str, int, str]).dump_json(values).decode()
                return row
            with self._attempts.attempt(task.key, node=self._node, host=self._host):
                row["receipt"] = self._receipts.dump_json(self._worker(task)).decode()
        except LatentScaleError as error:
            row["failure"] = describe_failure(error)
        except Exception as error:  # noqa: BLE001 - any error of a worker must reach the driver as data
            row["failure"] = describe_failure(
                EnvironmentFailure(f"a worker failed with {type(error).__name__}: {error}", where=text[:200])
            )
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
        Resources of a worker, as Ray names them.
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
        stall_seconds: float,
    ) -> None:
        data = cast(Any, require("ray.data", extra="ray", used_for="the engine 'ray'"))
        least, most = workers
        pool = (
            data.ActorPoolStrategy(size=most)
            if least == most
            else data.ActorPoolStrategy(min_size=least, max_size=most)
        )
        dataset = data.from_items([{"task": task} for task in tasks], override_num_blocks=blocks).map_batches(
            ShardActor, batch_size=1, compute=pool, fn_constructor_args=(packed,), **options
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
        The function.
    """

    def __init__(self, packed: Packed) -> None:
        self._packed = packed
        self._progress = (0, 0)
        self._lock = threading.Lock()

    def ready(self) -> str:
        """Say that the resources are there, and which version runs here."""
        return latentscale.__version__

    def run(self, with_progress: bool) -> tuple[Any, str, str]:
        """Call the function; returns its result, its failure and the node's address."""
        host = str(_ray().util.get_node_ip_address())
        try:
            function = self._packed.open()
            return (function(progress=self._note) if with_progress else function()), "", host
        except LatentScaleError as error:
            return None, describe_failure(error), host

    def progress(self) -> tuple[int, int]:
        """Steps done, and steps in all."""
        with self._lock:
            return self._progress

    def _note(self, done: int, total: int) -> None:
        with self._lock:
            self._progress = (done, total)


def probe_worker() -> str:
    """Say which version of this package a worker has."""
    return latentscale.__version__


def describe_failure(error: LatentScaleError) -> str:
    """Write an error as JSON."""
    return _FAILURE.dump_json((type(error).__name__, error.message, error.where, error.hint)).decode()


def raise_failure(failure: str) -> None:
    """Raise what ``describe_failure`` wrote.

    Raises
    ------
    LatentScaleError
        Of the kind it was.
    """
    name, message, where, hint = _FAILURE.validate_json(failure)
    kind = getattr(errors, name, EnvironmentFailure)
    raise cast(type[LatentScaleError], kind)(message, where=where, hint=hint)


def _lost_nodes() -> set[str]:
    return {str(node["NodeID"]) for node in _ray().nodes() if not node["Alive"]}


def _ray() -> Any:
    return cast(Any, require("ray", extra="ray", used_for="the engine 'ray'"))
