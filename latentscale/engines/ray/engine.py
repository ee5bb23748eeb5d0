"""Run stages on a Ray cluster: Ray Data over shard references, an actor pool, and one actor for each global stage."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from latentscale.config import EngineConfig
from latentscale.engines.choice import submitted_job
from latentscale.engines.failures import raise_failure
from latentscale.engines.pipelined import tasks_in_flight
from latentscale.engines.protocol import Quarantined, ShardWorker
from latentscale.engines.ray.contact import (
    CLIENT,
    INITIALISED,
    STARTED_LATE,
    connected_cluster,
    explain,
    prepare_environment,
    reach_cluster,
    refuse_late_environment,
)
from latentscale.engines.ray.environment import (
    check_environments,
    passed_environment,
    read_runtime_env,
    refuse_with_image,
    stage_runtime_env,
)
from latentscale.engines.ray.workers import (
    Environment,
    Packed,
    ShardStream,
    StageActor,
    probe_place,
    probe_worker,
    release_on_node,
)
from latentscale.engines.resources import (
    GLOBAL_STAGES,
    OWN_PROCESSOR,
    SHARD_STAGES,
    Request,
    check_requests,
    check_started_workers,
    gpu_notices,
    replicas_of,
    request_of,
    workers_of,
)
from latentscale.errors import (
    ConfigError,
    EnvironmentFailure,
    LatentScaleError,
    MissingPackageError,
    ResourceError,
    StorageError,
    require,
)
from latentscale.machine import Place
from latentscale.registry import resources_of
from latentscale.stages.context import StageContext, ignore_notice, ignore_progress
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.objects import Store
from latentscale.version import __version__

Task = TypeVar("Task")
Receipt = TypeVar("Receipt")
Result = TypeVar("Result")

# Up to here each reference is a block of its own; Ray Data costs about 8 ms a block, so larger plans share blocks.
SINGLE_BLOCKS = 10_000
REFERENCES_A_BLOCK = 8
# A global stage is idempotent: where its worker is lost it is retried, up to this many attempts in all.
STAGE_TRIES = 3
PROGRESS_SECONDS = 1.0
# How long a stage waits for the node of the stage before it; then any other node will do.
SAME_NODE_SECONDS = 10.0
# How long the end of a run waits for other nodes to remove their scratch files.
RELEASE_SECONDS = 10.0
# After so long a notice says that the run waits for others.
NOTICE_AFTER_SECONDS = 10.0


class RayEngine:
    """Shard stages as Ray Data over references, global stages as one Ray actor each.

    Parameters
    ----------
    config : EngineConfig
        ``address`` of a running cluster; without one, a cluster is started on this machine and ended by ``close``.
    on_notice : callable, optional
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

    def __init__(self, config: EngineConfig, *, on_notice: Callable[[str], None] | None = None) -> None:
        prepare_environment()
        self._config = config
        self._on_notice = on_notice or logging.getLogger(__name__).warning
        self._ray = cast(Any, require("ray", extra="ray", used_for="the engine 'ray'"))
        require("ray.data", extra="ray", used_for="the engine 'ray'")
        check_environments(config)
        self._environment = Environment(passed_environment(config))
        self._places: dict[str, Place] = {}
        self._nodes: dict[str, Store] = {}
        self._last_node: str | None = None
        runtime_env = read_runtime_env(config)
        self._started = not self._ray.is_initialized()
        self._place = self._connect(runtime_env)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        self._is_client = bool(self._ray.util.client.ray.is_connected())
        self._hosts: dict[str, Counter[str]] = {}
        try:
            self._cluster = connected_cluster(self._place)
            check_requests(config, self._cluster)
            self._check_images()
            for sentence in gpu_notices(config, self._cluster):
                self._on_notice(sentence)
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
            "submission": submitted_job(),
            "ray": self._ray.__version__,
            "nodes": len(nodes),
            "resources": dict(totals),
            "workers": {
                stage: workers_of(self._config, request_of(self._config, stage, self._cluster), self._cluster)[1]
                for stage in SHARD_STAGES
            },
            "hosts": {stage: dict(sorted(hosts.items())) for stage, hosts in self._hosts.items()},
        }

    def place(self, stage: str) -> Place:
        """Measure a place with what a worker of ``stage`` gets, in a worker of its own."""
        name = resources_of(stage)
        if name not in self._places:
            request = self._request(stage)
            task = self._ray.remote(max_retries=STAGE_TRIES, **self._options(request))(probe_place).remote(request.cpus)
            try:
                answer = self._await(task, request)
            except self._ray.exceptions.RayError as error:
                raise _worker_trouble(error) from error
            self._places[name] = TypeAdapter(Place).validate_json(answer)
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
            "options": self._options(request),
            "in_flight": tasks_in_flight(make_worker),
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
        self,
        make: Callable[[StageContext], Result],
        context: StageContext,
        *,
        stage: str,
        progress: Callable[[int, int], None] | None = None,
        starts_workers: bool = False,
    ) -> Result:
        """Run the function in one actor with what its stage asks for; retried where the actor is lost."""
        # The driver's callbacks cannot travel, nor what is known of this machine.
        away = context.at(progress=ignore_progress, notice=ignore_notice, scratch=None)
        if starts_workers:
            check_started_workers(self._config, stage, connected_cluster(self._place))
            away = away.at(replicas=replicas_of(self._config, self._request(stage)))
        packed = Packed(self._environment, (make, away))
        for left in reversed(range(STAGE_TRIES)):
            self._cluster = connected_cluster(self._place)
            request = Request(stage=stage, resources=OWN_PROCESSOR) if starts_workers else self._request(stage)
            options = {"max_concurrency": 2, "max_restarts": 0, **self._options(request)}
            actor = self._stage_actor(options, packed)
            try:
                version, node = self._await(actor.ready.remote(), request)
                self._check_version(version)
                self._nodes[node] = context.store
                self._last_node = node
                result, failure, host = self._watch(actor, progress)
            except self._ray.exceptions.RayError as error:
                if _cannot_start(error):
                    raise _worker_trouble(error) from error
                if isinstance(error, self._ray.exceptions.RayActorError) and left:
                    self._on_notice(f"the worker of stage {request.stage} was lost; the stage is restarted")
                    continue
                raise StorageError(
                    f"the worker of stage {request.stage} was lost {STAGE_TRIES - left} times: {_short(error)}",
                    hint="Run the same command again; it resumes where it stopped. If it was killed for its memory, "
                    f"ask for a larger node: engine.resources.{request.stage}.memory.",
                ) from error
            finally:
                # The next stage needs its CPUs.
                self._ray.kill(actor)
            self._hosts.setdefault(stage, Counter())[host] += 1
            if failure:
                raise_failure(failure)
            return cast(Result, result)
        raise AssertionError("unreachable")

    def _stage_actor(self, options: Mapping[str, Any], packed: Packed) -> Any:
        """Start the worker of a stage, where the previous one ran if there is room soon: that node has the vectors."""
        if self._last_node is not None:
            strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                node_id=self._last_node, soft=True
            )
            actor = self._ray.remote(**options, scheduling_strategy=strategy)(StageActor).remote(
                packed, self._config.threads
            )
            # The worker before this one was ended a moment ago, and others may want its place.
            ready, _ = self._ray.wait([actor.ready.remote()], timeout=SAME_NODE_SECONDS)
            if ready:
                return actor
            self._ray.kill(actor)
        return self._ray.remote(**options)(StageActor).remote(packed, self._config.threads)

    def _release(self) -> None:
        """Remove from other nodes the vectors that the stages of this run shared there."""
        here = str(self._ray.get_runtime_context().get_node_id())
        alive = {str(node["NodeID"]) for node in self._ray.nodes() if node["Alive"]}
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        waiting = [
            self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy(node_id=node, soft=False))(
                release_on_node
            ).remote(Packed(self._environment, store))
            for node, store in self._nodes.items()
            if node in alive and node != here
        ]
        # The rest is removed a day later, by the next run there: no run fails for it.
        self._ray.wait(waiting, num_returns=len(waiting), timeout=RELEASE_SECONDS) if waiting else None

    def close(self) -> None:
        """End the connection, and the cluster if this engine started it."""
        if self._nodes:
            with contextlib.suppress(self._ray.exceptions.RayError, RuntimeError, ConnectionError):
                self._release()
            self._nodes = {}
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
            if STARTED_LATE in str(error):
                # What did start of a cluster of its own is ended with it.
                self._ray.shutdown()
                raise explain(error, "this machine") from error
            if type(error).__module__.startswith("ray."):
                raise explain(error, contact.address) from error
            raise
        finally:
            if terminate is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)
        return "a cluster of its own" if started_here else f"Ray at {contact.address.removeprefix(CLIENT)}"

    def _request(self, stage: str) -> Request:
        return request_of(self._config, stage, self._cluster)

    def _options(self, request: Request) -> dict[str, Any]:
        """Options of a Ray task or actor: what it asks for, and its stage's environment."""
        runtime_env = stage_runtime_env(self._config, request.stage)
        return request.ray_options() | ({"runtime_env": runtime_env} if runtime_env else {})

    def _check_images(self) -> None:
        """Refuse an image together with what the job or ``ray.init()`` gives to all workers."""
        if self._is_client or (self._place != INITIALISED and not submitted_job()):
            return
        inherited = dict(self._ray.get_runtime_context().runtime_env)
        for stage in (*SHARD_STAGES, *GLOBAL_STAGES):
            if "image_uri" in stage_runtime_env(self._config, stage):
                refuse_with_image(inherited, f"the runtime environment of the job, which {stage} inherits")

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
        again = "Run the same command again; it resumes where it stopped."
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
        """Wait until a worker can start: idle actors of others that hold all CPUs would otherwise hang the run."""
        task = self._ray.remote(max_retries=STAGE_TRIES, **self._options(request))(probe_worker).remote()
        try:
            version = self._await(task, request)
        except self._ray.exceptions.RayError as error:
            raise _worker_trouble(error) from error
        self._check_version(version)

    def _check_version(self, version: str) -> None:
        if version != __version__:
            raise EnvironmentFailure(
                f"the workers of the cluster have LatentScale {version}, this process {__version__}",
                hint="Install the same version on all nodes, or send it with engine.runtime_env.",
            )

    def _await(self, reference: Any, request: Request) -> Any:
        began, reported = time.monotonic(), False
        while True:
            left = self._config.wait_seconds - (time.monotonic() - began)
            ready, _ = self._ray.wait([reference], timeout=max(0.0, min(left, NOTICE_AFTER_SECONDS)))
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
            if not reported:
                reported = True
                self._on_notice(f"waiting for {request.describe()} on the cluster; {self._free()} are free")

    def _free(self) -> str:
        free = {key: value for key, value in self._ray.available_resources().items() if not key.startswith("node:")}
        return f"{free.get('CPU', 0.0):g} CPU" + (f" and {free['GPU']:g} GPU" if "GPU" in free else "")

    def _watch(self, actor: Any, progress: Callable[[int, int], None] | None) -> tuple[Any, str, str]:
        reference = actor.run.remote()
        heard = 0
        while True:
            ready, _ = self._ray.wait([reference], timeout=PROGRESS_SECONDS)
            # A worker that is lost shows here first.
            answer = cast("tuple[Any, str, str] | None", self._ray.get(reference) if ready else None)
            (done, total), notices = self._ray.get(actor.state.remote(heard))
            heard += len(notices)
            for notice in notices:
                self._on_notice(notice)
            if progress is not None and total:
                progress(done, total)
            if answer is not None:
                return answer


def _cannot_start(error: BaseException) -> bool:
    """Whether a worker lacks its environment or this package, which no retry fixes."""
    return "RuntimeEnvSetupError" in type(error).__name__ or "No module named" in str(error)


def _worker_trouble(error: Exception) -> LatentScaleError:
    text = _short(error)
    if "ModuleNotFoundError" in text or "No module named" in text:
        return MissingPackageError(
            f"the workers of the cluster lack a package: {text[-200:]}",
            hint="Install LatentScale on all nodes (the same image), or send it with engine.runtime_env.",
        )
    if "RuntimeEnvSetupError" in type(error).__name__:
        return ConfigError(
            f"Ray cannot make the runtime environment: {text}", hint="Check engine.runtime_env, and that of the stage."
        )
    return EnvironmentFailure(
        f"no worker can start on the cluster: {text}", hint="Look at Ray's logs; then run the same command again."
    )


def _is_from_ray(error: Exception) -> bool:
    return any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
