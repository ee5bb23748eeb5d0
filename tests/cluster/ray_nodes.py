"""A real Ray cluster on this machine: several `ray start` processes, each node on a loopback address of its own."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")
ROOT = Path(__file__).parents[2]
ON_NODES = Path(__file__).with_name("on_nodes")
LATENTSCALE = Path(sys.executable).with_name("latentscale")

# The one that asks may come before the head can answer.
ALL_ALIVE = """
import sys, time
from ray._raylet import GcsClient

def alive():
    try:
        nodes = GcsClient(address=address).get_all_node_info(timeout=20).values()
    except Exception as error:
        print(error, file=sys.stderr)
        return set()
    return {node.node_manager_address for node in nodes if node.state == 0}

address, seconds, *hosts = sys.argv[1:]
deadline = time.monotonic() + float(seconds)
while not alive().issuperset(hosts):
    if time.monotonic() > deadline:
        sys.exit("they are not there")
    time.sleep(0.1)
"""


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody has, at ``host`` or any other address: a raylet listens on all of them.

    They lie below those that the kernel gives to whoever asks for any (32,768 and more on Linux): until the node has
    them, any server or connection of another test might be given one.
    """
    found: set[int] = set()
    while len(found) < count:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as one, socket.socket() as all_addresses, contextlib.suppress(OSError):
            one.bind((host, port))
            one.close()
            all_addresses.bind(("", port))
            found.add(port)
    return list(found)


def until(what: Callable[[], object], *, seconds: float, message: str) -> None:
    """Wait for something to be so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, message
        time.sleep(0.02)


class Node:
    """One `ray start --block` and all processes below it."""

    def __init__(
        self,
        folder: Path,
        host: str,
        environment: Mapping[str, str],
        *,
        head: Node | None = None,
        cpus: int = 1,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        self.host = host
        self.head = head
        self.cpus = cpus
        self.resources = dict(resources or {})
        self.starts = 0
        self._folder = folder
        self._environment = dict(environment)
        self.start()

    def start(self) -> None:
        """Start it, or again with other ports if it ended before the cluster knew it.

        `ray start` waits no more than 30 seconds for a raylet, whatever else the machine does.
        """
        ports = free_ports(self.host, 9)
        self.address = f"{self.host}:{ports[0]}" if self.head is None else self.head.address
        self.client = f"ray://{self.host}:{ports[1]}"
        self.dashboard = f"http://{self.host}:{ports[2]}"
        self.folder = self._folder.with_name(self._folder.name + "abc"[self.starts])
        self.starts += 1
        self.folder.mkdir(parents=True)
        options = {
            "--node-ip-address": self.host,
            "--num-cpus": self.cpus,
            "--resources": json.dumps(self.resources),
            "--object-store-memory": 80 << 20,
            "--temp-dir": self.folder,
            "--include-log-monitor": "false",
            "--node-manager-port": ports[3],
            "--object-manager-port": ports[4],
            "--dashboard-agent-listen-port": ports[5],
            "--dashboard-agent-grpc-port": ports[6],
            "--runtime-env-agent-port": ports[7],
            "--metrics-export-port": ports[8],
            "--min-worker-port": 0,
            "--max-worker-port": 0,
        }
        if self.head is None:
            options |= {
                "--port": ports[0],
                "--ray-client-server-port": ports[1],
                "--include-dashboard": "true",
                "--dashboard-host": self.host,
                "--dashboard-port": ports[2],
            }
        else:
            options |= {"--address": self.head.address}
        words = [str(word) for pair in options.items() for word in pair]
        role = ["--head"] if self.head is None else []
        self.log = self.folder.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(RAY), "start", "--block", "--disable-usage-stats", *role, *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def start_again_if_ended(self) -> None:
        """Give a worker node that ended early two more tries."""
        if self.head is not None and self.process.poll() is not None and self.starts < 3:
            print(f"node {self.host} ended, and is started again:\n{self.logs()}", file=sys.stderr)
            self.start()

    def logs(self) -> str:
        """What `ray start` and the raylet said, without the addresses of a trace."""
        logs = [self.log, *sorted(self.folder.glob("session_2*/logs/raylet.err"))]
        lines = [line for log in logs for line in log.read_text(errors="replace").splitlines() if "(+0x" not in line]
        return "\n".join(lines)

    def processes(self) -> list[psutil.Process]:
        """All of the node, the first the oldest."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self, title: str) -> list[psutil.Process]:
        """Its Ray workers whose title begins so."""
        found: list[psutil.Process] = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if (process.cmdline() or [""])[0].startswith(title):
                    found.append(process)
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole node at once."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def kill(self) -> None:
        """End it as a lost machine ends."""
        known = self.processes()
        self.signal(signal.SIGKILL)
        self.process.wait()
        # What was stopped, or was born meanwhile, is a child of nobody now.
        for process in known:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class Cluster:
    """A head and workers, with token authentication; nodes may be lost and added."""

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        # One third octet a cluster, so that clusters of tests at the same time do not meet.
        self._network = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250) + 1}"
        self._hosts = iter(range(2, 250))
        self.token = folder / "token"
        self.token.write_text(secrets.token_hex(20))
        self.token.chmod(0o600)
        self.environment = self.with_token(self.token)
        # The nodes have what a driver has not: workers that a test may let die, and keys of a bucket.
        self._deadly = folder / "deadly"
        self._deadly.touch()
        self.path = os.pathsep.join(filter(None, [str(ON_NODES), os.environ.get("PYTHONPATH", "")]))
        self._of_nodes = {
            **self.environment,
            **(variables or {}),
            "DEADLY_FILES": str(self._deadly),
            "PYTHONPATH": self.path,
        }
        self.head = self._node()
        self.nodes = [self.head]
        host, port = self.head.address.split(":")

        def listens() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection((host, int(port)), timeout=1).close()
                return True
            return False

        until(listens, seconds=180, message=self.head.log.read_text(errors="replace"))

    @staticmethod
    def with_token(token: Path | None) -> dict[str, str]:
        """An environment that has this token, and nothing else of Ray."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment |= {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            # A node that says nothing is held for dead after some seconds, not after a minute.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "4000",
            "RAY_health_check_failure_threshold": "3",
            # The server of a Ray client takes longer to start where the machine is busy.
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "150",
            # Ray's client server forks while gRPC's threads run, and its child may crash (ray-project/ray#63202);
            # it only forks to execute another program, which needs nothing of gRPC's handlers.
            "GRPC_ENABLE_FORK_SUPPORT": "0",
        }
        if token is not None:
            environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        return environment

    def _node(self, **options: object) -> Node:
        number = next(self._hosts)
        # Ray's sockets lie below this folder, and their paths must be short.
        folder = self.folder / f"n{number}"
        return Node(folder, f"{self._network}.{number}", self._of_nodes, **options)  # type: ignore[arg-type]

    def add(self, *, wait: bool = True, cpus: int = 1, resources: Mapping[str, float] | None = None) -> Node:
        """Start a node."""
        node = self._node(head=self.head, cpus=cpus, resources=resources)
        self.nodes.append(node)
        if wait:
            self.wait_for(node)
        return node

    def wait_for(self, *nodes: Node, seconds: float = 180) -> None:
        """Wait until the head holds these nodes for alive."""
        hosts = [node.host for node in nodes]
        # One process asks until they are there: one for each question would cost the nodes half of a processor.
        asks = subprocess.Popen(
            [sys.executable, "-c", ALL_ALIVE, self.head.address, str(seconds), *hosts], env=self.environment
        )
        while asks.poll() is None:
            for node in nodes:
                node.start_again_if_ended()
            time.sleep(0.1)
        assert asks.returncode == 0, "\n".join(node.logs() for node in nodes)

    @contextlib.contextmanager
    def deadly(self, *names: str) -> Iterator[None]:
        """Let each worker die that opens a file with one of these names."""
        self._deadly.write_text("\n".join(names), encoding="utf-8")
        try:
            yield
        finally:
            self._deadly.write_text("", encoding="utf-8")

    def lose(self, node: Node) -> None:
        """Kill a whole node."""
        node.kill()
        self.nodes.remove(node)

    def latentscale(self, *words: object, **options: object) -> subprocess.Popen[str]:
        """Start the command with this cluster as its engine, in a session of its own."""
        given = [str(LATENTSCALE), *map(str, words), "--address", self.head.address, "--progress", "quiet"]
        return subprocess.Popen(
            given,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,  # type: ignore[arg-type]
        )

    def ray_job(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a subcommand of `ray job` at this cluster's dashboard, from the root of the repository."""
        return subprocess.run(
            [str(RAY), "job", str(words[0]), "--address", self.head.dashboard, *map(str, words[1:])],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=270,
        )

    def close(self) -> None:
        """End all nodes; only those that were started here."""
        for node in reversed(self.nodes):
            node.signal(signal.SIGCONT)
            node.kill()
