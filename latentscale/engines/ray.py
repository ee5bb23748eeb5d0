"""Run stages on a Ray cluster: Ray Data over shard references, an actor pool, and one task for each global stage."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from latentscale import errors
from latentscale.config import EngineConfig
from latentscale.engines import Quarantined
from latentscale.errors import EnvironmentFailure, LatentScaleError, ResourceError, StorageError, require
from latentscale.storage.attempts import AttemptLog

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Result = TypeVar("Result")

# Up to here each reference is a block of its own; Ray Data costs about 8 ms a block, so larger plans share blocks.
SINGLE_BLOCKS = 10_000
REFERENCES_A_BLOCK = 8
PROBE_SECONDS = 10.0


class ShardActor:
    """Runs a worker in a Ray actor; an ordinary error becomes a receipt, so that no block errs."""

    def __init__(
        self,
        make_worker: Callable[[], Callable[[Any], Any]],
        task_type: Any,
        receipt_type: Any,
        attempts: AttemptLog,
    ) -> None:
        self._attempts = attempts
        self._tasks = TypeAdapter(task_type)
        self._receipts = TypeAdapter(receipt_type)
        self._error: LatentScaleError | None = None
        try:
            self._worker = make_worker()
        except LatentScaleError as error:
            self._error = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Run the tasks of a batch; each row of the result is a receipt or an error, as JSON."""
        receipts: list[str] = []
        failures: list[str] = []
        for text in batch["task"]:
            receipt, failure = "", ""
            try:
                if self._error is not None:
                    raise self._error
                task = self._tasks.validate_json(text)
                # Ray starts a dead actor, and tries its task, again for ever: what counts is what the tries left.
                with self._attempts.attempt(task.key):
                    receipt = self._receipts.dump_json(self._worker(task)).decode()
            except LatentScaleError as error:
                failure = _describe(error)
            except Exception as error:  # noqa: BLE001 - any error of a worker must reach the driver as data
                failure = _describe(
                    EnvironmentFailure(f"a worker failed with {type(error).__name__}: {error}", where=str(text)[:200])
                )
            receipts.append(receipt)
            failures.append(failure)
        return {"receipt": receipts, "failure": failures}


def _probe(address: str | None) -> None:
    """Refuse an address where nothing listens: Ray itself would wait for minutes."""
    host, separator, port = (address or "").removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS):
            return
    except OSError as error:
        raise ResourceError(
            f"no Ray cluster answers at {address}: {error.strerror or error}",
            hint="Check engine.address, and that the cluster's head node runs.",
        ) from error


def _describe(error: LatentScaleError) -> str:
    values = (type(error).__name__, error.message, error.where, error.hint)
    return TypeAdapter(tuple[str, str, str | None, str | None]).dump_json(values).decode()


def _raise(failure: str) -> None:
    name, message, where, hint = TypeAdapter(tuple[str, str, str | None, str | None]).validate_json(failure)
    kind = getattr(errors, name, EnvironmentFailure)
    raise cast(type[LatentScaleError], kind)(message, where=where, hint=hint)


class RayEngine:
    """Shard stages as Ray Data over references, global stages as Ray tasks.

    Parameters
    ----------
    config : EngineConfig
        ``address`` of a running cluster; without one, a cluster is started on this machine and ended by ``close``.

    Raises
    ------
    MissingPackageError
        If Ray is not installed.
    ResourceError
        If the cluster cannot be reached, or has no processor.
    """

    name = "ray"

    def __init__(self, config: EngineConfig) -> None:
        # Ray's C++ side prints warnings of its own to the terminal; what matters reaches us as an exception.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        # A run asks nobody outside for anything, and reports nothing to anybody.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = cast(Any, require("ray", extra="ray", used_for="the engine 'ray'"))
        self._data = cast(Any, require("ray.data", extra="ray", used_for="the engine 'ray'"))
        self._started = not self._ray.is_initialized()
        if self._started:
            _probe(config.address)
            try:
                self._ray.init(
                    address=config.address,
                    include_dashboard=None if config.address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    configure_logging=True,
                )
            except (ConnectionError, RuntimeError, ValueError) as error:
                place, reason = config.address or "this machine", " ".join(str(error).split())[:300]
                raise ResourceError(
                    f"no Ray cluster answers at {place}: {reason}",
                    hint="Check engine.address, that the cluster's Ray version is the one installed here, and, where "
                    "it wants a token, that RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH are set.",
                ) from error
        context = self._data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._cpus = int(self._ray.cluster_resources().get("CPU", 0))
        if self._cpus < 1:
            self.close()
            raise ResourceError("the Ray cluster has no processor", hint="Start a node with --num-cpus of 1 or more.")
        self._workers = min(config.workers or self._cpus, self._cpus)

    def describe(self) -> dict[str, Any]:
        """What runs the work, for the run's record."""
        return {
            "engine": self.name,
            "nodes": len([node for node in self._ray.nodes() if node["Alive"]]),
            "resources": {k: v for k, v in self._ray.cluster_resources().items() if not k.startswith("node:")},
            "workers": self._workers,
        }

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
        """Run an actor pool over references to shards; receipts come in the order in which they are done."""
        if not tasks:
            return
        adapter = TypeAdapter(task_type)
        blocks = len(tasks) if len(tasks) <= SINGLE_BLOCKS else -(-len(tasks) // REFERENCES_A_BLOCK)
        items = [{"task": adapter.dump_json(task).decode()} for task in tasks]
        dataset = self._data.from_items(items, override_num_blocks=blocks).map_batches(
            ShardActor,
            batch_size=1,
            num_cpus=1,
            compute=self._data.ActorPoolStrategy(size=min(self._workers, blocks)),
            fn_constructor_args=(make_worker, task_type, receipt_type, attempts),
        )
        receipts = TypeAdapter(receipt_type)
        for row in dataset.iter_rows():
            if row["failure"]:
                _raise(row["failure"])
            yield receipts.validate_json(row["receipt"])

    def call(
        self, function: Callable[..., Result], *, stage: str, progress: Callable[[int, int], None] | None = None
    ) -> Result:
        """Run the function as one Ray task that takes the processors of its node; it reports no progress."""
        # The actors of the stage before may still be ending; a task that asks for what the largest node has can wait.
        cpus = max(
            (int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"]), default=self._cpus
        )
        task = self._ray.remote(num_cpus=max(cpus, 1), max_retries=0)(_call)
        try:
            result, failure = self._ray.get(task.remote(function))
        except self._ray.exceptions.RayError as error:
            raise StorageError(
                f"the worker of a global stage was lost: {' '.join(str(error).split())[:300]}",
                hint="Run the same command again; it goes on where it stopped.",
            ) from error
        if failure:
            _raise(failure)
        return cast(Result, result)

    def close(self) -> None:
        """End the connection, and the cluster if this engine started it."""
        if self._started:
            self._ray.shutdown()


def _call(function: Callable[..., Any]) -> tuple[Any, str]:
    try:
        return function(), ""
    except LatentScaleError as error:
        return None, _describe(error)
