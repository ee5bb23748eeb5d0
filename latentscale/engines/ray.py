"""Run stages on a Ray cluster: Ray Data over shard references, an actor pool, and one actor for each global stage."""

from __future__ import annotations

import inspect
import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import TypeAdapter

import latentscale
from latentscale.config import EngineConfig, check_runtime_env
from latentscale.engines import Quarantined
from latentscale.engines.ray_contact import (
    CLIENT,
    INITIALISED,
    connected_cluster,
    explain,
    prepare_environment,
    reach_cluster,
    refuse_late_environment,
)
from latentscale.engines.ray_workers import (
    Environment,
    Packed,
    ShardStream,
    StageActor,
    probe_worker,
    raise_failure,
)
from latentscale.engines.requests import Request, check_requests, request_of, workers_of
from latentscale.errors import (
    ConfigError,
    EnvironmentFailure,
    LatentScaleError,
    MissingPackageError,
    ResourceError,
    StorageError,
    require,
)
from latentscale.storage.attempts import AttemptLog

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Result = TypeVar("Result")

# Up to here each reference is a block of its own; Ray Data costs about 8 ms a block, so larger plans share blocks.
SINGLE_BLOCKS = 10_000
REFERENCES_A_BLOCK = 8
# A global stage is idempotent: where its worker is lost it is done again, so often in all.
STAGE_TRIES = 3
PROGRESS_SECONDS = 1.0
# After so long somebody is told that the run waits for others.
PATIENCE_SECONDS = 10.0


class RayEngine:
    """Shard stages as Ray Data over references, global stages as one Ray actor each.

    Parameters
    ----------
    config : EngineConfig
        ``address`` of a running cluster; without one, a cluster is started on this machine and ended by ``close``.
    say : callable, optional
        Told what a person should know, such as that the run waits for resources.

    Raises
    ------
    ConfigError
        If this process has called ``ray.init()`` already and the settings ask for another cluster or environment.
    MissingPackageError
        If Ray is not installed.
    ResourceError
        If the cluster cannot be reached, wants another token or version, or can never give what the stages ask for.
    """

    name = "ray"

    def __init__(self, config: EngineConfig, *, say: Callable[[str], None] | None = None) -> None:
        prepare_environment()
        self._config = config
        self._say = say or logging.getLogger(__name__).warning
        self._ray = cast(Any, require("ray", extra="ray", used_for="the engine 'ray'"))
        require("ray.data", extra="ray", used_for="the engine 'ray'")
        self._environment = Environment(passed_environment(config))
        runtime_env = read_runtime_env(config)
        self._started = not self._ray.is_initialized()
        self._place = self._connect(runtime_env)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._is_client = bool(self._ray.util.client.ray.is_connected())
        self._hosts: dict[str, Counter[str]] = {}
        try:
            self._cluster = connected_cluster(self._place)
            check_requests(config, self._cluster)
        except LatentScaleError:
            self.close()
            raise

    def describe(self) -> dict[str, Any]:
        """What runs the work, for the run's record: the cluster, and how many shards each of its nodes did."""
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        totals: Counter[str] = Counter()
        for node in nodes:
            totals.update(
                {key: value for key, value in node["Resources"].items() if not key.startswith(("node:", "accelerator"))}
            )
        return {
            "engine": self.name,
            "address": self._place,
            "submission": _submission(),
            "ray": self._ray.__version__,
            "nodes": len(nodes),
            "resources": dict(totals),
            "workers": {
                stage: workers_of(self._config, request_of(self._config, stage, self._cluster), self._cluster)[1]
                for stage in ("ingest", "embed")
            },
            "hosts": {stage: dict(sorted(hosts.items())) for stage, hosts in self._hosts.items()},
        }

    def threads(self, stage: str) -> int:
        """How many threads a stage may use: the processors of its worker."""
        return self._config.threads or max(1, int(self._request(stage).cpus))

    def memory(self, stage: str) -> float:
        """Bytes of memory of the largest node that the stage may run on."""
        request = self._request(stage)
        return max(
            (node.resources.get("memory", 0.0) for node in self._cluster.possible if request.fits(node)), default=0.0
        )

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
        self._cluster = connected_cluster(self._place)
        request = self._request(stage)
        self._await_room(request)
        adapter = TypeAdapter(task_type)
        least, most = workers_of(self._config, request, self._cluster)
        blocks = len(tasks) if len(tasks) <= SINGLE_BLOCKS else -(-len(tasks) // REFERENCES_A_BLOCK)
        settings: dict[str, Any] = {
            "blocks": blocks,
            "workers": (min(least, blocks), min(most, blocks)),
            "options": request.ray_options(),
            "stall_seconds": self._config.stall_seconds,
        }
        packed = Packed(self._environment, (make_worker, task_type, receipt_type, attempts))
        references = [adapter.dump_json(task).decode() for task in tasks]
        receipts = TypeAdapter(receipt_type)
        hosts = self._hosts.setdefault(stage, Counter())
        for row in self._rows(stage, packed, references, settings):
            hosts[row["node"]] += 1
            if row["failure"]:
                raise_failure(row["failure"])
            if row["quarantined"]:
                key, tries, reason = TypeAdapter(tuple[str, int, str]).validate_json(row["quarantined"])
                yield Quarantined(key=key, tries=tries, reason=reason)
            else:
                yield receipts.validate_json(row["receipt"])

    def call(
        self, function: Callable[..., Result], *, stage: str, progress: Callable[[int, int], None] | None = None
    ) -> Result:
        """Run the function in one actor with what its stage asks for; done again where the actor is lost."""
        for left in reversed(range(STAGE_TRIES)):
            self._cluster = connected_cluster(self._place)
            request = self._request(stage)
            packed = Packed(self._environment, _with_threads(function, self.threads(stage)))
            actor = self._ray.remote(max_concurrency=2, max_restarts=0, **request.ray_options())(StageActor).remote(
                packed
            )
            try:
                self._await(actor.ready.remote(), request)
                result, failure, host = self._watch(actor, progress)
            except self._ray.exceptions.RayError as error:
                if isinstance(error, self._ray.exceptions.RayActorError) and left:
                    self._say(f"the worker of stage {request.stage} was lost; it is done again")
                    continue
                raise StorageError(
                    f"the worker of stage {request.stage} was lost {STAGE_TRIES - left} times: {_short(error)}",
                    hint="Run the same command again; it goes on where it stopped. If it was killed for its memory, "
                    f"ask for a larger node: engine.resources.{request.stage}.memory.",
                ) from error
            finally:
                # Its processors are wanted by the next stage.
                self._ray.kill(actor)
            self._hosts.setdefault(stage, Counter())[host] += 1
            if failure:
                raise_failure(failure)
            return cast(Result, result)
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the connection, and the cluster if this engine started it."""
        if self._started:
            self._ray.shutdown()

    def _connect(self, runtime_env: Mapping[str, Any] | None) -> str:
        contact = reach_cluster(self._config.address)
        refuse_late_environment(contact, runtime_env)
        if contact.address == INITIALISED:
            return contact.address
        if contact.cluster is not None:
            check_requests(self._config, contact.cluster)
        started_here = contact.address == "local"
        # Ray takes SIGTERM for itself, and then ends the process with a stack trace and without an answer.
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            self._ray.init(
                address=contact.address,
                include_dashboard=False if started_here else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
                runtime_env=dict(runtime_env) if runtime_env else None,
            )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise explain(error, "this machine" if started_here else contact.address) from error
        except Exception as error:  # Ray's own exceptions have no common base outside Ray
            if type(error).__module__.startswith("ray."):
                raise explain(error, contact.address) from error
            raise
        finally:
            if terminate is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)
        return "a cluster of its own" if started_here else f"Ray at {contact.address.removeprefix(CLIENT)}"

    def _request(self, stage: str) -> Request:
        return request_of(self._config, stage, self._cluster)

    def _rows(
        self, stage: str, packed: Packed, references: list[str], settings: dict[str, Any]
    ) -> Iterator[dict[str, str]]:
        """Rows of Ray Data; it cannot run in a Ray client, whose driver is then an actor of the cluster."""
        actor = None
        try:
            if self._is_client:
                actor = self._ray.remote(num_cpus=0, max_restarts=0)(ShardStream).remote(packed, references, **settings)
                while (row := self._ray.get(actor.next.remote())) is not None:
                    yield row
            else:
                stream = ShardStream(packed, references, **settings)
                while (row := stream.next()) is not None:
                    yield row
        except LatentScaleError:
            raise
        except Exception as error:
            if not _is_from_ray(error):
                raise
            raise self._stage_failure(stage, error) from error
        finally:
            if actor is not None:
                self._ray.kill(actor)

    def _stage_failure(self, stage: str, error: Exception) -> LatentScaleError:
        text = _short(error)
        again = "Run the same command again; it goes on where it stopped."
        if "ExecutionTimeoutError" in text or "made no progress" in text:
            here = connected_cluster(self._place)
            return ResourceError(
                f"stage {stage}: no shard was finished for {self._config.stall_seconds:g} s; the cluster has "
                f"{here.describe()}",
                where=here.place,
                hint=f"If shards take longer, raise engine.stall_seconds; else look for a worker that hangs. {again}",
            )
        return EnvironmentFailure(f"stage {stage} was lost in Ray: {text}", hint=again)

    def _await_room(self, request: Request) -> None:
        """Wait until a worker can start: two idle actors of others that hold all processors would else hang a run."""
        task = self._ray.remote(max_retries=STAGE_TRIES, **request.ray_options())(probe_worker).remote()
        try:
            version = self._await(task, request)
        except self._ray.exceptions.RayError as error:
            raise _worker_trouble(error) from error
        if version != latentscale.__version__:
            raise EnvironmentFailure(
                f"the workers of the cluster have LatentScale {version}, this process {latentscale.__version__}",
                hint="Install the same version on all nodes, or send it with engine.runtime_env.",
            )

    def _await(self, reference: Any, request: Request) -> Any:
        began, told = time.monotonic(), False
        while True:
            left = self._config.wait_seconds - (time.monotonic() - began)
            ready, _ = self._ray.wait([reference], timeout=max(0.0, min(left, PATIENCE_SECONDS)))
            if ready:
                return self._ray.get(reference)
            if left <= 0:
                self._ray.cancel(reference, force=False)
                free = self._free()
                raise ResourceError(
                    f"stage {request.stage} waits for {request.describe()} since {self._config.wait_seconds:g} s: the "
                    f"cluster has {self._cluster.describe()}, of which {free} are free",
                    where=self._place,
                    hint="Others hold the rest: wait for them, ask for less, or raise engine.wait_seconds.",
                )
            if not told:
                told = True
                self._say(f"waiting for {request.describe()} on the cluster; {self._free()} are free")

    def _free(self) -> str:
        free = {key: value for key, value in self._ray.available_resources().items() if not key.startswith("node:")}
        return f"{free.get('CPU', 0.0):g} CPU" + (f" and {free['GPU']:g} GPU" if "GPU" in free else "")

    def _watch(self, actor: Any, progress: Callable[[int, int], None] | None) -> tuple[Any, str, str]:
        reference = actor.run.remote(progress is not None)
        while True:
            ready, _ = self._ray.wait([reference], timeout=None if progress is None else PROGRESS_SECONDS)
            if ready:
                return cast("tuple[Any, str, str]", self._ray.get(reference))
            done, total = self._ray.get(actor.progress.remote())
            if progress is not None and total:
                progress(done, total)


def _with_threads(function: Callable[..., Result], threads: int) -> Callable[..., Result]:
    """Give a function that takes a number of threads that of its worker; the driver may have other processors."""
    if not isinstance(function, partial):
        return function
    bound = inspect.signature(function.func).bind_partial(*function.args, **function.keywords)
    if "threads" not in bound.arguments:
        return function
    bound.arguments["threads"] = threads
    return partial(function.func, *bound.args, **bound.kwargs)


def _submission() -> str | None:
    """The id under which `ray job submit` started this process, if it did."""
    try:
        job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
    except json.JSONDecodeError:
        return None
    return cast("str | None", job.get("metadata", {}).get("job_submission_id"))


def passed_environment(config: EngineConfig) -> dict[str, str]:
    """The values of the variables that ``engine.pass_environment`` names.

    Raises
    ------
    ConfigError
        Naming a variable that is not set.
    """
    missing = [name for name in config.pass_environment if name not in os.environ]
    if missing:
        raise ConfigError(
            f"engine.pass_environment names {', '.join(missing)}, which is not set here",
            hint="Set it, or take its name away.",
        )
    return {name: os.environ[name] for name in config.pass_environment}


def read_runtime_env(config: EngineConfig) -> dict[str, Any] | None:
    """Read ``engine.runtime_env``: the settings themselves, or the YAML or JSON file that is named.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds a variable that looks like a secret.
    """
    given = config.runtime_env
    if given is None or not isinstance(given, str):
        return None if given is None else dict(given)
    try:
        # JSON is YAML.
        values = yaml.safe_load(Path(given).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read engine.runtime_env {given}: {_short(error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"engine.runtime_env {given} holds no settings")
    try:
        check_runtime_env(cast("dict[str, Any]", values))
    except ValueError as error:
        raise ConfigError(str(error), where=given) from error
    return cast("dict[str, Any]", values)


def _worker_trouble(error: Exception) -> LatentScaleError:
    text = _short(error)
    if "ModuleNotFoundError" in text or "No module named" in text:
        return MissingPackageError(
            f"the workers of the cluster lack a package: {text[-200:]}",
            hint="Install LatentScale on all nodes (the same image), or send it with engine.runtime_env.",
        )
    if "RuntimeEnvSetupError" in type(error).__name__:
        return ConfigError(f"Ray cannot make the runtime environment: {text}", hint="Check engine.runtime_env.")
    return EnvironmentFailure(
        f"no worker can start on the cluster: {text}", hint="Look at Ray's logs; then run the same command again."
    )


def _is_from_ray(error: Exception) -> bool:
    return any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
