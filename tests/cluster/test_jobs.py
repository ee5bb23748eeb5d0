"""Runs on a real cluster from outside: over the client, and refused where something is wrong with the request."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import latentscale

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = ["--set", "ingest.shard_rows=64", "--set", "quality.sample=100"]


def the_same_map(out: Path, local: Path) -> None:
    made, wanted = latentscale.open(out).current, latentscale.open(local).current
    assert made is not None
    assert wanted is not None
    assert made.id == wanted.id
    points, expected = made.points().collect(), wanted.points().collect()
    assert points.drop("source").equals(expected.drop("source")), "an exact map is the same to the bit"


def test_a_ray_client_makes_the_same_map(cluster: Any, corpus: Path, local: Path, tmp_path: Path) -> None:
    out = tmp_path / "map"
    words = ["run", str(corpus), "--out", str(out), "--text", "body", "--id", "package", *SETTINGS]
    done = subprocess.run(
        [sys.executable, "-m", "latentscale", *words, "--address", cluster.head.client],
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    logs = [path.read_text(errors="replace") for path in cluster.folder.rglob("ray_client_server*.err")]
    assert done.returncode == 0, "\n".join([done.stdout, done.stderr, *logs])
    the_same_map(out, local)
    assert sum(latentscale.open(out).runs[-1]["facts"]["engine"]["hosts"]["embed"].values()) == 24


def refused(cluster: Any, corpus: Path, out: Path, *words: str, environment: dict[str, str] | None = None) -> str:
    """The message of a run that ends with code 4 before Ray itself would give up, and writes nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "latentscale", "run", str(corpus), "--out", str(out), "--text", "body", *words],
        env=environment or cluster.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert not out.exists(), "nothing is half-written"
    assert "Traceback" not in done.stderr
    return done.stderr


def test_resources_beyond_the_cluster_are_refused_before_any_work(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    at = ["--address", cluster.head.address]
    out = tmp_path / "map"
    said = refused(cluster, corpus, out, *at, "--set", "engine.resources.embed.gpus=1")
    assert re.search(r"stage embed asks for 1 CPU, 1 GPU for a worker.*it has .* × \(1 CPU, .* GB memory", said), said
    assert "Add a node with GPUs" in said
    said = refused(cluster, corpus, out, *at, "--set", "engine.resources.project.memory=4TB")
    assert "4000.0 GB memory" in said
    said = refused(cluster, corpus, out, *at, "--set", "engine.resources.ingest={custom: {blue: 1}, workers: 3}")
    assert "asks for 3 workers with 1 CPU, 1 blue each, and the cluster has room for 1" in said


def test_the_maxima_of_an_autoscaler_count(cluster: Any) -> None:
    code = """
import sys
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import ClusterConfig
from latentscale.config import EngineConfig
from latentscale.engines import check_engine
from latentscale.errors import ResourceError

client = GcsClient(address=sys.argv[1])
config = ClusterConfig()
group = config.node_group_configs.add(name="gpu-workers", max_count=4)
group.resources.update({"CPU": 8, "GPU": 1})
client.report_cluster_config(config.SerializeToString())
def asked(**embed):
    return EngineConfig(name="ray", address=sys.argv[1], resources={"embed": embed})
check_engine(asked(gpus=1, workers=4))
try:
    check_engine(asked(gpus=1, workers=5))
except ResourceError as error:
    print(error.message)
client.report_cluster_config(ClusterConfig().SerializeToString())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, cluster.head.address], env=cluster.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "asks for 5 workers with 1 CPU, 1 GPU each, and the cluster has room for 4" in done.stdout
    assert "at most 4 × gpu-workers (8 CPU, 1 GPU)" in done.stdout


@pytest.mark.parametrize("what", ["wrong", "no file", "none"])
def test_a_wrong_or_missing_token_is_reported(cluster: Any, corpus: Path, tmp_path: Path, what: str) -> None:
    wrong = tmp_path / "token"
    if what == "wrong":
        wrong.write_text("f" * 40)
    environment = cluster.with_token(None if what == "none" else wrong)
    said = refused(cluster, corpus, tmp_path / "map", "--address", cluster.head.address, environment=environment)
    assert "wants a token" in said
    assert "RAY_AUTH_TOKEN_PATH" in said
    assert cluster.token.read_text() not in said


def test_a_wrong_token_of_a_ray_client_is_reported(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("f" * 40)
    environment = cluster.with_token(wrong)
    said = refused(cluster, corpus, tmp_path / "map", "--address", cluster.head.client, environment=environment)
    assert "RAY_AUTH_TOKEN_PATH" in said


def test_another_version_of_ray_is_reported(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    # The head tells its version in one record: with another one there it is, for whoever asks, another Ray.
    code = """
import json, sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
known = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster", timeout=10))
known["ray_version"] = sys.argv[2] or known["ray_version"]
client.internal_kv_put(b"CLUSTER_METADATA", json.dumps(known).encode(), True, b"cluster", timeout=10)
"""
    import ray

    def tell(version: str) -> None:
        subprocess.run([sys.executable, "-c", code, cluster.head.address, version], env=cluster.environment, check=True)

    tell("2.41.0")
    try:
        said = refused(cluster, corpus, tmp_path / "map", "--address", cluster.head.address)
    finally:
        tell(ray.__version__)
    assert "runs Ray 2.41.0 and Python" in said
    assert f"this process Ray {ray.__version__}" in said
    assert "ray[data,default]==2.41.0" in said


def test_a_port_without_ray_is_reported(cluster: Any, corpus: Path, tmp_path: Path) -> None:
    said = refused(cluster, corpus, tmp_path / "map", "--address", cluster.head.dashboard.removeprefix("http://"))
    assert "no Ray cluster answers at" in said
