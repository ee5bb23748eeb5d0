"""Resource requests of stages, resources of machines, and whether a request can ever be satisfied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from latentscale.config import EngineConfig, StageResources
from latentscale.errors import ResourceError
from latentscale.machine import Replicas
from latentscale.registry import resources_of, stages

# Stages with resources of their own, by the unit of work: one shard, or the whole data set.
SHARD_STAGES = tuple(entry.name for entry in stages() if entry.unit == "shard")
GLOBAL_STAGES = tuple(entry.name for entry in stages() if entry.unit != "shard" and entry.resources is None)

# Resources of a stage that starts its own workers.
OWN_PROCESSOR: Mapping[str, float] = {"CPU": 1.0}
# Resources that Ray defines by itself.
_INTERNAL = ("node:", "object_store_memory", "accelerator_type:")


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a cluster, or a node type that its autoscaler may start.

    Attributes
    ----------
    resources : mapping of str to float
        ``CPU``, ``GPU``, ``memory`` in bytes, and custom ones.
    name : str
        Address of the node, or name of the type.
    count : int
        Maximum number of nodes of the type; -1 if unbounded.
    """

    resources: Mapping[str, float]
    name: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The current resources of a cluster, and those that its autoscaler may add.

    Attributes
    ----------
    nodes : sequence of Node
        The nodes that are alive.
    kinds : sequence of Node
        Node types of the autoscaler with their limits, if known; empty for a cluster of fixed size.
    place : str
        Name of the cluster, for messages.
    """

    nodes: Sequence[Node]
    kinds: Sequence[Node] = ()
    place: str = "this machine"

    @property
    def possible(self) -> Sequence[Node]:
        """The current nodes, and the node types that the autoscaler may add."""
        return [*self.nodes, *(kind for kind in self.kinds if kind.count)]

    def room(self, request: Request) -> int:
        """Return how many workers with ``request`` fit, now or after scaling up; -1 if unbounded."""
        grown = request.room(self.kinds)
        return grown if grown < 0 else max(request.room(self.nodes), grown)

    def describe(self) -> str:
        """Describe the cluster in one line: one item for each node shape."""
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
        Name of the stage in the settings.
    resources : mapping of str to float
        Nonzero amounts only.
    """

    stage: str
    resources: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def cpus(self) -> float:
        """Number of CPUs."""
        return self.resources.get("CPU", 0.0)

    def describe(self) -> str:
        """Describe the request in one line."""
        return _shape(self.resources)

    def fits(self, node: Node) -> int:
        """Return how many such workers fit on ``node``."""
        if not self.resources:
            return 1_000
        return min(int(node.resources.get(name, 0.0) / amount + 1e-9) for name, amount in self.resources.items())

    def room(self, nodes: Sequence[Node]) -> int:
        """Return how many such workers fit on ``nodes``; -1 if unbounded."""
        total = 0
        for node in nodes:
            each = self.fits(node)
            if each and node.count < 0:
                return -1
            total += each * node.count
        return total

    def ray_options(self) -> dict[str, object]:
        """Convert to options of a Ray task or actor."""
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
    """Return the request of a worker of ``stage``: the settings, else one CPU for shards, a whole node otherwise."""
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
        # The largest node that satisfies the rest of the request.
        rest = Request(stage=name, resources=resources)
        able = [node for node in cluster.nodes if rest.fits(node)] or [
            node for node in cluster.possible if rest.fits(node)
        ]
        cpus = max((float(int(node.resources.get("CPU", 0.0))) for node in able), default=0.0) or 1.0
    if cpus:
        resources["CPU"] = cpus
    return Request(stage=name, resources=resources)


def replicas_of(config: EngineConfig, request: Request) -> Replicas:
    """Return the resources of each worker started by a stage: ``request``, with only the CPUs of the settings."""
    asked: StageResources = getattr(config.resources, request.stage)
    return Replicas(
        cpus=asked.cpus,
        gpus=request.resources.get("GPU", 0.0),
        custom=dict(asked.custom),
        stall_seconds=config.stall_seconds,
        workers=asked.workers or 1,
    )


def gpus_of(asked: StageResources, cluster: Cluster) -> float:
    """Return the GPUs of one worker; ``auto`` is 1 if the cluster has or may add GPUs, else 0."""
    if asked.gpus == "auto":
        return 1.0 if _has_gpu(cluster) else 0.0
    return asked.gpus or 0.0


def gpu_notices(config: EngineConfig, cluster: Cluster) -> list[str]:
    """Describe what ``gpus: auto`` resolved to, a sentence for each stage that uses it."""
    sentences: list[str] = []
    for stage in (*SHARD_STAGES, *GLOBAL_STAGES):
        asked: StageResources = getattr(config.resources, stage)
        if asked.gpus == "auto":
            became = "a GPU for each worker" if _has_gpu(cluster) else f"on CPUs, as {cluster.place} has no GPU"
            sentences.append(f"{stage}: {became} (engine.resources.{stage}.gpus is auto)")
    return sentences


def _has_gpu(cluster: Cluster) -> bool:
    return any(node.resources.get("GPU", 0.0) >= 1 for node in cluster.possible)


def workers_of(config: EngineConfig, request: Request, cluster: Cluster) -> tuple[int, int]:
    """Return the minimum and maximum number of workers of a shard stage."""
    asked: StageResources = getattr(config.resources, request.stage)
    fixed = asked.workers or (None if asked.min_workers or asked.max_workers else config.workers)
    if fixed:
        return fixed, fixed
    now, most = max(request.room(cluster.nodes), 1), cluster.room(request)
    # With an unbounded autoscaler, the current nodes count, or more workers if requested.
    limit = asked.max_workers or (now if most < 0 else max(most, 1))
    if most >= 0:
        limit = min(limit, max(most, 1))
    fixed_size = not cluster.kinds and asked.max_workers is None and asked.min_workers is None
    return min(asked.min_workers or (limit if fixed_size else 1), limit), limit


def check_requests(config: EngineConfig, cluster: Cluster) -> None:
    """Reject requests that the cluster can never satisfy, before any work.

    Raises
    ------
    ResourceError
        With the stage, its request and the resources of the cluster.
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
    """Reject a stage that starts its own workers if they do not fit beside it, before it waits for them.

    The stage needs one CPU, and each worker the resources of the settings; the default is one CPU, or none with a GPU
    for labels.

    Raises
    ------
    ResourceError
        With the number of workers that fit, and the resources of the cluster.
    """
    name = resources_of(stage)
    asked: StageResources = getattr(config.resources, name)
    resources = dict(request_of(config, stage, cluster).resources)
    # Requested memory, and the CPUs of a whole node, do not apply to these workers (see ``replicas_of``).
    resources.pop("memory", None)
    if asked.cpus is None:
        resources["CPU"] = 1.0 if asked.workers or "GPU" not in resources else 0.0
    worker = Request(stage=name, resources={key: amount for key, amount in resources.items() if amount})
    wanted = asked.workers or 1
    rooms = [_workers_beside(OWN_PROCESSOR, worker, nodes) for nodes in (cluster.nodes, cluster.kinds)]
    room = -1 if -1 in rooms else max(rooms)
    if 0 <= room < wanted:
        raise ResourceError(
            f"stage {name} takes a processor and starts {wanted} workers with {worker.describe()} each, and the "
            f"cluster has room for {room} beside it: it has {cluster.describe()}",
            where=f"engine.resources.{name}, {cluster.place}",
            hint="Ask for fewer workers or less for each, or add a processor.",
        )


def _workers_beside(own: Mapping[str, float], worker: Request, nodes: Sequence[Node]) -> int:
    """Return how many workers fit if ``own`` is placed on the node where it displaces the fewest; -1 if unbounded.

    0 if no node can hold ``own``.
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
    """Format resources as ``4 CPU, 1 GPU, 16.0 GB memory, 2 spot``."""
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
