"""A vLLM server on loopback, as started by ``vllm serve``, on CPUs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.environments import python_of

KEY = "key-of-the-server"
# On two processors one thread of a tiny model does not wait for another; GiB of the cache, else most of the memory.
SMALL = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
ALONE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_HOST_IP": "127.0.0.1"}
# Of a busy machine; an idle one takes half a minute.
_START_SECONDS = 900
_ANSWER_SECONDS = 120
_SAMPLE = re.compile(r"^([\w:]+)(\{.*\})? (\S+)$", re.MULTILINE)


class VllmServer:
    """A running server.

    Attributes
    ----------
    url : str
        Base address of its API.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"
        self._process = process
        self._ended = False

    def counted(self, name: str, **labels: str) -> float:
        """A number of the server's own metrics, summed over the samples that have these labels."""
        text = httpx.get(f"{self.root}/metrics", timeout=_ANSWER_SECONDS).text
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = [float(value) for sample, has, value in _SAMPLE.findall(text) if sample == name and _all(wanted, has)]
        return sum(found)

    @property
    def context(self) -> int:
        """Tokens of a prompt and its answer at most."""
        key = {"Authorization": f"Bearer {KEY}"}
        found = httpx.get(f"{self.url}/models", headers=key, timeout=_ANSWER_SECONDS).json()
        return found["data"][0]["max_model_len"]

    def answers(self, status: str) -> float:
        """Requests to the API that were answered so far, by the class of their status, such as ``4xx``."""
        paths = ("/v1/chat/completions", "/v1/embeddings")
        return sum(self.counted("http_requests_total", status=status, handler=path) for path in paths)

    def end(self) -> None:
        """End it at once, with its engine, as the machine's own killer of processes would."""
        if self._ended:
            return
        self._ended = True
        # Of a server that failed by itself, the engine may be left.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _all(wanted: list[str], labels: str) -> bool:
    return all(one in labels for one in wanted)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def vllm_server(model: Path, folder: Path, *arguments: str, port: int | None = None) -> Iterator[VllmServer]:
    """Serve a model by the name ``tiny``, with :data:`KEY`, until the end of the block; ``folder`` takes its log."""
    port = port or free_port()
    # `vllm serve` asks for the version of a package "vllm", which that of processors does not have; "cpu" in it is what
    # selects the platform.
    named = folder / "named" / "vllm-0.32.0+cpu.dist-info"
    named.mkdir(parents=True, exist_ok=True)
    (named / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    log = folder / f"serve-{port}.log"
    command = [python_of("vllm"), "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--api-key", KEY, "--enforce-eager", *arguments]
    with log.open("ab") as written:
        process = subprocess.Popen(
            command,
            env={**os.environ, **SMALL, **ALONE, "PYTHONPATH": str(named.parent)},
            cwd=folder,
            stdout=written,
            stderr=subprocess.STDOUT,
            # Its engine is a process of its own: both are ended by their group.
            start_new_session=True,
        )
    server = VllmServer(process, port)
    try:
        _wait(server, process, log)
        yield server
    finally:
        server.end()


def _wait(server: VllmServer, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{server.root}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    pytest.fail(f"vLLM's server did not start: {log.read_text(errors='replace')[-4_000:]}")


def until(holds: Callable[[], bool]) -> bool:
    """Whether something becomes true: the server counts an answer right after it was sent."""
    for _ in range(600):
        if holds():
            return True
        time.sleep(0.1)
    return holds()
