"""Object stores on loopback: Swift (a real one) and moto's server, each with a proxy that can fail."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from latentscale.storage.objects import Store
from tests.conftest import load

ROOT = Path(__file__).parents[2]
STORES = ("swift", "moto")


def fast_on(store: str) -> pytest.MarkDecorator:
    """Run a test on this store always, and on the others where slow tests are run."""
    return pytest.mark.parametrize(
        "bucket",
        [pytest.param(name, marks=() if name == store else pytest.mark.slow) for name in STORES],
        indirect=True,
    )


def within(*words: str) -> int:
    """The exit code of a command, in this process."""
    from latentscale.cli.main import main

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    signal.signal(signal.SIGTERM, handler)
    return int(ended.value.code or 0)


@contextlib.contextmanager
def hurried(store: Store, budget: float) -> Iterator[None]:
    """Give the requests of a store that has answered so few seconds until the block ends.

    What else a test asks of it has the usual time: a request that nothing keeps may take seconds on a busy machine.
    """
    remote: Any = store._remote
    patient = remote.storage
    remote.storage = patient.model_copy(update={"budget": budget})
    try:
        yield
    finally:
        remote.storage = patient


@pytest.fixture(scope="session", autouse=True)
def read_once() -> Iterator[None]:
    """What botocore reads for each session, its description of S3 above all, is read once for all tests."""
    import botocore.session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session")
def proxies() -> ModuleType:
    return load("faulty_proxy", Path(__file__).with_name("faulty_proxy.py"))


@dataclass(frozen=True, kw_only=True)
class Server:
    """An S3 server."""

    name: str
    endpoint: str
    key: str
    secret: str


@contextlib.contextmanager
def _moto() -> Iterator[Server]:
    swift = load("swift_server", Path(__file__).with_name("swift.py"))
    command = [sys.executable, "-c", "from moto.server import main; import sys; main(sys.argv[1:])"]
    with swift.listen() as held:
        port, number = held.getsockname()[1], held.fileno()
        process = subprocess.Popen(
            [*command, "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # It takes the socket that is there, as it does when its reloader has started it.
            env={
                **os.environ,
                "MOTO_ALLOW_NONEXISTENT_REGION": "true",
                "WERKZEUG_RUN_MAIN": "true",
                "WERKZEUG_SERVER_FD": str(number),
            },
            pass_fds=[number],
        )
    try:
        # The system has taken connections since before: the answer comes when the server is up.
        address = f"http://127.0.0.1:{port}/moto-api/data.json"
        with urllib.request.urlopen(address, timeout=180) as answer:
            assert answer.status == 200
        yield Server(name="moto", endpoint=f"http://127.0.0.1:{port}", key="AKIDMOTO", secret="moto-secret")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Start each server when it is first asked for."""
    running: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def server(name: str) -> Server:
            if name not in running:
                if name == "swift":
                    swift = load("swift_server", Path(__file__).with_name("swift.py"))
                    one = stack.enter_context(swift.swift(tmp_path_factory.mktemp("swift")))
                    running[name] = Server(name=name, endpoint=one.endpoint, key=one.key, secret=one.secret)
                else:
                    running[name] = stack.enter_context(_moto())
            return running[name]

        yield server


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """An empty bucket of a server, reached through a proxy of its own."""

    server: Server
    name: str
    proxy: Any

    @property
    def storage(self) -> dict[str, Any]:
        """Settings by which the bucket is reached through the proxy."""
        return {"endpoint_url": self.proxy.endpoint, "region": "us-east-1"}

    @property
    def direct(self) -> dict[str, Any]:
        """The same past the proxy."""
        return {**self.storage, "endpoint_url": self.server.endpoint}

    def url(self, path: str) -> str:
        return f"s3://{self.name}/{path}"

    def store(self, path: str = "ws", **settings: Any) -> Store:
        return Store(self.url(path), storage={**self.storage, **settings})

    @property
    def client(self) -> Any:
        """A plain client of botocore, for what a test does behind the back of the package."""
        return _client(self.server)

    def options(self) -> list[str]:
        """Options of a command line."""
        return [word for key, value in self.storage.items() for word in ("--storage", f"{key}={value}")]


@pytest.fixture(params=STORES)
def bucket(
    request: pytest.FixtureRequest,
    servers: Callable[[str], Server],
    proxies: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bucket]:
    """An empty bucket of each server; its keys are in the environment."""
    yield from _bucket(servers(request.param), proxies, monkeypatch)


@pytest.fixture
def swift_bucket(
    servers: Callable[[str], Server], proxies: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """An empty bucket of the real store."""
    yield from _bucket(servers("swift"), proxies, monkeypatch)


@pytest.fixture
def mock_bucket(
    servers: Callable[[str], Server], proxies: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """An empty bucket of the mock, which takes any key."""
    yield from _bucket(servers("moto"), proxies, monkeypatch)


def _bucket(server: Server, proxies: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    # Nothing of the developer's own, and no question to a cloud's metadata service.
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    _client(server).create_bucket(Bucket=name)
    with proxies.faulty_proxy(server.endpoint) as proxy:
        yield Bucket(server=server, name=name, proxy=proxy)


@functools.cache
def _client(server: Server) -> Any:
    import botocore.session
    from botocore.config import Config

    session = botocore.session.get_session()
    return session.create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        config=Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
