"""What stages ask for, what clusters have, and which settings are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from latentscale.config import EngineConfig, parse_job
from latentscale.engines import check_engine
from latentscale.engines.ray import read_runtime_env
from latentscale.engines.requests import Cluster, Node, check_requests, request_of, workers_of
from latentscale.errors import ConfigError, ResourceError

GB = 1e9


def asked(**resources: Any) -> EngineConfig:
    return EngineConfig.model_validate({"name": "ray", "resources": resources})


def fixed(*nodes: dict[str, float]) -> Cluster:
    return Cluster(nodes=[Node(node) for node in nodes])


def test_by_default_shards_take_a_processor_each_and_later_stages_the_largest_node() -> None:
    cluster = fixed({"CPU": 4}, {"CPU": 16}, {"CPU": 2})
    config = asked()
    embed = request_of(config, "embed", cluster)
    assert embed.ray_options() == {"num_cpus": 1.0}
    assert workers_of(config, embed, cluster) == (22, 22)
    for stage in ("neighbors", "projection", "placement", "clusters", "labels", "map"):
        assert request_of(config, stage, cluster).cpus == 16


def test_a_later_stage_takes_the_largest_of_the_nodes_that_have_the_rest() -> None:
    cluster = fixed({"CPU": 64, "memory": 64 * GB}, {"CPU": 8, "GPU": 1, "memory": 500 * GB})
    request = request_of(asked(project={"memory": "100GB"}), "projection", cluster)
    assert request.ray_options() == {"num_cpus": 8.0, "memory": 100 * GB}


def test_everything_that_is_asked_for_reaches_ray() -> None:
    config = asked(embed={"cpus": 0.5, "gpus": 0.25, "memory": "512MiB", "custom": {"spot": 2}})
    request = request_of(config, "embed", fixed())
    assert request.ray_options() == {
        "num_cpus": 0.5,
        "num_gpus": 0.25,
        "memory": 512 * 1024**2,
        "resources": {"spot": 2.0},
    }


@pytest.mark.parametrize(
    ("settings", "kinds", "expected"),
    [
        ({}, [], (6, 6)),
        ({"workers": 2}, [], (2, 2)),
        ({"max_workers": 4}, [], (1, 4)),
        ({"max_workers": 40}, [], (1, 6)),
        ({"min_workers": 2}, [], (2, 6)),
        ({}, [Node({"CPU": 8.0}, name="more", count=3)], (1, 24)),
        ({"max_workers": 10}, [Node({"CPU": 8.0}, name="more", count=3)], (1, 10)),
        ({}, [Node({"CPU": 8.0}, name="more", count=-1)], (1, 6)),
        ({"max_workers": 100}, [Node({"CPU": 8.0}, name="more", count=-1)], (1, 100)),
    ],
)
def test_the_number_of_workers(settings: dict[str, int], kinds: list[Node], expected: tuple[int, int]) -> None:
    cluster = Cluster(nodes=[Node({"CPU": 4.0}), Node({"CPU": 2.0})], kinds=kinds)
    config = asked(embed=settings)
    check_requests(config, cluster)
    assert workers_of(config, request_of(config, "embed", cluster), cluster) == expected


def test_two_halves_of_what_is_asked_for_are_not_the_whole() -> None:
    cluster = fixed({"CPU": 8}, {"CPU": 1, "GPU": 1})
    with pytest.raises(
        ResourceError, match=r"stage embed asks for 4 CPU, 1 GPU .* 1 × \(8 CPU\), 1 × \(1 CPU, 1 GPU\)"
    ):
        check_requests(asked(embed={"cpus": 4, "gpus": 1}), cluster)


def test_a_cluster_without_processors_is_refused() -> None:
    with pytest.raises(ResourceError, match="stage ingest asks for 1 CPU"):
        check_requests(asked(), fixed({"memory": 8 * GB}))


def test_a_kind_of_nodes_that_may_not_come_does_not_count() -> None:
    cluster = Cluster(nodes=[Node({"CPU": 4.0})], kinds=[Node({"CPU": 4.0, "GPU": 1.0}, name="gpu", count=0)])
    with pytest.raises(ResourceError, match="1 GPU"):
        check_requests(asked(embed={"gpus": 1}), cluster)


def test_a_worker_without_processors_has_room_everywhere() -> None:
    config = asked(ingest={"cpus": 0, "workers": 3})
    cluster = fixed({"CPU": 1})
    check_requests(config, cluster)
    assert workers_of(config, request_of(config, "ingest", cluster), cluster) == (3, 3)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"resources": {"embed": {"memry": 1}}}, "no setting 'engine.resources.embed.memry'"),
        ({"resources": {"label": {"workers": 2}}}, "only ingest and embed"),
        ({"resources": {"embed": {"workers": 2, "max_workers": 3}}}, "fixed number"),
        ({"resources": {"embed": {"min_workers": 4, "max_workers": 3}}}, "max_workers only 3"),
        ({"resources": {"embed": {"memory": "much"}}}, "not an amount of memory"),
        ({"address": "head"}, "host:port"),
        ({"runtime_env": {"env_vars": {"HF_TOKEN": "hunter2hunter2"}}}, "engine.pass_environment"),
        ({"pass_environment": ["AKIAABCDEFGHIJKLMNOP"]}, "not their values"),
    ],
)
def test_wrong_settings_are_named_and_secrets_not_repeated(engine: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_job({"corpus": {"sources": "demo"}, "out": "x", "engine": engine}, where="the settings")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


def test_a_runtime_environment_is_read_from_a_file_and_its_secrets_refused(tmp_path: Path) -> None:
    path = tmp_path / "env.yaml"
    path.write_text("env_vars: {POLARS_MAX_THREADS: '1'}\npip: [latentscale]\n")
    config = EngineConfig(name="ray", runtime_env=str(path))
    assert read_runtime_env(config) == {"env_vars": {"POLARS_MAX_THREADS": "1"}, "pip": ["latentscale"]}
    path.write_text("env_vars: {DB_PASSWORD: hunter2}\n")
    with pytest.raises(ConfigError, match="DB_PASSWORD") as caught:
        check_engine(config)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"address": "auto"}, {"runtime_env": {"pip": ["x"]}}])
def test_settings_of_a_cluster_are_refused_by_the_local_engine(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="local"):
        check_engine(EngineConfig.model_validate({"name": "local", **settings}))
