"""Resource requests of stages, resources of machines, and whether a request can ever be satisfied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from latentscale.config import EngineConfig, StageResources
from latentscale.errors import ResourceError
from latentscale.machine import Replicas
from latentscale.registry import resources_of, stages

# Stages whose workers have resources of their own, by what is done in one go.
SHARD_STAGES = tuple(entry.name for entry in stages() if entry.unit == "shard")
GLOBAL_STAGES = tuple(entry.name for entry in stages() if entry.unit != "shard" and entry.resources is None)

# What a stage takes that starts workers by itself.
OWN_PROCESSOR: Mapping[str, float] = {"CPU": 1.0}
# Resources that Ray adds itself.
_INTERNAL = ("node:", "object_store_memory", "accelerator_type:")


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a cluster, or one kind of nodes that its autoscaler may start.

    Attributes
    ----------
    resources : mapping of str to float
        ``CPU``, ``GPU``, ``memory`` in bytes, and custom ones.
    name : str
        Its address, or the name of the kind.
    count : int
        How many of the kind there may be; -1 without bound.
    """

    resources: Mapping[str, float]
    name: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The resources of a cluster, and those that it may grow to.

    Attributes
    ----------
    nodes : sequence of Node
        Alive now.
    kinds : sequence of Node
        What the autoscaler may have at most, where Ray knows; empty for a cluster of fixed size.
    place : str
        Where it is, for messages.
    """

    nodes: Sequence[Node]
    kinds: Sequence[Node] = ()
    place: str = "this machine"

    @property
    def possible(self) -> Sequence[Node]:
        """The current nodes, and the kinds that the autoscaler may add."""
        return [*self.nodes, *(kind for kind in self.kinds if kind.count)]

    def room(self, request: Request) -> int:
        """How many workers with ``request`` there is room for, now or when the cluster has grown; -1 without bound."""
        grown = request.room(self.kinds)
        return grown if grown < 0 else max(request.room(self.nodes), grown)

    def describe(self) -> str:
        """Describe the cluster in one line: one item for each kind of node."""
        shapes: dict[str, int] = {}
        for node in self.nodes:
            shape = _shape(node.resources)
            shapes[shape] = shapes.get(shape, 0) + 1
        here = ", ".join(f"{count} × ({shape})" for shape, count in shapes.items()) or "no node"
        if not self.kinds:
            return here
        grown = ", ".join(
            f"{'any number of' if kind.count < 0 else kind.count} × {kind.name} ({_shape(kind.resources)})"
            for kind in self.kinds
            if kind.count
        )
        return f"{here}; at most {grown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The resource request of one worker of a stage, in Ray's names.

    Attributes
    ----------
    stage : str
        As in the settings.
    resources : mapping of str to float
        Only what is more than nothing.
    """

    stage: str
    resources: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def cpus(self) -> float:
        """Number of processors."""
        return self.resources.get("CPU", 0.0)

    def describe(self) -> str:
        """Describe the request in one line."""
        return _shape(self.resources)

    def fits(self, node: Node) -> int:
        """How many such workers ``node`` has room for."""
        if not self.resources:
            return 1_000
        return min(int(node.resources.get(name, 0.0) / amount + 1e-9) for name, amount in self.resources.items())

    def room(self, nodes: Sequence[Node]) -> int:
        """How many such workers ``nodes`` have room for; -1 without bound."""
        total = 0
        for node in nodes:
            each = self.fits(node)
            if each and node.count < 0:
                return -1
            total += each * node.count
        return total

    def ray_options(self) -> dict[str, object]:
        """The same as options of a Ray task or actor."""
        custom = {name: value for name, value in self.resources.items() if name not in ("CPU", "GPU", "memory")}
        options: dict[str, object] = {"num_cpus": self.cpus}
        if "GPU" in self.resources:
            options["num_gpus"] = self.resources["GPU"]
        if "memory" in self.resources:
            options["memory"] = self.resources["memory"]
        if custom:
            options["resources"] = custom
        return options


def request_of(config: EngineConfig, stage: str, cluster: Cluster) -> Request:
    """What a worker of ``stage`` asks for: the settings, else a processor for shards and a whole node for the rest."""
    name = resources_of(stage)
    asked: StageResources = getattr(config.resources, name)
    resources = dict(asked.custom)
    gpus = gpus_of(asked, cluster)
    if gpus:
        resources["GPU"] = gpus
    if asked.memory:
        resources["memory"] = float(asked.memory)
    cpus = asked.cpus
    if cpus is None and name in SHARD_STAGES:
        cpus = 1.0
    elif cpus is None:
        # The largest of the nodes that have the rest of what is asked for.
        rest = Request(stage=name, resources=resources)
        able = [node for node in cluster.nodes if rest.fits(node)] or [
            node for node in cluster.possible if rest.fits(node)
        ]
        cpus = max((float(int(node.resources.get("CPU", 0.0))) for node in able), default=0.0) or 1.0
    if cpus:
        resources["CPU"] = cpus
    return Request(stage=name, resources=resources)


def replicas_of(config: EngineConfig, request: Request) -> Replicas:
    """What each worker gets that a stage starts by itself: ``request``, with no more processors than were asked for."""
    asked: StageResources = getattr(config.resources, request.stage)
    return Replicas(
        cpus=asked.cpus,
        gpus=request.resources.get("GPU", 0.0),
        custom=dict(asked.custom),
        stall_seconds=config.stall_seconds,
        workers=asked.workers or 1,
    )


def gpus_of(asked: StageResources, cluster: Cluster) -> float:
    """GPUs of one worker; ``auto`` is one where the cluster has any, or may get any, else none."""
    if asked.gpus == "auto":
        return 1.0 if _has_gpu(cluster) else 0.0
    return asked.gpus or 0.0


def gpu_notices(config: EngineConfig, cluster: Cluster) -> list[str]:
    """What ``gpus: auto`` became, a sentence for each stage that asks for it."""
    sentences: list[str] = []
    for stage in (*SHARD_STAGES, *GLOBAL_STAGES):
        asked: StageResources = getattr(config.resources, stage)
        if asked.gpus == "auto":
            became = "a GPU for each worker" if _has_gpu(cluster) else f"on processors, as {cluster.place} has no GPU"
            sentences.append(f"{stage}: {became} (engine.resources.{stage}.gpus is auto)")
    return sentences


def _has_gpu(cluster: Cluster) -> bool:
    return any(node.resources.get("GPU", 0.0) >= 1 for node in cluster.possible)


def workers_of(config: EngineConfig, request: Request, cluster: Cluster) -> tuple[int, int]:
    """The smallest and the largest number of workers of a shard stage."""
    asked: StageResources = getattr(config.resources, request.stage)
    fixed = asked.workers or (None if asked.min_workers or asked.max_workers else config.workers)
    if fixed:
        return fixed, fixed
    now, most = max(request.room(cluster.nodes), 1), cluster.room(request)
    # Where the autoscaler has no bound, the current nodes count, and more where more is requested.
    limit = asked.max_workers or (now if most < 0 else max(most, 1))
    if most >= 0:
        limit = min(limit, max(most, 1))
    fixed_size = not cluster.kinds and asked.max_workers is None and asked.min_workers is None
    return min(asked.min_workers or (limit if fixed_size else 1), limit), limit


def check_requests(config: EngineConfig, cluster: Cluster) -> None:
    """Refuse a request that the cluster can never satisfy, before any work.

    Raises
    ------
    ResourceError
        Saying the stage, what it asks for and what there is.
    """
    for stage in (*SHARD_STAGES, *GLOBAL_STAGES):
        asked: StageResources = getattr(config.resources, stage)
        request = request_of(config, stage, cluster)
        if not any(request.fits(node) for node in cluster.possible):
            raise ResourceError(
                f"stage {stage} asks for {request.describe()} for a worker, and no node of the cluster can give that: "
                f"it has {cluster.describe()}",
                where=f"engine.resources.{stage}, {cluster.place}",
                hint=_advice(request, cluster),
            )
        if stage in GLOBAL_STAGES:
            if (asked.workers or 1) > 1:
                check_started_workers(config, stage, cluster)
            continue
        least = asked.workers or asked.min_workers or (None if asked.max_workers else config.workers) or 1
        room = cluster.room(request)
        if 0 <= room < least:
            raise ResourceError(
                f"stage {stage} asks for {least} workers with {request.describe()} each, and the cluster has room "
                f"for {room}: it has {cluster.describe()}",
                where=f"engine.resources.{stage}, {cluster.place}",
                hint="Ask for fewer workers or less for each, or add nodes.",
            )


def check_started_workers(config: EngineConfig, stage: str, cluster: Cluster) -> None:
    """Refuse a stage that starts workers by itself where these have no room beside it, before it waits for them.

    The stage takes one processor, and each worker what the settings ask for: without a number a processor, or none
    beside a GPU for labels.

    Raises
    ------
    ResourceError
        Saying how many workers there is room for, and what the cluster has.
    """
    name = resources_of(stage)
    asked: StageResources = getattr(config.resources, name)
    resources = dict(request_of(config, stage, cluster).resources)
    # The memory that is asked for is no worker's (see ``replicas_of``), nor are the processors of a whole node.
    resources.pop("memory", None)
    if asked.cpus is None:
        resources["CPU"] = 1.0 if asked.workers or "GPU" not in resources else 0.0
    worker = Request(stage=name, resources={key: amount for key, amount in resources.items() if amount})
    wanted = asked.workers or 1
    rooms = [_room_beside(OWN_PROCESSOR, worker, nodes) for nodes in (cluster.nodes, cluster.kinds)]
    room = -1 if -1 in rooms else max(rooms)
    if 0 <= room < wanted:
        raise ResourceError(
            f"stage {name} takes a processor and starts {wanted} workers with {worker.describe()} each, and the "
            f"cluster has room for {room} beside it: it has {cluster.describe()}",
            where=f"engine.resources.{name}, {cluster.place}",
            hint="Ask for fewer workers or less for each, or add a processor.",
        )


def _room_beside(own: Mapping[str, float], worker: Request, nodes: Sequence[Node]) -> int:
    """How many workers there is room for beside ``own``, on the node that loses least by it; -1 without bound.

    0 where no node can give it.
    """
    able = [node for node in nodes if node.count and Request(stage=worker.stage, resources=own).fits(node)]
    if not able:
        return 0
    room = worker.room(nodes)
    if room < 0:
        return -1
    left = [Node({name: amount - own.get(name, 0.0) for name, amount in node.resources.items()}) for node in able]
    return room - min(worker.fits(node) - worker.fits(rest) for node, rest in zip(able, left, strict=True))


def _advice(request: Request, cluster: Cluster) -> str:
    missing = [
        name for name in request.resources if not any(node.resources.get(name, 0.0) > 0 for node in cluster.possible)
    ]
    if missing:
        names = " and ".join("GPUs" if name == "GPU" else name for name in missing)
        return f"Add a node with {names}, or set engine.resources.{request.stage} to what the cluster has."
    return f"Ask for less in engine.resources.{request.stage}, or add a larger node."


def _shape(resources: Mapping[str, float]) -> str:
    """``4 CPU, 1 GPU, 16.0 GB memory, 2 spot``."""
    parts = [f"{resources.get('CPU', 0.0):g} CPU"]
    if resources.get("GPU"):
        parts.append(f"{resources['GPU']:g} GPU")
    if resources.get("memory"):
        parts.append(f"{resources['memory'] / 1e9:.1f} GB memory")
    parts += [
        f"{amount:g} {name}"
        for name, amount in sorted(resources.items())
        if name not in ("CPU", "GPU", "memory") and not name.startswith(_INTERNAL)
    ]
    return ", ".join(parts)
