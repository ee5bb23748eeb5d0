"""Read the manifests of cluster_configs/ and find the pods in them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "cluster_configs"
KUBERAY = CONFIGS / "kuberay"
PLAIN = CONFIGS / "plain"
VERSIONS: dict[str, Any] = yaml.safe_load((CONFIGS / "versions.yaml").read_text())
# KubeRay's CRDs hold pod templates; what the operator adds to them is known from its source (labels of pods).
OPERATOR_LABELS = {"head": {"ray.io/node-type": "head"}, "worker": {"ray.io/node-type": "worker"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One document of one file."""

    file: str
    value: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.value["kind"]

    @property
    def name(self) -> str:
        metadata = self.value["metadata"]
        return f"{self.kind} {metadata.get('name') or metadata['generateName']} in {self.file}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod template: where it is, its labels (with those that the operator adds) and its spec."""

    where: str
    role: str
    labels: dict[str, str]
    spec: dict[str, Any]
    manifest: Manifest


def manifests(folder: Path = KUBERAY) -> list[Manifest]:
    """Every Kubernetes object in cluster_configs/kuberay, or in another folder, each a copy that a test may change."""
    found: list[Manifest] = []
    for path in sorted(folder.glob("*.yaml")):
        objects = [
            value
            for value in documents(path.read_text(encoding="utf-8"))
            if "apiVersion" in value and value["kind"] != "Kustomization"
        ]
        # Anchors share one object between places: a change in one place must not reach the others.
        found += [Manifest(file=path.name, value=unshared(value)) for value in objects]
    return found


@functools.cache
def documents(text: str) -> list[Any]:
    """The documents of a YAML text, parsed once: some hundred tests ask for the same files. Nobody may change them."""
    return list(yaml.safe_load_all(text))


def unshared(value: Any) -> Any:
    """A copy in which no two places are the same object."""
    if isinstance(value, dict):
        return {key: unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unshared(item) for item in value]
    return copy.deepcopy(value)


def ray_cluster_spec(value: dict[str, Any]) -> dict[str, Any] | None:
    """The RayCluster's spec within a RayCluster, RayJob or RayCronJob."""
    spec = value.get("spec", {})
    if value["kind"] == "RayCluster":
        return spec
    if value["kind"] == "RayJob":
        return spec["rayClusterSpec"]
    if value["kind"] == "RayCronJob":
        return spec["jobTemplate"]["rayClusterSpec"]
    return None


def ray_job_spec(value: dict[str, Any]) -> dict[str, Any] | None:
    """The RayJob's spec within a RayJob or RayCronJob."""
    return {"RayJob": lambda: value["spec"], "RayCronJob": lambda: value["spec"]["jobTemplate"]}.get(
        value["kind"], lambda: None
    )()


def pods(manifest: Manifest) -> Iterator[Pod]:
    """Every pod template of a manifest."""
    value = manifest.value
    job, cluster = ray_job_spec(value), ray_cluster_spec(value)
    templates: list[tuple[str, str, dict[str, Any]]] = []
    if job is not None:
        templates.append(("submitter", "submitter", job["submitterPodTemplate"]))
    if cluster is not None:
        templates.append(("head", "head", cluster["headGroupSpec"]["template"]))
        templates += [(group["groupName"], "worker", group["template"]) for group in cluster["workerGroupSpecs"]]
    if value["kind"] == "CronJob":
        template = value["spec"]["jobTemplate"]["spec"]["template"]
        makes_jobs = template["metadata"]["labels"].get("role") == "job-creator"
        templates.append(("job", "creator" if makes_jobs else "runner", template))
    for where, role, template in templates:
        labels = {**template["metadata"].get("labels", {}), **OPERATOR_LABELS.get(role, {})}
        yield Pod(
            where=f"{where} of {manifest.name}", role=role, labels=labels, spec=template["spec"], manifest=manifest
        )


def containers(pod: Pod) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container of a pod; beside an autoscaled head, the autoscaler that the operator adds."""
    for container in [*pod.spec.get("initContainers", []), *pod.spec["containers"]]:
        yield f"container {container['name']} of {pod.where}", container
    cluster = ray_cluster_spec(pod.manifest.value)
    if pod.role == "head" and cluster and cluster.get("enableInTreeAutoscaling"):
        options = cluster["autoscalerOptions"]
        image = pod.spec["containers"][0]["image"]
        yield f"autoscaler of {pod.where}", {"name": "autoscaler", "image": image, **options}
