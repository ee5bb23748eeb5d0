"""First contact with a Ray cluster: address, token and version are checked in seconds, where Ray waits for minutes."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import psutil

from latentscale.backends.doctor import describe as describe_machine
from latentscale.engines.resources import Cluster, Node
from latentscale.errors import ConfigError, LatentScaleError, ResourceError, require
from latentscale.machine import available_processors

PROBE_SECONDS = 8.0
CONTACT_SECONDS = 15.0
RPC_SECONDS = 8.0
CLIENT = "ray://"
INITIALISED = "the cluster of ray.init()"
_EXTRA = "the engine 'ray'"
# What Ray says, in an exception of no class of its own, when its processes are not there in time.
STARTED_LATE = "timed out during startup"

_VERSIONS = re.compile(r"Ray: (\S+) Python: (\S+) This process .{0,80}? Ray: (\S+) Python: (\S+)")

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A cluster that has answered.

    Attributes
    ----------
    address : str
        ``host:port``, ``ray://host:port``, ``local``: none runs yet, one is to be started on this machine, or
        ``INITIALISED``: this process is connected already.
    cluster : Cluster or None
        What it has; None where that is known only after the connection.
    """

    address: str
    cluster: Cluster | None


def prepare_environment() -> None:
    """Set what Ray reads from the environment when it is imported."""
    # Ray's C++ side prints warnings of its own to the terminal; what matters reaches us as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # A run sends no usage reports.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Three attempts: the client server has answered already, so that a failure is transient.
    os.environ.setdefault("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "3")
    os.environ.setdefault("RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S", "5")


def reach_cluster(address: str | None) -> Contact:
    """Find the cluster at ``address`` and ask what it has, without connecting to it as a driver.

    Parameters
    ----------
    address : str or None
        As in ``engine.address``.

    Raises
    ------
    ConfigError
        If this process has called ``ray.init()`` already, and ``address`` is that of another cluster.
    MissingPackageError
        If Ray is not installed.
    ResourceError
        If nothing answers there, the token is missing or wrong, or the versions differ; within 30 seconds.
    """
    prepare_environment()
    if cast(Any, require("ray", extra="ray", used_for=_EXTRA)).is_initialized():
        _check_initialised(address)
        return Contact(address=INITIALISED, cluster=connected_cluster(INITIALISED))
    address = _resolve(address)
    if address == "local":
        return Contact(address=address, cluster=this_machine())
    probe(address)
    _check_token(address)
    if address.startswith(CLIENT):
        _within(CONTACT_SECONDS, lambda: _ping_client_server(address), address)
        return Contact(address=address, cluster=None)
    return Contact(address=address, cluster=_within(CONTACT_SECONDS, lambda: _ask(address), address))


def refuse_late_environment(contact: Contact, runtime_env: Mapping[str, Any] | None) -> None:
    """Refuse a runtime environment that cannot take effect any more.

    Raises
    ------
    ConfigError
        If this process was connected before.
    """
    if contact.address == INITIALISED and runtime_env is not None:
        raise ConfigError(
            "engine.runtime_env comes too late: this process has called ray.init() already",
            hint="Give it to ray.init(runtime_env=...), or leave ray.init() to LatentScale.",
        )


def this_machine() -> Cluster:
    """The resources of a Ray cluster started on this machine."""
    machine = describe_machine()
    resources = {"CPU": float(available_processors()), "memory": float(psutil.virtual_memory().available)}
    if machine.gpus:
        resources["GPU"] = float(len(machine.gpus))
    return Cluster(nodes=[Node(resources, name="this machine")])


def connected_cluster(place: str) -> Cluster:
    """The resources of the cluster to which this process is connected."""
    ray = cast(Any, require("ray", extra="ray", used_for=_EXTRA))
    nodes = [
        Node(dict(node["Resources"]), name=str(node["NodeManagerAddress"])) for node in ray.nodes() if node["Alive"]
    ]
    kinds: list[Node] = []
    if not ray.util.client.ray.is_connected():
        state = cast(Any, require("ray._private.state", extra="ray", used_for=_EXTRA)).state
        kinds = _kinds(state.get_cluster_config())
    return Cluster(nodes=nodes, kinds=kinds, place=place)


def probe(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would wait for minutes.

    Raises
    ------
    ResourceError
        With what the system says.
    """
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS):
            return
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ResourceError(
            f"no Ray cluster answers at {address}: {reason}",
            hint="Check engine.address, and that the cluster's head node runs.",
        ) from error


def explain(error: BaseException, address: str) -> LatentScaleError:
    """Translate Ray's error for a failed connection into one that names the cause and the fix."""
    text = " ".join(str(error).split())
    found = _VERSIONS.search(text)
    if found or "Version mismatch" in text:
        there, here = (
            (f"Ray {found[1]} and Python {found[2]}", f"Ray {found[3]} and Python {found[4]}")
            if found
            else ("other versions", text[:300])
        )
        wanted = f"=={found[1]}" if found else ""
        return ResourceError(
            f"the Ray cluster at {address} runs {there}, this process {here}",
            hint=f"Install the same here (pip install 'ray[data,default]{wanted}'), or run on the cluster's own image "
            "with ray job submit.",
        )
    if "AuthenticationError" in type(error).__name__ or re.search("(?i)authentication token|unauthenticated", text):
        wrong = "RAY_AUTH_MODE is currently 'disabled'" not in text and os.environ.get("RAY_AUTH_MODE") == "token"
        found = "the token given here is missing or is not that of the cluster" if wrong else "this process gives none"
        return ResourceError(
            f"the Ray cluster at {address} wants a token: {found}",
            hint="Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file with the cluster's token "
            "(or RAY_AUTH_TOKEN).",
        )
    if "Starting Ray client server failed" in text:
        return ResourceError(
            f"the client server of Ray at {address} could not start a process for this run",
            hint="Run the same command again; if this is seen often, start the head node with "
            "GRPC_ENABLE_FORK_SUPPORT=0, or use ray job submit (docs/operations.md).",
        )
    if STARTED_LATE in text:
        return ResourceError(
            f"Ray did not start on {address} within the half minute that it gives itself",
            hint="The machine is busy, or short of memory or of room in its temporary folder: run the same command "
            "again, which resumes, or use engine.name=local. Its logs lie in ray/session_latest/logs of that folder.",
        )
    return ResourceError(
        f"no Ray cluster answers at {address}: {text[:300] or type(error).__name__}",
        hint="Check engine.address (the port is that of the head, 6379 by default, or after ray:// that of its client "
        "server, 10001), that the cluster's Ray version is the one installed here, and, where it wants a token, that "
        "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH are set.",
    )


def _resolve(address: str | None) -> str:
    if address is None:
        address = os.environ.get("RAY_ADDRESS") or "local"
        if "://" in address and not address.startswith(CLIENT):
            raise ConfigError(
                f"RAY_ADDRESS is {address}, the address of a dashboard, to which jobs are submitted",
                hint="Set engine.address (--address) to auto, host:port or ray://host:port.",
            )
    if address != "auto":
        return address
    services = cast(Any, require("ray._private.services", extra="ray", used_for=_EXTRA))
    try:
        return str(services.canonicalize_bootstrap_address_or_die("auto"))
    except (ConnectionError, ValueError) as error:
        raise ResourceError(
            "no Ray cluster runs on this machine, which engine.address 'auto' asks for",
            hint="Start one (ray start --head), set engine.address to host:port, or leave it out: then one is started.",
        ) from error


def _check_initialised(address: str | None) -> None:
    """Refuse an address of another cluster than the one to which this process is connected."""
    if address in (None, "auto"):
        return
    address = str(address)
    ray = cast(Any, require("ray", extra="ray", used_for=_EXTRA))
    client = ray.util.client.ray
    if client.is_connected():
        here = CLIENT + str(client.get_context().client_worker._conn_str)
        same = address.startswith(CLIENT) and _end_points(address) & _end_points(here)
    else:
        here = str(ray.get_runtime_context().gcs_address)
        same = address == here or (address != "local" and not address.startswith(CLIENT) and _is_cluster(address))
    if not same:
        raise ConfigError(
            f"engine.address is {address}, but this process has called ray.init() already and is connected to {here}",
            hint="Leave engine.address out to use that cluster, or call ray.shutdown() before.",
        )


def _is_cluster(address: str) -> bool:
    """Whether the cluster at ``address`` is the one to which this process is connected, by whatever name."""
    probe(address)
    _check_token(address)
    raylet = cast(Any, require("ray._raylet", extra="ray", used_for=_EXTRA))
    worker = cast(Any, require("ray._private.worker", extra="ray", used_for=_EXTRA)).global_worker
    there = _within(CONTACT_SECONDS, lambda: raylet.GcsClient(address=address).cluster_id.hex(), address)
    return there == worker.node.cluster_id.hex()


def _end_points(address: str) -> set[tuple[Any, ...]]:
    """All numeric addresses and the port that an address names."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    try:
        return {found[4][:2] for found in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)}
    except (OSError, OverflowError):
        return {(host, port)}


def _check_token(address: str) -> None:
    """Refuse a missing token where one is required: Ray's own client would end this process."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return
    setup = cast(Any, require("ray._private.authentication.authentication_token_setup", extra="ray", used_for=_EXTRA))
    try:
        setup.ensure_token_if_auth_enabled(None, create_token_if_missing=False)
    except Exception as error:  # Ray's own exceptions are known only once it is imported
        raise explain(error, address) from error


def _ask(address: str) -> Cluster:
    """Ask the cluster's head for its version, its nodes and its autoscaler's bounds."""
    raylet = cast(Any, require("ray._raylet", extra="ray", used_for=_EXTRA))
    utils = cast(Any, require("ray._private.utils", extra="ray", used_for=_EXTRA))
    client = raylet.GcsClient(address=address)
    metadata = client.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=RPC_SECONDS)
    if metadata:
        utils.check_version_info(json.loads(metadata), "this machine", raise_on_mismatch=True)
    nodes = [
        Node(dict(node.resources_total), name=str(node.node_manager_address))
        for node in client.get_all_node_info(timeout=RPC_SECONDS).values()
        if node.state == 0
    ]
    config = client.internal_kv_get(
        raylet.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY.encode(),
        raylet.GCS_AUTOSCALER_STATE_NAMESPACE.encode(),
        timeout=RPC_SECONDS,
    )
    kinds: list[Node] = []
    if config:
        messages = cast(Any, require("ray.core.generated.autoscaler_pb2", extra="ray", used_for=_EXTRA))
        kinds = _kinds(messages.ClusterConfig.FromString(config))
    return Cluster(nodes=nodes, kinds=kinds, place=f"Ray at {address}")


def _ping_client_server(address: str) -> None:
    """Ask the server of Ray clients for any answer: Ray's own client waits for half a minute and says less."""
    grpc_utils = cast(Any, require("ray._private.grpc_utils", extra="ray", used_for=_EXTRA))
    messages = cast(Any, require("ray.core.generated.ray_client_pb2", extra="ray", used_for=_EXTRA))
    stubs = cast(Any, require("ray.core.generated.ray_client_pb2_grpc", extra="ray", used_for=_EXTRA))
    channel = grpc_utils.init_grpc_channel(address.removeprefix(CLIENT))
    try:
        request = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
        stubs.RayletDriverStub(channel).ClusterInfo(request, timeout=RPC_SECONDS)
    finally:
        channel.close()


def _kinds(config: Any) -> list[Node]:
    if not config:
        return []
    return [
        Node({key: float(value) for key, value in group.resources.items()}, name=group.name, count=group.max_count)
        for group in config.node_group_configs
    ]


def _within(seconds: float, ask: Callable[[], Answer], address: str) -> Answer:
    """Time out after ``seconds``: a server that is not Ray may listen there and never answer."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that asked
            errors.append(error)

    thread = threading.Thread(target=work, name="first contact with Ray", daemon=True)
    thread.start()
    thread.join(seconds)
    if answers:
        return answers[0]
    if not errors:
        raise ResourceError(
            f"no Ray cluster answers at {address}: a server listens there, but did not answer within {seconds:.0f} s",
            hint="Check engine.address: it is the port of the head node (6379 by default), not that of the dashboard.",
        )
    error = errors[0]
    if isinstance(error, LatentScaleError):
        raise error
    raise explain(error, address) from error
