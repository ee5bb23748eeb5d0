"""Ray works behind the network policy, and nobody else gets through: three nodes in network namespaces.

The rules of network-policy.yaml become packet filters, the `rayStartParams` of rayjob.yaml options of `ray start`; the
root file system is read-only, all capabilities are dropped, and the token is asked for, as in the manifests.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_configs.manifests import ROOT, manifests, ray_cluster_spec

TOOLS = ("ip", "nft", "unshare", "setpriv")
RAY = Path(sys.executable).with_name("ray")
# A network of its own per test process: several may run on one machine.
NET = f"10.{os.getpid() % 200 + 50}.77"
PREFIX = f"k{os.getpid() % 100_000}"
ADDRESSES = {"head": f"{NET}.2", "one": f"{NET}.3", "two": f"{NET}.4", "submitter": f"{NET}.5", "stranger": f"{NET}.6"}
RAY_PODS = [ADDRESSES[name] for name in ("head", "one", "two")]


def reason_not_to_run() -> str | None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not here: {', '.join(missing)}"
    if ROOT.is_relative_to("/tmp") or Path(sys.prefix).is_relative_to("/tmp"):
        return "the pods get a /tmp of their own, and the repository is in this one"
    probe = ["unshare", "--net", "--mount", "nft", "-f", "-"]
    done = subprocess.run(probe, input="table inet probe {}", text=True, capture_output=True, check=False)
    return None if done.returncode == 0 else f"no namespaces here: {done.stderr.strip()[:100]}"


SKIP = reason_not_to_run()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.timeout(420),
    pytest.mark.skipif(SKIP is not None, reason=SKIP or ""),
]


def run(*command: str, text: str | None = None) -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60).stdout


def rules(name: str) -> str:
    """The packet filter of one pod, made from the network policies that select it; what it drops is written down."""
    policies = {one.value["metadata"]["name"]: one.value["spec"] for one in manifests() if one.kind == "NetworkPolicy"}

    def ports(policy: str, direction: str) -> str:
        listed = policies[policy][direction][0]["ports"]
        return ", ".join(
            f"{port['port']}-{port['endPort']}" if "endPort" in port else str(port["port"]) for port in listed
        )

    address, others = ADDRESSES[name], ", ".join(RAY_PODS)
    into, out = [], [f"ip daddr {address} accept"]
    if address in RAY_PODS:
        into.append(f"ip saddr {{ {others} }} tcp dport {{ {ports('ray', 'ingress')} }} accept")
        out.append(f"ip daddr {{ {others} }} tcp dport {{ {ports('ray', 'egress')} }} accept")
    if name == "head":
        into.append(f"ip saddr {ADDRESSES['submitter']} tcp dport {{ {ports('ray-dashboard', 'ingress')} }} accept")
    if name == "submitter":
        out.append(f"ip daddr {ADDRESSES['head']} tcp dport {{ {ports('ray-submitter', 'egress')} }} accept")
    if name == "stranger":
        out.append("accept")  # of another namespace, where no policy holds it
    key = "type ipv4_addr . inet_proto . inet_service; flags dynamic; size 4096;"
    return f"""
table inet pod {{
  set out {{ {key} }}
  set into {{ {key} }}
  chain in {{
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
    {chr(10).join(into)}
    update @into {{ ip saddr . meta l4proto . th dport }}
  }}
  chain from {{
    type filter hook output priority 0; policy drop;
    oif lo accept
    ct state established,related accept
    {chr(10).join(out)}
    update @out {{ ip daddr . meta l4proto . th dport }}
  }}
}}"""


class Pods:
    """Five pods on one bridge."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(32)
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        run("ip", "link", "add", PREFIX, "type", "bridge")
        run("ip", "addr", "add", f"{NET}.1/24", "dev", PREFIX)
        run("ip", "link", "set", PREFIX, "up")
        for number, (name, address) in enumerate(ADDRESSES.items()):
            space, cable = f"{PREFIX}-{name}", f"{PREFIX}v{number}"
            run("ip", "netns", "add", space)
            run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", cable, "master", PREFIX, "up")
            run("ip", "-n", space, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
            # Ray finds its own address by the way to the world; no packet goes there.
            run("ip", "-n", space, "route", "add", "default", "via", f"{NET}.1")
            run("ip", "netns", "exec", space, "nft", "-f", "-", text=rules(name))

    def command(self, name: str, line: str, token: str | None) -> list[str]:
        inside = (
            "mount --make-rprivate / && mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /dev/shm && "
            "mount -o remount,bind,ro / && cd /tmp && "
            'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs bash -c "$1"'
        )
        variables = {
            "PATH": f"{RAY.parent}:{os.environ['PATH']}",
            "HOME": "/tmp",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token or self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONUNBUFFERED": "1",
        }
        settings = [f"{key}={value}" for key, value in variables.items()]
        namespaces = [
            "ip",
            "netns",
            "exec",
            f"{PREFIX}-{name}",
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
        ]
        return [*namespaces, "--kill-child", "env", "-i", *settings, "bash", "-c", inside, "pod", line]

    def start(self, name: str, line: str) -> None:
        log = (self._folder / f"{name}.log").open("wb")
        self._started.append(subprocess.Popen(self.command(name, line, None), stdout=log, stderr=subprocess.STDOUT))

    def run(self, name: str, line: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        command = self.command(name, line, token)
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    def dropped(self, name: str, direction: str) -> list[str]:
        """Elements like "10.1.77.2 . tcp . 8265"."""
        listed = run("ip", "netns", "exec", f"{PREFIX}-{name}", "nft", "list", "set", "inet", "pod", direction)
        if "elements" not in listed:
            return []
        return [one.strip() for one in listed.split("elements = {")[1].partition("}")[0].split(",")]

    def logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self._folder.glob("*.log"))

    def close(self) -> None:
        for process in self._started:
            process.terminate()
        for process in self._started:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        clear()


def clear() -> None:
    for name in ADDRESSES:
        subprocess.run(["ip", "netns", "del", f"{PREFIX}-{name}"], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", PREFIX], capture_output=True, check=False)


def options(parameters: dict[str, str], **more: Any) -> str:
    return " ".join(
        f"--{key}={value}" for key, value in {**parameters, "object-store-memory": 100_000_000, **more}.items()
    )


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    """A head, two workers, a submitter and a stranger; Ray is up when this returns."""
    manifest = next(one for one in manifests() if one.file == "rayjob.yaml")
    cluster = ray_cluster_spec(manifest.value)
    assert cluster is not None
    started = None
    try:
        started = Pods(tmp_path_factory.mktemp("pods"))
        head, worker = cluster["headGroupSpec"]["rayStartParams"], cluster["workerGroupSpecs"][0]["rayStartParams"]
        started.start("head", f"ray start --head --block {options(head)}")
        gcs = f"{ADDRESSES['head']}:{head['port']}"
        for name in ("one", "two"):
            wait = f"until ray health-check --address {gcs} >/dev/null 2>&1; do sleep 2; done"
            started.start(name, f"{wait}; ray start --block --address={gcs} --num-cpus=1 {options(worker)}")
        end = time.monotonic() + 180
        while True:
            looked = started.run("submitter", f"ray list nodes --address http://{ADDRESSES['head']}:8265 --format json")
            if looked.returncode == 0 and looked.stdout.count('"ALIVE"') == 3:
                break
            assert time.monotonic() < end, f"{looked.stdout}{looked.stderr}\n{started.logs()}"
            time.sleep(2)
        yield started
    finally:
        if started is not None:
            started.close()
        clear()


def dashboard() -> str:
    return f"http://{ADDRESSES['head']}:8265"


def test_a_job_runs_on_all_nodes_and_objects_move_between_them(pods: Pods) -> None:
    script = Path(__file__).with_name("across_nodes.py")
    done = pods.run("submitter", f"ray job submit --address {dashboard()} -- {sys.executable} {script}")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{pods.logs()}"
    assert "nodes: 3" in done.stdout
    assert "moved: 20000000 to another node" in done.stdout
    assert "rows: 200" in done.stdout
    # Nothing that Ray wanted between its pods was dropped: the policy knows all its ports.
    for name in ("head", "one", "two", "submitter"):
        assert [one for one in pods.dropped(name, "out") if one.startswith(NET)] == []


def test_ray_says_the_exit_code_in_the_words_that_the_nightly_step_reads(pods: Pods) -> None:
    line = f"ray job submit --address {dashboard()} --submission-id three -- {sys.executable} -c 'exit(3)'"
    done = pods.run("submitter", f"{line}; ray job list --address {dashboard()}")
    assert "failed with exit code 3" in done.stdout + done.stderr


def test_another_token_is_turned_away(pods: Pods) -> None:
    for line in (f"ray job list --address {dashboard()}", f"ray job submit --address {dashboard()} -- true"):
        done = pods.run("submitter", line, token="0" * 64)
        assert done.returncode != 0
        assert "authenticat" in (done.stdout + done.stderr).lower() or "token" in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize("port", [6379, 6380, 6381, 8265, 52365, 10002])
def test_a_pod_outside_the_policy_does_not_get_through(pods: Pods, port: int) -> None:
    line = f"exec 3<>/dev/tcp/{ADDRESSES['head']}/{port}"
    done = pods.run("stranger", f"timeout 2 bash -c '{line}'")
    assert done.returncode == 124  # no answer at all
    assert f"{ADDRESSES['stranger']} . tcp . {port}" in pods.dropped("head", "into")


def test_the_submitter_reaches_the_dashboard_and_no_other_port(pods: Pods) -> None:
    done = pods.run("submitter", f"timeout 2 bash -c 'exec 3<>/dev/tcp/{ADDRESSES['head']}/6379'")
    assert done.returncode in (1, 124)
    assert f"{ADDRESSES['head']} . tcp . 6379" in pods.dropped("submitter", "out")


def test_the_pods_write_to_their_own_folders_only(pods: Pods) -> None:
    done = pods.run("one", "touch /etc/x; touch /tmp/x && echo fine; grep -E 'CapEff|NoNewPrivs' /proc/self/status")
    assert "Read-only file system" in done.stderr
    assert "fine" in done.stdout
    assert "CapEff:\t0000000000000000" in done.stdout
    assert "NoNewPrivs:\t1" in done.stdout
