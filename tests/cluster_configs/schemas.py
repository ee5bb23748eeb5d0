"""The schemas of KubeRay's objects: a short one of the fields that are used, and the full ones where they are there.

Pod templates within them are Kubernetes' own: :func:`kubernetes_problems` checks those.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.cluster_configs.manifests import Manifest, pods

CRDS = os.environ.get("LATENTSCALE_KUBERAY_CRDS")


def strict(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    names = {name.rstrip("_"): value for name, value in properties.items()}
    return {"type": "object", "properties": names, "required": list(required), "additionalProperties": False}


STRING, BOOLEAN = {"type": "string"}, {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
SECONDS = {"type": "integer", "minimum": 1}
WORDS = {"type": "object", "additionalProperties": STRING}
POD_TEMPLATE = strict(("metadata", "spec"), metadata=strict(labels=WORDS, annotations=WORDS), spec={"type": "object"})
METADATA = strict(
    ("namespace", "labels"), name=STRING, generateName=STRING, namespace=STRING, labels=WORDS, annotations=WORDS
)
GROUP = {"rayStartParams": WORDS, "template": POD_TEMPLATE}
RAY_CLUSTER = strict(
    ("rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"),
    rayVersion=STRING,
    authOptions=strict(("mode", "secretName"), mode={"enum": ["token"]}, secretName=STRING),
    enableInTreeAutoscaling=BOOLEAN,
    autoscalerOptions=strict(
        version={"enum": ["v1", "v2"]},
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        idleTimeoutSeconds=COUNT,
        imagePullPolicy=STRING,
        resources={"type": "object"},
        securityContext={"type": "object"},
        env={"type": "array"},
        volumeMounts={"type": "array"},
    ),
    headGroupSpec=strict(("rayStartParams", "template"), **GROUP),
    workerGroupSpecs={
        "type": "array",
        "items": strict(
            ("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
            groupName=STRING,
            replicas=COUNT,
            minReplicas=COUNT,
            maxReplicas=COUNT,
            **GROUP,
        ),
    },
)
RAY_JOB = strict(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=STRING,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "SidecarMode"]},
    submitterConfig=strict(backoffLimit=COUNT),
    submitterPodTemplate=POD_TEMPLATE,
    backoffLimit=COUNT,
    activeDeadlineSeconds=SECONDS,
    preRunningDeadlineSeconds=SECONDS,
    shutdownAfterJobFinishes=BOOLEAN,
    ttlSecondsAfterFinished=COUNT,
    metadata=WORDS,
    rayClusterSpec=RAY_CLUSTER,
)
RAY_CRON_JOB = strict(
    ("schedule", "jobTemplate"), schedule=STRING, timeZone=STRING, suspend=BOOLEAN, jobTemplate=RAY_JOB
)
SHORT = {
    kind: strict(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"enum": ["ray.io/v1"]},
        kind={"enum": [kind]},
        metadata=METADATA,
        spec=spec,
    )
    for kind, spec in {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB, "RayCronJob": RAY_CRON_JOB}.items()
}

# Of the Prometheus operator: the fields that are used.
POD_MONITOR = strict(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"enum": ["monitoring.coreos.com/v1"]},
    kind={"enum": ["PodMonitor"]},
    metadata=METADATA,
    spec=strict(
        ("selector", "podMetricsEndpoints"),
        selector=strict(("matchLabels",), matchLabels=WORDS),
        podMetricsEndpoints={"type": "array", "items": strict(("port",), port=STRING, interval=STRING)},
    ),
)


def kuberay_problems(manifest: Manifest, schemas: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one of KubeRay's objects."""
    validator = jsonschema.Draft202012Validator(schemas[manifest.kind])
    for error in validator.iter_errors(manifest.value):
        yield f"{manifest.name}: {'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"


def kubernetes_problems(manifest: Manifest, version: str) -> Iterator[str]:
    """What is wrong with one of Kubernetes' objects, or with the pod templates within one of KubeRay's."""
    if manifest.kind == "PodMonitor":
        for error in jsonschema.Draft202012Validator(POD_MONITOR).iter_errors(manifest.value):
            yield f"{manifest.name}: {'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        return
    if not manifest.value["apiVersion"].startswith("ray.io/"):
        yield from _validate(manifest.value, manifest.name, version)
        return
    for pod in pods(manifest):
        template = {"metadata": {"labels": pod.labels}, "spec": pod.spec}
        yield from _validate({"apiVersion": "v1", "kind": "PodTemplate", "template": template}, pod.where, version)


def _validate(value: dict[str, Any], where: str, version: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import kubernetes_validate
    try:
        kubernetes_validate.validate(value, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{where}: {'.'.join(map(str, error.path))}: {error.message[:200]}"


@functools.cache
def full_schemas(folder: str) -> dict[str, Any]:
    """KubeRay's own definitions as JSON schemas that refuse unknown fields, as the API server does when asked to."""
    found: dict[str, Any] = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        # The definitions are megabytes: the safe loader in C, where PyYAML has it.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        for definition in yaml.load_all(path.read_text(encoding="utf-8"), loader):
            spec = definition["spec"]
            version = next(one for one in spec["versions"] if one["name"] == "v1")
            found[spec["names"]["kind"]] = _as_json_schema(version["schema"]["openAPIV3Schema"], top=True)
    return found


def _as_json_schema(schema: dict[str, Any], *, top: bool = False) -> dict[str, Any]:
    result = {
        key: value
        for key, value in schema.items()
        if key in {"type", "enum", "required", "minLength", "minimum", "maximum"}
    }
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in schema:
        result["properties"] = {name: _as_json_schema(one) for name, one in schema["properties"].items()}
        if top:
            result["properties"]["metadata"] = METADATA
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = _as_json_schema(schema["additionalProperties"])
    if "items" in schema:
        result["items"] = _as_json_schema(schema["items"])
    return result
