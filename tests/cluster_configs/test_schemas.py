"""Every manifest is what the named versions of Kubernetes and KubeRay know."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.cluster_configs import schemas
from tests.cluster_configs.manifests import CONFIGS, KUBERAY, PLAIN, ROOT, VERSIONS, Manifest, manifests, ray_job_spec

KUBERAY_KINDS = ("RayCluster", "RayJob", "RayCronJob")
needs_crds = pytest.mark.skipif(
    not schemas.CRDS, reason="KubeRay's definitions are not here: LATENTSCALE_KUBERAY_CRDS names the folder with them"
)
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not here: kustomize is not run")


def of_kuberay() -> list[Manifest]:
    return [one for one in manifests() if one.kind in KUBERAY_KINDS]


def test_every_yaml_file_can_be_read_safely() -> None:
    files = [*CONFIGS.rglob("*.yaml"), *(ROOT / "jobs").glob("*.yaml")]
    assert len(files) > 10
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert list(yaml.safe_load_all(text)), path
        # Anchors are read by everybody, merge keys and tags are not.
        assert "<<:" not in text, path
        assert "!!" not in text, path


def test_the_expected_files_exist() -> None:
    kinds = {one.kind for one in manifests()}
    assert {
        *KUBERAY_KINDS,
        "CronJob",
        "Role",
        "RoleBinding",
        "ServiceAccount",
        "NetworkPolicy",
        "PodDisruptionBudget",
    } <= kinds


@pytest.mark.parametrize("version", VERSIONS["kubernetes"])
@pytest.mark.parametrize("manifest", [*manifests(), *manifests(PLAIN)], ids=lambda one: one.name)
def test_kubernetes_knows_every_field(manifest: Manifest, version: str) -> None:
    assert list(schemas.kubernetes_problems(manifest, version)) == []


@pytest.mark.parametrize("manifest", of_kuberay(), ids=lambda one: one.name)
def test_kuberay_knows_every_field(manifest: Manifest) -> None:
    assert list(schemas.kuberay_problems(manifest, schemas.SHORT)) == []


@needs_crds
@pytest.mark.parametrize("manifest", of_kuberay(), ids=lambda one: one.name)
def test_kuberays_own_definitions_know_every_field(manifest: Manifest) -> None:
    assert schemas.CRDS is not None
    assert list(schemas.kuberay_problems(manifest, schemas.full_schemas(schemas.CRDS))) == []


@needs_crds
@pytest.mark.parametrize("kind", KUBERAY_KINDS)
def test_the_short_schema_agrees_with_kuberays_own(kind: str) -> None:
    assert schemas.CRDS is not None
    problems: list[str] = []

    def compare(short: dict[str, Any], full: dict[str, Any], where: str) -> None:
        if "type" in short and short["type"] != full.get("type"):
            problems.append(f"{where}: {short['type']} for {full.get('type')}")
        if "enum" in short and "enum" in full and not set(short["enum"]) <= set(full["enum"]):
            problems.append(f"{where}: {short['enum']} for {full['enum']}")
        for name, inner in short.get("properties", {}).items():
            if name not in full.get("properties", {}):
                problems.append(f"{where}.{name} is not known")
            else:
                compare(inner, full["properties"][name], f"{where}.{name}")
        if "items" in short:
            compare(short["items"], full["items"], f"{where}[]")

    compare(schemas.SHORT[kind], schemas.full_schemas(schemas.CRDS)[kind], kind)
    assert problems == []


def changed(kind: str, change: Callable[[dict[str, Any]], Any]) -> Manifest:
    manifest = next(one for one in manifests() if one.kind == kind)
    change(manifest.value)
    return manifest


WRONG: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("RayJob", lambda v: v["spec"].update(backofLimit=1)),
    ("RayJob", lambda v: v["spec"].update(activeDeadlineSeconds="8h")),
    ("RayJob", lambda v: v.update(apiVersion="ray.io/v1alpha1")),
    ("RayCronJob", lambda v: v["spec"].update(concurrencyPolicy="Forbid")),
    ("RayCluster", lambda v: v["spec"]["workerGroupSpecs"][0].update(maxReplicas="6")),
    ("RayCluster", lambda v: v["spec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0})),
    ("RayCluster", lambda v: v["spec"]["authOptions"].update(mode="disabled")),
]


@pytest.mark.parametrize(("kind", "change"), WRONG)
def test_a_field_that_kuberay_does_not_know_is_seen(kind: str, change: Callable[[dict[str, Any]], Any]) -> None:
    manifest = changed(kind, change)
    assert list(schemas.kuberay_problems(manifest, schemas.SHORT)) != []


WRONG_PODS: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("CronJob", lambda v: v["spec"].update(startingDeadlineSecond=1)),
    ("CronJob", lambda v: v["spec"]["jobTemplate"]["spec"]["template"]["spec"].update(restartPolicies="Never")),
    ("NetworkPolicy", lambda v: v["spec"].update(ingresses=[])),
    ("Role", lambda v: v["rules"][0].update(verbs="get")),
    ("RayJob", lambda v: v["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"].update(runAsUser=1)),
    (
        "RayJob",
        lambda v: v["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0].update(cpu=1),
    ),
]


@pytest.mark.parametrize(("kind", "change"), WRONG_PODS)
@pytest.mark.parametrize("version", VERSIONS["kubernetes"])
def test_a_field_that_kubernetes_does_not_know_is_seen(
    kind: str, change: Callable[[dict[str, Any]], Any], version: str
) -> None:
    assert list(schemas.kubernetes_problems(changed(kind, change), version)) != []


def test_both_ways_to_run_a_night_run_the_same_job() -> None:
    template = next(one for one in manifests() if one.file == "rayjob-nightly.yaml")
    cron = next(one for one in manifests() if one.kind == "RayCronJob")
    assert ray_job_spec(template.value) == ray_job_spec(cron.value)


@needs_kubectl
def test_kustomize_makes_all_that_stays_and_the_config_maps() -> None:
    command = ["kubectl", "kustomize", str(KUBERAY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    made = [Manifest(file="kustomize", value=value) for value in yaml.safe_load_all(done.stdout)]
    for manifest in made:
        for version in VERSIONS["kubernetes"]:
            assert list(schemas.kubernetes_problems(manifest, version)) == []
    kinds = [one.kind for one in made]
    assert kinds.count("CronJob") == 1
    assert not set(kinds) & set(KUBERAY_KINDS)
    maps = {one.value["metadata"]["name"]: one.value["data"] for one in made if one.kind == "ConfigMap"}
    mounted = {
        volume["configMap"]["name"]
        for one in manifests()
        for pod in schemas.pods(one)
        for volume in pod.spec["volumes"]
        if "configMap" in volume
    }
    assert set(maps) == mounted
    for data in maps.values():
        for name, text in data.items():
            assert text == (KUBERAY / name).read_text(encoding="utf-8")


@needs_kubectl
def test_kustomize_gives_the_manifests_without_ray_their_image_and_settings() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(PLAIN)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [Manifest(file="kustomize", value=value) for value in yaml.safe_load_all(done.stdout)]
    for manifest in made:
        for version in VERSIONS["kubernetes"]:
            assert list(schemas.kubernetes_problems(manifest, version)) == []
    maps = {one.value["metadata"]["name"] for one in made if one.kind == "ConfigMap"}
    for pod in (pod for one in made for pod in schemas.pods(one)):
        (container,) = pod.spec["containers"]
        assert container["image"] == f"registry.example.com/latentscale/latentscale-cpu:{VERSIONS['latentscale']}"
        assert container["envFrom"][0]["configMapRef"]["name"] in maps
        named = [volume["configMap"]["name"] for volume in pod.spec["volumes"] if "configMap" in volume]
        assert set(named) <= maps
