"""Connecting to a Ray cluster: unreachable clusters and impossible requests are refused before Ray starts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from latentscale.config import EngineConfig
from latentscale.engines import check_engine
from latentscale.engines.ray import contact
from latentscale.engines.ray.contact import explain, reach_cluster
from latentscale.engines.ray.engine import RayEngine
from latentscale.errors import ConfigError, ResourceError

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.ray

# Ray itself waits for minutes; a busy machine may need a while to start a thread.
IN_TIME = 120


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has no Ray, and no variable names one: else that one would be asked."""
    ray.shutdown()
    for name in [name for name in os.environ if name.startswith("RAY_AUTH") or name == "RAY_ADDRESS"]:
        monkeypatch.delenv(name)
    yield
    assert not ray.is_initialized(), "a refusal starts nothing"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"])
def test_an_address_where_nothing_listens_is_refused_at_once(address: str) -> None:
    began = time.monotonic()
    with pytest.raises(ResourceError) as caught:
        reach_cluster(address)
    assert caught.value.message.startswith(f"no Ray cluster answers at {address}: ")
    assert "engine.address" in str(caught.value.hint)
    assert caught.value.exit_code == 4
    assert time.monotonic() - began < IN_TIME


@pytest.mark.slow
def test_a_silent_port_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert contact.CONTACT_SECONDS < IN_TIME
    monkeypatch.setattr(contact, "CONTACT_SECONDS", 3.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ResourceError, match=f"no Ray cluster answers at {address}"):
            reach_cluster(address)
        assert time.monotonic() - began < IN_TIME


def test_a_dashboard_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(ConfigError, match="the address of a dashboard"):
        reach_cluster(None)


@pytest.mark.parametrize(("stage", "asked"), [("embed", {"gpus": 1}), ("label", {"custom": {"spot": 1}})])
@pytest.mark.parametrize("name", ["local", "ray"])
def test_impossible_resources_are_refused_at_once(stage: str, asked: dict[str, object], name: str) -> None:
    config = EngineConfig.model_validate({"name": name, "resources": {stage: asked}})
    with pytest.raises(ResourceError, match=f"stage {stage} asks for") as caught:
        check_engine(config)
    assert "CPU" in caught.value.message
    assert caught.value.hint


def test_a_local_cluster_that_starts_too_late_is_an_environment_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**options: object) -> None:
        # As ray/_private/node.py does after half a minute.
        raise Exception("The current node timed out during startup. This could happen because some of …")

    monkeypatch.setattr(ray, "init", late)
    with pytest.raises(ResourceError, match="did not start on this machine within the half minute") as caught:
        RayEngine(EngineConfig(name="ray"))
    assert "run the same command again" in str(caught.value.hint)


def test_a_client_server_whose_process_crashed_is_not_called_absent() -> None:
    said = (
        "Initialization failure from server:\nTraceback (most recent call last):\n"
        '  File "ray/util/client/server/proxier.py", line 772, in Datapath\n    raise RuntimeError(\n'
        "RuntimeError: Starting Ray client server failed. See ray_client_server_23000.err for detailed logs."
    )
    error = explain(ConnectionAbortedError(said), "ray://10.0.0.5:10001")
    assert error.message == "the client server of Ray at ray://10.0.0.5:10001 could not start a process for this run"
    assert "GRPC_ENABLE_FORK_SUPPORT=0" in str(error.hint)
