"""Resources requested by stages and available in clusters, and settings that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from latentscale.config import EngineConfig, StageResources, parse_job
from latentscale.embedders.static import StaticSpec
from latentscale.engines import check_engine, chosen_engine, local
from latentscale.engines.ray.environment import read_runtime_env, stage_runtime_env
from latentscale.engines.resources import (
    Cluster,
    Node,
    check_requests,
    check_started_workers,
    gpu_notices,
    request_of,
    workers_of,
)
from latentscale.errors import ConfigError, ResourceError
from latentscale.machine import visible_gpus
from latentscale.pipeline.resources import with_default_resources

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
    for stage in ("neighbors", "project", "place", "cluster", "label", "publish"):
        assert request_of(config, stage, cluster).cpus == 16


def test_a_later_stage_uses_the_largest_suitable_node() -> None:
    cluster = fixed({"CPU": 64, "memory": 64 * GB}, {"CPU": 8, "GPU": 1, "memory": 500 * GB})
    request = request_of(asked(project={"memory": "100GB"}), "project", cluster)
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


def test_two_nodes_with_half_of_the_request_do_not_satisfy_it() -> None:
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


def test_workers_get_a_gpu_each_if_available_and_else_cpus() -> None:
    config = asked(embed={"gpus": "auto"})
    gpus = fixed({"CPU": 8, "GPU": 4}, {"CPU": 2})
    assert request_of(config, "embed", gpus).ray_options() == {"num_cpus": 1.0, "num_gpus": 1.0}
    assert workers_of(config, request_of(config, "embed", gpus), gpus) == (4, 4)
    assert gpu_notices(config, gpus) == ["embed: a GPU for each worker (engine.resources.embed.gpus is auto)"]
    none = fixed({"CPU": 8})
    assert request_of(config, "embed", none).ray_options() == {"num_cpus": 1.0}
    assert "on CPUs, as this machine has no GPU" in gpu_notices(config, none)[0]
    # A node that the autoscaler may start counts.
    grows = Cluster(nodes=[Node({"CPU": 2.0})], kinds=[Node({"CPU": 8.0, "GPU": 1.0}, name="gpu", count=3)])
    assert request_of(config, "embed", grows).resources["GPU"] == 1
    check_requests(config, grows)
    assert workers_of(config, request_of(config, "embed", grows), grows) == (1, 3)
    assert gpu_notices(asked(embed={"gpus": 1}), gpus) == gpu_notices(asked(), gpus) == []


def test_several_workers_share_a_gpu() -> None:
    config = asked(embed={"gpus": 0.25})
    cluster = fixed({"CPU": 16, "GPU": 2})
    assert workers_of(config, request_of(config, "embed", cluster), cluster) == (8, 8)


@pytest.mark.parametrize(
    ("cpus", "nodes", "kinds", "room"),
    [
        # Two workers of two processors, and one for the stage itself.
        (2, [{"CPU": 4}], [], 1),
        (2, [{"CPU": 5}], [], None),
        (2, [{"CPU": 2}, {"CPU": 2}], [], 1),
        (2, [{"CPU": 2}, {"CPU": 2}, {"CPU": 1}], [], None),
        (2, [{"CPU": 2}, {"CPU": 3}], [], None),
        # Without a number a processor each, and not a node each.
        (None, [{"CPU": 2}], [], 1),
        (None, [{"CPU": 3}], [], None),
        # What the autoscaler may start.
        (2, [{"CPU": 1}], [Node({"CPU": 2}, name="more", count=2)], 1),
        (2, [{"CPU": 1}], [Node({"CPU": 2}, name="more", count=3)], None),
        (2, [{"CPU": 1}], [Node({"CPU": 2}, name="more", count=-1)], None),
        (2, [{"CPU": 2}], [], 0),
    ],
)
def test_workers_of_a_stage_fit_next_to_its_own_cpu_or_are_refused(
    cpus: float | None, nodes: list[dict[str, float]], kinds: list[Node], room: int | None
) -> None:
    config = asked(neighbors={"workers": 2} | ({} if cpus is None else {"cpus": cpus}))
    cluster = Cluster(nodes=[Node(node) for node in nodes], kinds=kinds)
    if room is None:
        check_requests(config, cluster)
        return
    with pytest.raises(ResourceError, match=f"starts 2 workers with {cpus or 1} CPU each, .* room for {room} beside"):
        check_requests(config, cluster)


def test_replicas_of_a_model_fit_next_to_the_label_stage_or_are_refused() -> None:
    gpu = fixed({"CPU": 1, "GPU": 1})
    # A replica with one GPU needs no processor, unless it is given any.
    check_started_workers(asked(label={"gpus": 1}), "label", gpu)
    with pytest.raises(ResourceError, match="stage label takes a processor and starts 1 workers with 1 CPU, 1 GPU"):
        check_started_workers(asked(label={"gpus": 1, "cpus": 1}), "label", gpu)
    check_started_workers(asked(label={"gpus": 1, "cpus": 1}), "label", fixed({"CPU": 2, "GPU": 1}))


class _Wishing(StaticSpec):
    def resources(self) -> StageResources:
        return StageResources(gpus="auto", cpus=2)


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ({}, {"gpus": "auto", "cpus": 2}),
        ({"workers": 4}, {"gpus": "auto", "cpus": 2, "workers": 4}),
        ({"gpus": 0}, {"gpus": 0, "cpus": 2}),
        ({"gpus": 0.5, "cpus": 1}, {"gpus": 0.5, "cpus": 1}),
    ],
)
def test_unset_resources_are_those_requested_by_the_embedder(given: dict[str, Any], filled: dict[str, Any]) -> None:
    engine = {"name": "ray", "resources": {"embed": given}}
    job = parse_job({"corpus": {"sources": "demo"}, "out": "x", "engine": engine}, where="the settings")
    assert with_default_resources(job, _Wishing()).engine.resources.embed == StageResources(**filled)


@pytest.mark.parametrize(
    ("gpus", "worker", "visible", "expected"),
    [
        (1, 1, "0,1,2", "1"),
        (2, 1, "0,1,2,3", "2,3"),
        (0.5, 1, "4,5", "4"),
        (0.5, 2, "4,5", "5"),
        ("auto", 0, "7", "7"),
        (0, 0, "0", ""),
        (None, 0, "0", None),
    ],
)
def test_each_process_sees_its_own_gpus(
    monkeypatch: pytest.MonkeyPatch, gpus: Any, worker: int, visible: str, expected: str | None
) -> None:
    monkeypatch.setattr(local, "visible_gpus", lambda: visible.split(","))
    engine = local.LocalEngine(EngineConfig.model_validate({"name": "local", "resources": {"embed": {"gpus": gpus}}}))
    assert engine._gpus_of("embed", worker).get("CUDA_VISIBLE_DEVICES") == expected


def test_a_machine_without_a_gpu_reports_that_auto_means_cpus() -> None:
    heard: list[str] = []
    config = EngineConfig.model_validate({"name": "local", "resources": {"embed": {"gpus": "auto"}}})
    local.LocalEngine(config, on_notice=heard.append)
    assert heard == [] if visible_gpus() else "embed: on CPUs" in heard[0]


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"resources": {"embed": {"memry": 1}}}, "no setting 'engine.resources.embed.memry'"),
        ({"resources": {"label": {"workers": 2}}}, "only ingest, embed, neighbors have"),
        ({"resources": {"embed": {"workers": 2, "max_workers": 3}}}, "fixed number"),
        ({"resources": {"embed": {"min_workers": 4, "max_workers": 3}}}, "max_workers only 3"),
        ({"resources": {"embed": {"memory": "much"}}}, "not an amount of memory"),
        ({"address": "head"}, "host:port"),
        ({"runtime_env": {"env_vars": {"HF_TOKEN": "hunter2hunter2"}}}, "engine.pass_environment"),
        ({"resources": {"label": {"runtime_env": {"env_vars": {"HF_TOKEN": "hunter2hunter2"}}}}}, "pass_environment"),
        ({"resources": {"label": {"image": "https://example.org/x"}}}, "an image is registry/repository:tag"),
        ({"resources": {"label": {"image": "user:hunter2hunter2@example.org/x"}}}, "an image is registry/repository"),
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


def test_auto_is_the_cluster_of_the_ray_job_that_the_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "RAY_JOB_CONFIG_JSON_ENV_VAR"
    monkeypatch.delenv(name, raising=False)
    assert chosen_engine(EngineConfig()) == (EngineConfig(name="local"), None)
    assert chosen_engine(EngineConfig(address="10.0.0.1:6379"))[0].name == "ray"
    for other in ("not json", json.dumps({"metadata": {}})):
        monkeypatch.setenv(name, other)
        assert chosen_engine(EngineConfig())[0].name == "local"
    monkeypatch.setenv(name, json.dumps({"metadata": {"job_submission_id": "raysubmit_1"}}))
    chosen, notice = chosen_engine(EngineConfig(workers=3))
    assert chosen == EngineConfig(name="ray", address="auto", workers=3)
    assert notice is not None
    assert "raysubmit_1" in notice
    local = EngineConfig(name="local")
    assert chosen_engine(local) == (local, None)


@pytest.mark.parametrize("settings", [{"address": "auto"}, {"runtime_env": {"pip": ["x"]}}])
def test_settings_of_a_cluster_are_refused_by_the_local_engine(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="local"):
        check_engine(EngineConfig.model_validate({"name": "local", **settings}))


def test_each_stage_may_have_an_environment_and_an_image_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "cuml.yaml"
    path.write_text("pip: [cuml-cu13]\n")
    config = EngineConfig.model_validate(
        {
            "name": "ray",
            "resources": {
                "project": {"runtime_env": str(path)},
                "label": {
                    "image": "example/latentscale-vllm:1",
                    "runtime_env": {"env_vars": {"VLLM_LOGGING_LEVEL": "ERROR"}},
                },
            },
        }
    )
    assert stage_runtime_env(config, "project") == {"pip": ["cuml-cu13"]}
    assert stage_runtime_env(config, "label") == {
        "image_uri": "example/latentscale-vllm:1",
        "env_vars": {"VLLM_LOGGING_LEVEL": "ERROR"},
    }
    assert stage_runtime_env(config, "embed") == {}
    path.write_text("env_vars: {DB_PASSWORD: hunter2}\n")
    with pytest.raises(ConfigError, match="DB_PASSWORD") as caught:
        check_engine(config)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("engine", "where"),
    [
        ({"resources": {"label": {"image": "a/b:1", "runtime_env": {"pip": ["x"]}}}}, "engine.resources.label"),
        ({"resources": {"label": {"image": "a/b:1"}}, "runtime_env": {"working_dir": "."}}, "label inherits"),
    ],
)
def test_fields_that_ray_rejects_with_an_image_are_refused_before_any_work(engine: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match="with an image") as caught:
        check_engine(EngineConfig.model_validate({"name": "ray", **engine}))
    assert where in str(caught.value.where)
