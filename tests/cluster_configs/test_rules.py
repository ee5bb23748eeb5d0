"""The manifests hold to the rules, and each rule sees what breaks it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.cluster_configs import rules
from tests.cluster_configs.manifests import (
    KUBERAY,
    PLAIN,
    Manifest,
    containers,
    manifests,
    pods,
    ray_cluster_spec,
    ray_job_spec,
)

Change = Callable[[list[Manifest]], None]


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_every_manifest_holds_to_the_rule(rule: rules.Rule) -> None:
    assert list(rule(manifests(KUBERAY))) == []


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_manifests_without_ray_hold_to_the_rule(rule: rules.Rule) -> None:
    assert list(rule(plain_manifests())) == []


def plain_manifests() -> list[Manifest]:
    """Those of cluster_configs/plain, with the image that its kustomization gives them."""
    found = manifests(PLAIN)
    (image,) = yaml.safe_load((PLAIN / "kustomization.yaml").read_text())["images"]
    for manifest in found:
        for pod in pods(manifest):
            for container in pod.spec["containers"]:
                assert container["image"] == image["name"]
                container["image"] = f"{image['newName']}:{image['newTag']}"
    return found


def test_pods_without_ray_reach_the_store_and_nothing_else() -> None:
    found = manifests(PLAIN)
    runners = [pod for manifest in found for pod in pods(manifest)]
    assert {pod.role for pod in runners} == {"runner"}
    assert len(runners) == 3
    for pod in runners:
        policies = [
            one.value["metadata"]["name"]
            for one in found
            if one.kind == "NetworkPolicy"
            and one.value["spec"]["podSelector"].get("matchLabels", {}).items() <= pod.labels.items()
        ]
        assert policies == ["deny-all", "dns", "store"]


def first(found: list[Manifest], kind: str) -> dict[str, Any]:
    return next(one.value for one in found if one.kind == kind)


def named(found: list[Manifest], name: str) -> dict[str, Any]:
    return next(one.value for one in found if one.value["metadata"].get("name") == name)


def container(found: list[Manifest], kind: str = "RayJob", role: str = "worker") -> dict[str, Any]:
    manifest = next(one for one in found if one.kind == kind)
    pod = next(one for one in pods(manifest) if one.role == role)
    return next(inner for _, inner in containers(pod))


def pod_spec(found: list[Manifest], kind: str = "RayJob", role: str = "head") -> dict[str, Any]:
    manifest = next(one for one in found if one.kind == kind)
    return next(one for one in pods(manifest) if one.role == role).spec


def added(kind: str, **fields: Any) -> Change:
    metadata = {"name": "added", "namespace": "latentscale", "labels": {"app.kubernetes.io/part-of": "latentscale"}}
    return lambda found: found.append(
        Manifest(file="added.yaml", value={"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields})
    )


def cluster(found: list[Manifest], kind: str = "RayCluster") -> dict[str, Any]:
    spec = ray_cluster_spec(first(found, kind))
    assert spec is not None
    return spec


def job(found: list[Manifest], kind: str = "RayJob") -> dict[str, Any]:
    spec = ray_job_spec(first(found, kind))
    assert spec is not None
    return spec


def policy_rule(found: list[Manifest], name: str, direction: str, index: int = 0) -> dict[str, Any]:
    return named(found, name)["spec"][direction][index]


CHANGES: list[tuple[str, rules.Rule, Change]] = [
    ("tag latest", rules.images_are_pinned, lambda m: container(m).update(image="registry.example.com/a/b:latest")),
    (
        "no tag",
        rules.images_are_pinned,
        lambda m: container(m, role="submitter").update(image="registry.example.com:5000/a"),
    ),
    ("pulled each time", rules.images_are_pinned, lambda m: container(m).update(imagePullPolicy="Always")),
    (
        "token written down",
        rules.no_secret_is_written_down,
        lambda m: container(m)["env"].append({"name": "RAY_AUTH_TOKEN", "value": "x"}),
    ),
    ("a Secret", rules.no_secret_is_written_down, added("Secret", stringData={"auth_token": "x"})),
    (
        "key in an annotation",
        rules.no_secret_is_written_down,
        lambda m: first(m, "CronJob")["metadata"].update(annotations={"note": "AKIA" + "A" * 16}),
    ),
    ("no limits", rules.every_container_has_requests_and_limits, lambda m: container(m)["resources"].pop("limits")),
    (
        "no memory request of the autoscaler",
        rules.every_container_has_requests_and_limits,
        lambda m: cluster(m)["autoscalerOptions"]["resources"]["requests"].pop("memory"),
    ),
    (
        "no ephemeral storage for the CronJob's pod",
        rules.every_container_has_requests_and_limits,
        lambda m: container(m, "CronJob", "creator")["resources"]["limits"].pop("ephemeral-storage"),
    ),
    (
        "GPU asked for without a limit",
        rules.every_container_has_requests_and_limits,
        lambda m: container(m)["resources"]["requests"].update({"nvidia.com/gpu": "1"}),
    ),
    ("may be root", rules.nothing_runs_as_root, lambda m: pod_spec(m)["securityContext"].pop("runAsNonRoot")),
    ("no number", rules.nothing_runs_as_root, lambda m: pod_spec(m)["securityContext"].update(runAsUser=0)),
    ("container is root", rules.nothing_runs_as_root, lambda m: container(m)["securityContext"].update(runAsUser=0)),
    (
        "no seccomp",
        rules.nothing_runs_as_root,
        lambda m: pod_spec(m, "CronJob", "creator")["securityContext"].pop("seccompProfile"),
    ),
    (
        "root can be written",
        rules.root_file_systems_are_read_only,
        lambda m: container(m)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (
        "autoscaler can write",
        rules.root_file_systems_are_read_only,
        lambda m: cluster(m)["autoscalerOptions"].pop("securityContext"),
    ),
    ("no /tmp", rules.root_file_systems_are_read_only, lambda m: container(m).update(volumeMounts=[])),
    (
        "may gain rights",
        rules.nobody_gains_rights,
        lambda m: container(m, role="submitter")["securityContext"].pop("allowPrivilegeEscalation"),
    ),
    ("privileged", rules.nobody_gains_rights, lambda m: container(m)["securityContext"].update(privileged=True)),
    (
        "capability",
        rules.nobody_gains_rights,
        lambda m: container(m)["securityContext"]["capabilities"].update(add=["SYS_PTRACE"]),
    ),
    (
        "keeps capabilities",
        rules.nobody_gains_rights,
        lambda m: container(m)["securityContext"]["capabilities"].update(drop=["NET_RAW"]),
    ),
    ("hostNetwork", rules.nothing_of_the_node_is_shared, lambda m: pod_spec(m).update(hostNetwork=True)),
    (
        "hostPath",
        rules.nothing_of_the_node_is_shared,
        lambda m: pod_spec(m)["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    ),
    ("endless emptyDir", rules.nothing_of_the_node_is_shared, lambda m: pod_spec(m)["volumes"][0]["emptyDir"].clear()),
    ("hostPort", rules.nothing_of_the_node_is_shared, lambda m: container(m)["ports"][0].update(hostPort=8080)),
    ("all verbs", rules.rights_are_few, lambda m: first(m, "Role")["rules"][0].update(verbs=["*"])),
    ("all resources", rules.rights_are_few, lambda m: first(m, "Role")["rules"][0].update(resources=["*"])),
    ("may delete", rules.rights_are_few, lambda m: first(m, "Role")["rules"][0]["verbs"].append("delete")),
    (
        "may read secrets",
        rules.rights_are_few,
        lambda m: first(m, "Role")["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
    ),
    ("cluster role", rules.rights_are_few, added("ClusterRole", rules=[])),
    (
        "token for Ray",
        rules.only_the_job_creator_gets_an_api_token,
        lambda m: pod_spec(m, "RayCluster").update(automountServiceAccountToken=True),
    ),
    (
        "token not refused",
        rules.only_the_job_creator_gets_an_api_token,
        lambda m: pod_spec(m).pop("automountServiceAccountToken"),
    ),
    (
        "the autoscaler's token for Ray",
        rules.only_the_job_creator_gets_an_api_token,
        lambda m: container(m, "RayCluster", "head")["volumeMounts"].append({"name": "api-token", "mountPath": "/x"}),
    ),
    (
        "account gives its token",
        rules.only_the_job_creator_gets_an_api_token,
        lambda m: first(m, "ServiceAccount").pop("automountServiceAccountToken"),
    ),
    ("default account", rules.only_the_job_creator_gets_an_api_token, lambda m: pod_spec(m).pop("serviceAccountName")),
    ("no authOptions", rules.ray_asks_for_its_token, lambda m: cluster(m).pop("authOptions")),
    (
        "authentication off",
        rules.ray_asks_for_its_token,
        lambda m: cluster(m, "RayJob")["authOptions"].update(mode="disabled"),
    ),
    (
        "container without a token",
        rules.ray_asks_for_its_token,
        lambda m: container(m).update(env=[v for v in container(m)["env"] if v["name"] != "RAY_AUTH_MODE"]),
    ),
    (
        "another secret",
        rules.ray_asks_for_its_token,
        lambda m: container(m, "RayCronJob")["env"][1]["valueFrom"]["secretKeyRef"].update(name="other"),
    ),
    ("no deadline", rules.every_job_ends, lambda m: job(m).pop("activeDeadlineSeconds")),
    ("no ttl", rules.every_job_ends, lambda m: job(m).pop("ttlSecondsAfterFinished")),
    ("no backoff limit", rules.every_job_ends, lambda m: job(m, "RayCronJob").pop("backoffLimit")),
    ("the cluster stays", rules.every_job_ends, lambda m: job(m).update(shutdownAfterJobFinishes=False)),
    ("nights overlap", rules.every_job_ends, lambda m: first(m, "CronJob")["spec"].update(concurrencyPolicy="Allow")),
    ("any delay", rules.every_job_ends, lambda m: first(m, "CronJob")["spec"].pop("startingDeadlineSeconds")),
    ("no history limit", rules.every_job_ends, lambda m: first(m, "CronJob")["spec"].pop("failedJobsHistoryLimit")),
    (
        "no deadline of the night",
        rules.every_job_ends,
        lambda m: first(m, "CronJob")["spec"]["jobTemplate"]["spec"].pop("activeDeadlineSeconds"),
    ),
    ("a night of a day", rules.a_night_is_over_before_the_next, lambda m: job(m, "RayCronJob").update(backoffLimit=9)),
    (
        "the pod gives up first",
        rules.a_night_is_over_before_the_next,
        lambda m: first(m, "CronJob")["spec"]["jobTemplate"]["spec"].update(activeDeadlineSeconds=3600),
    ),
    ("head anywhere", rules.heads_stay_off_spot_nodes_and_gpus_are_on_them, lambda m: pod_spec(m).pop("affinity")),
    (
        "GPUs anywhere",
        rules.heads_stay_off_spot_nodes_and_gpus_are_on_them,
        lambda m: cluster(m)["workerGroupSpecs"][1]["template"]["spec"].pop("affinity"),
    ),
    (
        "no toleration",
        rules.heads_stay_off_spot_nodes_and_gpus_are_on_them,
        lambda m: cluster(m)["workerGroupSpecs"][2]["template"]["spec"].update(tolerations=[]),
    ),
    ("a load balancer", rules.nothing_is_open_to_the_world, added("Service", spec={"type": "LoadBalancer"})),
    (
        "an ingress",
        rules.nothing_is_open_to_the_world,
        lambda m: cluster(m)["headGroupSpec"].update(enableIngress=True),
    ),
    (
        "a node port",
        rules.nothing_is_open_to_the_world,
        lambda m: cluster(m)["headGroupSpec"].update(serviceType="NodePort"),
    ),
    (
        "the world may come in",
        rules.nothing_is_open_to_the_world,
        lambda m: policy_rule(m, "ray-dashboard", "ingress")["from"].append({"ipBlock": {"cidr": "0.0.0.0/0"}}),
    ),
    (
        "everybody may come in",
        rules.nothing_is_open_to_the_world,
        lambda m: policy_rule(m, "ray", "ingress").pop("from"),
    ),
    ("all ports", rules.nothing_is_open_to_the_world, lambda m: policy_rule(m, "ray", "ingress").pop("ports")),
    (
        "all namespaces",
        rules.nothing_is_open_to_the_world,
        lambda m: policy_rule(m, "ray", "ingress")["from"].append({"namespaceSelector": {}}),
    ),
    (
        "metadata service",
        rules.nothing_is_open_to_the_world,
        lambda m: policy_rule(m, "ray", "egress", 1)["to"][0]["ipBlock"]["except"].remove("169.254.0.0/16"),
    ),
    (
        "out on any port",
        rules.nothing_is_open_to_the_world,
        lambda m: policy_rule(m, "ray", "egress", 1)["ports"].append({"protocol": "TCP", "port": 22}),
    ),
    (
        "no closing policy",
        rules.the_namespace_is_closed,
        lambda m: named(m, "deny-all")["spec"].update(policyTypes=["Ingress"]),
    ),
    (
        "pods are not checked",
        rules.the_namespace_is_closed,
        lambda m: first(m, "Namespace")["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce"),
    ),
    (
        "a port of Ray's that is shut",
        rules.the_policy_fits_the_pods,
        lambda m: cluster(m)["headGroupSpec"]["rayStartParams"].update({"object-manager-port": "8076"}),
    ),
    (
        "a port that Ray chooses",
        rules.the_policy_fits_the_pods,
        lambda m: cluster(m)["workerGroupSpecs"][0]["rayStartParams"].pop("node-manager-port"),
    ),
    ("dashboard shut", rules.the_policy_fits_the_pods, lambda m: named(m, "ray-submitter")["spec"].update(egress=[])),
    (
        "worker without its label",
        rules.the_policy_fits_the_pods,
        lambda m: cluster(m)["workerGroupSpecs"][0]["template"]["metadata"]["labels"].pop("role"),
    ),
    (
        "Ray may reach the Kubernetes API",
        rules.the_policy_fits_the_pods,
        lambda m: cluster(m, "RayJob")["workerGroupSpecs"][0]["template"]["metadata"]["labels"].update(
            {"kubernetes-api": "true"}
        ),
    ),
    ("an older Ray", rules.the_same_ray_everywhere, lambda m: cluster(m).update(rayVersion="2.40.0")),
    (
        "two versions of images",
        rules.the_same_ray_everywhere,
        lambda m: container(m).update(image="registry.example.com/a/b:0.2.0"),
    ),
    ("a name that is too long", rules.names_fit, lambda m: first(m, "RayCronJob")["metadata"].update(name="n" * 50)),
    ("another namespace", rules.names_fit, lambda m: first(m, "CronJob")["metadata"].pop("namespace")),
]


@pytest.mark.parametrize(("rule", "change"), [change[1:] for change in CHANGES], ids=[change[0] for change in CHANGES])
def test_a_manifest_that_breaks_the_rule_is_seen(rule: rules.Rule, change: Change) -> None:
    changed = copy.deepcopy(manifests())
    change(changed)
    assert changed != manifests()
    assert list(rule(changed)) != []


def test_every_rule_has_a_change_that_it_sees() -> None:
    assert {rule for _, rule, _ in CHANGES} == set(rules.RULES)


def test_the_pods_of_all_files_are_checked() -> None:
    found = [pod.where for manifest in manifests() for pod in pods(manifest)]
    assert len(found) == 1 + 4 + 5 + 3 + 3  # CronJob, RayCluster, RayJob, nightly RayJob, RayCronJob


def test_prometheus_gets_to_the_port_that_the_pod_monitor_names() -> None:
    found = manifests()
    monitor, policy = first(found, "PodMonitor")["spec"], named(found, "ray-metrics")["spec"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert monitor["selector"] == policy["podSelector"]
    (opened,) = policy["ingress"][0]["ports"]
    watched = [pod for one in found for pod in pods(one) if pod.role in ("head", "worker")]
    assert watched
    for pod in watched:
        assert monitor["selector"]["matchLabels"].items() <= pod.labels.items()
        ports = {port["name"]: port["containerPort"] for port in pod.spec["containers"][0]["ports"]}
        assert ports[endpoint["port"]] == opened["port"] == 8080
