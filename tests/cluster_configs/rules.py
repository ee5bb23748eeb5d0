"""What every manifest must hold to; each rule gives the places that break it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.cluster_configs.manifests import Manifest, containers, pods, ray_cluster_spec, ray_job_spec

Rule = Callable[[Sequence[Manifest]], Iterator[str]]
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|ACCESS_KEY|API_KEY|PRIVATE", re.IGNORECASE)
SECRET_TEXT = re.compile(
    r"AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|-----BEGIN|gh[pousr]_\w{20,}|hf_\w{20,}|sk-\w{20,}|xox[bp]-"
)
RESOURCES = ("cpu", "memory", "ephemeral-storage")
VOLUMES = {"emptyDir", "configMap", "projected", "secret"}
PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"]
PORT_PARAMETERS = (
    "port",
    "node-manager-port",
    "object-manager-port",
    "runtime-env-agent-port",
    "dashboard-agent-grpc-port",
    "dashboard-agent-listen-port",
    "metrics-export-port",
    "min-worker-port",
    "max-worker-port",
)
DASHBOARD = 8265


def images_are_pinned(manifests: Sequence[Manifest]) -> Iterator[str]:
    for where, container in _containers(manifests):
        image = container["image"]
        name, _, digest = image.partition("@")
        tag = name.rpartition("/")[2].partition(":")[2]
        if not digest and (not tag or tag in {"latest", "main", "master", "nightly", "edge", "stable"}):
            yield f"{where}: {image} is not pinned"
        if container.get("imagePullPolicy") == "Always":
            yield f"{where}: pulls the image each time, so that it may change within a job"


def no_secret_is_written_down(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if manifest.kind == "Secret":
            yield f"{manifest.name}: secrets are made beside these files"
        for text in _strings(manifest.value):
            if SECRET_TEXT.search(text):
                yield f"{manifest.name}: {text[:12]}… looks like a key"
    for where, container in _containers(manifests):
        for variable in container.get("env", []):
            if SECRET_NAME.search(variable["name"]) and "value" in variable:
                yield f"{where}: {variable['name']} has its value in the manifest"


def every_container_has_requests_and_limits(manifests: Sequence[Manifest]) -> Iterator[str]:
    for where, container in _containers(manifests):
        given = container.get("resources", {})
        for kind in ("requests", "limits"):
            missing = [name for name in RESOURCES if name not in given.get(kind, {})]
            if missing:
                yield f"{where}: no {kind} for {', '.join(missing)}"
        gpu = "nvidia.com/gpu"
        if given.get("requests", {}).get(gpu) != given.get("limits", {}).get(gpu):
            yield f"{where}: GPUs asked for and allowed differ"


def nothing_runs_as_root(manifests: Sequence[Manifest]) -> Iterator[str]:
    for pod in _pods(manifests):
        context = pod.spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True:
            yield f"{pod.where}: runAsNonRoot is not true"
        if not context.get("runAsUser") or not context.get("runAsGroup"):
            yield f"{pod.where}: no user and group by number"
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{pod.where}: no seccomp profile"
    for where, container in _containers(manifests):
        context = container.get("securityContext", {})
        if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
            yield f"{where}: runs as root"


def root_file_systems_are_read_only(manifests: Sequence[Manifest]) -> Iterator[str]:
    for where, container in _containers(manifests):
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{where}: the root file system can be written"
        if "/tmp" not in {mount["mountPath"] for mount in container.get("volumeMounts", [])}:
            yield f"{where}: no place to write to at /tmp"


def nobody_gains_rights(manifests: Sequence[Manifest]) -> Iterator[str]:
    for where, container in _containers(manifests):
        context = container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{where}: may gain rights"
        if context.get("privileged"):
            yield f"{where}: is privileged"
        capabilities = context.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{where}: keeps capabilities"


def nothing_of_the_node_is_shared(manifests: Sequence[Manifest]) -> Iterator[str]:
    for pod in _pods(manifests):
        yield from (f"{pod.where}: {key}" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(key))
        for volume in pod.spec.get("volumes", []):
            kinds = set(volume) - {"name"}
            if not kinds <= VOLUMES:
                yield f"{pod.where}: volume {volume['name']} is of kind {', '.join(kinds)}"
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{pod.where}: volume {volume['name']} can fill the node"
    for where, container in _containers(manifests):
        yield from (f"{where}: hostPort" for port in container.get("ports", []) if "hostPort" in port)


def rights_are_few(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if manifest.kind.startswith("ClusterRole"):
            yield f"{manifest.name}: rights beyond the namespace"
        if manifest.kind != "Role":
            continue
        for rule in manifest.value["rules"]:
            if rule.get("apiGroups") != ["ray.io"] or rule.get("resources") != ["rayjobs"]:
                yield f"{manifest.name}: more than rayjobs"
            if not set(rule["verbs"]) <= {"create", "get", "list", "watch"}:
                yield f"{manifest.name}: verbs {', '.join(rule['verbs'])}"


def only_the_job_creator_gets_an_api_token(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if manifest.kind == "ServiceAccount" and manifest.value.get("automountServiceAccountToken") is not False:
            yield f"{manifest.name}: pods get its token unless they refuse it"
    for pod in _pods(manifests):
        if pod.spec.get("automountServiceAccountToken") is not (pod.role == "creator"):
            yield f"{pod.where}: automountServiceAccountToken"
        if "serviceAccountName" not in pod.spec:
            yield f"{pod.where}: runs as the namespace's default account"
        tokens = {
            volume["name"]
            for volume in pod.spec.get("volumes", [])
            if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", []))
        }
        for container in pod.spec["containers"]:
            if tokens & {mount["name"] for mount in container.get("volumeMounts", [])}:
                yield f"{pod.where}: container {container['name']} gets a token for the Kubernetes API"


def ray_asks_for_its_token(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        cluster = ray_cluster_spec(manifest.value)
        if cluster is None:
            continue
        options = cluster.get("authOptions", {})
        if options.get("mode") != "token" or not options.get("secretName"):
            yield f"{manifest.name}: the operator is not told of the token"
        # In the containers as well: an operator that does not know authOptions would start a cluster open to anybody.
        for pod in pods(manifest):
            for container in pod.spec["containers"]:
                variables = {variable["name"]: variable for variable in container.get("env", [])}
                reference = variables.get("RAY_AUTH_TOKEN", {}).get("valueFrom", {}).get("secretKeyRef", {})
                wanted = {"name": options.get("secretName"), "key": "auth_token"}
                if variables.get("RAY_AUTH_MODE", {}).get("value") != "token" or reference != wanted:
                    yield f"container {container['name']} of {pod.where}: no token"


def every_job_ends(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        job = ray_job_spec(manifest.value)
        if job is not None:
            for key in (
                "activeDeadlineSeconds",
                "preRunningDeadlineSeconds",
                "ttlSecondsAfterFinished",
                "backoffLimit",
            ):
                if key not in job:
                    yield f"{manifest.name}: no {key}"
            if job.get("shutdownAfterJobFinishes") is not True:
                yield f"{manifest.name}: its cluster stays"
            if "backoffLimit" not in job.get("submitterConfig", {}):
                yield f"{manifest.name}: no backoffLimit for the submitter"
        if manifest.kind == "CronJob":
            spec, inner = manifest.value["spec"], manifest.value["spec"]["jobTemplate"]["spec"]
            if spec.get("concurrencyPolicy") != "Forbid":
                yield f"{manifest.name}: nights may overlap"
            for key in ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit", "timeZone"):
                if key not in spec:
                    yield f"{manifest.name}: no {key}"
            for key in ("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
                if key not in inner:
                    yield f"{manifest.name}: no {key} for its Job"


def a_night_is_over_before_the_next(manifests: Sequence[Manifest]) -> Iterator[str]:
    nightly = [
        one for one in manifests if one.value["metadata"]["labels"].get("app.kubernetes.io/component") == "nightly"
    ]
    attempts = [
        (job["activeDeadlineSeconds"] * (job["backoffLimit"] + 1), one)
        for one in nightly
        if (job := ray_job_spec(one.value)) is not None
    ]
    waits = [
        one.value["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] for one in nightly if one.kind == "CronJob"
    ]
    for seconds, one in attempts:
        if seconds >= 86_400:
            yield f"{one.name}: all attempts together may take {seconds} s"
        yield from (f"{one.name}: the CronJob waits {wait} s for {seconds} s" for wait in waits if wait <= seconds)
    yield from (f"the CronJob waits {wait} s, more than a day" for wait in waits if wait >= 86_400)


def heads_stay_off_spot_nodes_and_gpus_are_on_them(manifests: Sequence[Manifest]) -> Iterator[str]:
    for pod in _pods(manifests):
        if pod.role not in ("head", "worker"):
            continue
        terms = (
            pod.spec.get("affinity", {})
            .get("nodeAffinity", {})
            .get("requiredDuringSchedulingIgnoredDuringExecution", {})
            .get("nodeSelectorTerms", [])
        )
        wanted = {
            expression["key"]: expression["operator"] for term in terms for expression in term["matchExpressions"]
        }
        spot = ("cloud.google.com/gke-spot", "eks.amazonaws.com/capacityType", "karpenter.sh/capacity-type")
        gpus = any("nvidia.com/gpu" in one["resources"]["limits"] for _, one in containers(pod) if "resources" in one)
        if pod.role == "head" and not all(wanted.get(key) in {"NotIn", "DoesNotExist"} for key in spot):
            yield f"{pod.where}: may be put on a spot node"
        if gpus and not all(wanted.get(key) == "In" for key in spot):
            yield f"{pod.where}: GPUs that are not spot"
        if gpus and "nvidia.com/gpu" not in {one["key"] for one in pod.spec.get("tolerations", [])}:
            yield f"{pod.where}: does not tolerate the taint of GPU nodes"


def nothing_is_open_to_the_world(manifests: Sequence[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if manifest.kind in {"Ingress", "Service", "Gateway", "HTTPRoute"}:
            yield f"{manifest.name}: opens a way in"
        cluster = ray_cluster_spec(manifest.value)
        if cluster is not None and {"enableIngress", "headService", "serviceType"} & set(cluster["headGroupSpec"]):
            yield f"{manifest.name}: opens a way to the head"
        if manifest.kind != "NetworkPolicy":
            continue
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in manifest.value["spec"].get(direction, []):
                if not rule.get(peers) or not rule.get("ports"):
                    yield f"{manifest.name}: {direction} without peers or ports lets everything through"
                for peer in rule.get(peers, []):
                    yield from (f"{manifest.name}: {problem}" for problem in _peer_problems(peer, rule, direction))


def the_namespace_is_closed(manifests: Sequence[Manifest]) -> Iterator[str]:
    policies = [one.value["spec"] for one in manifests if one.kind == "NetworkPolicy"]
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if closed not in policies:
        yield "no policy closes the whole namespace"
    for manifest in manifests:
        if manifest.kind == "Namespace":
            labels = manifest.value["metadata"]["labels"]
            if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
                yield f"{manifest.name}: pods that break the rules are let in"


def the_policy_fits_the_pods(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Every pod is let to what it needs: Ray's fixed ports among its pods, the dashboard for the submitter, the API."""
    policies = [one.value["spec"] for one in manifests if one.kind == "NetworkPolicy"]
    for pod in _pods(manifests):
        reached = [one for one in policies if _selects(one["podSelector"], pod.labels)]
        if pod.role in ("head", "worker"):
            cluster = ray_cluster_spec(pod.manifest.value)
            assert cluster is not None
            groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
            for group in groups:
                missing = [name for name in PORT_PARAMETERS[1:] if name not in group["rayStartParams"]]
                if missing:
                    yield f"{pod.where}: Ray takes any port for {', '.join(missing)}"
            ports = {
                int(value)
                for group in groups
                for name in PORT_PARAMETERS
                if (value := group["rayStartParams"].get(name))
            }
            for direction, peers in (("ingress", "from"), ("egress", "to")):
                allowed = _ports(reached, direction, peers, pod.labels)
                shut = sorted(
                    port for port in ports | {DASHBOARD} if not any(low <= port <= high for low, high in allowed)
                )
                if shut:
                    yield f"{pod.where}: {direction} of {shut} is shut"
        head = {**pod.labels, "ray.io/node-type": "head"}
        if pod.role == "submitter" and (DASHBOARD, DASHBOARD) not in _ports(
            reached, "egress", "to", {**head, "role": "ray"}
        ):
            yield f"{pod.where}: cannot reach the dashboard"
        needs_api = pod.role == "creator" or any(name.startswith("autoscaler") for name, _ in containers(pod))
        if needs_api is not (pod.labels.get("kubernetes-api") == "true"):
            yield f"{pod.where}: the way to the Kubernetes API is {'shut' if needs_api else 'open'}"


def the_same_ray_everywhere(manifests: Sequence[Manifest]) -> Iterator[str]:
    from tests.cluster_configs.manifests import VERSIONS

    for manifest in manifests:
        cluster = ray_cluster_spec(manifest.value)
        if cluster is not None and cluster.get("rayVersion") != VERSIONS["ray"]:
            yield f"{manifest.name}: Ray {cluster.get('rayVersion')}"
    tags = {container["image"].rpartition(":")[2] for _, container in _containers(manifests)}
    if tags != {VERSIONS["latentscale"]}:
        yield f"images of several versions: {sorted(tags)}"


def names_fit(manifests: Sequence[Manifest]) -> Iterator[str]:
    """KubeRay derives names of 63 characters at most from these."""
    longest = {"RayCluster": 53, "RayJob": 47, "RayCronJob": 36, "CronJob": 52 - 11}
    for manifest in manifests:
        metadata = manifest.value["metadata"]
        name = metadata.get("name") or metadata["generateName"] + "xxxxx"
        if manifest.kind in longest and (
            len(name) > longest[manifest.kind] or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        ):
            yield f"{manifest.name}: not a name for a {manifest.kind}"
        if metadata.get("labels", {}).get("app.kubernetes.io/part-of") != "latentscale":
            yield f"{manifest.name}: no label of the whole"
        if manifest.kind != "Namespace" and metadata.get("namespace") != "latentscale":
            yield f"{manifest.name}: in no namespace"


RULES: tuple[Rule, ...] = (
    images_are_pinned,
    no_secret_is_written_down,
    every_container_has_requests_and_limits,
    nothing_runs_as_root,
    root_file_systems_are_read_only,
    nobody_gains_rights,
    nothing_of_the_node_is_shared,
    rights_are_few,
    only_the_job_creator_gets_an_api_token,
    ray_asks_for_its_token,
    every_job_ends,
    a_night_is_over_before_the_next,
    heads_stay_off_spot_nodes_and_gpus_are_on_them,
    nothing_is_open_to_the_world,
    the_namespace_is_closed,
    the_policy_fits_the_pods,
    the_same_ray_everywhere,
    names_fit,
)


def _pods(manifests: Sequence[Manifest]) -> Iterator[Any]:
    for manifest in manifests:
        yield from pods(manifest)


def _containers(manifests: Sequence[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    for pod in _pods(manifests):
        yield from containers(pod)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def _peer_problems(peer: dict[str, Any], rule: dict[str, Any], direction: str) -> Iterator[str]:
    if any(peer.get(key) == {} for key in ("podSelector", "namespaceSelector")):
        yield f"{direction} with every pod of a namespace or of all"
    block = peer.get("ipBlock")
    if block is None:
        return
    if direction == "ingress":
        yield f"lets {block['cidr']} in"
        return
    network = ipaddress.ip_network(block["cidr"])
    if network.prefixlen < 16:
        excepted = [ipaddress.ip_network(one) for one in block.get("except", [])]
        inside = [one for one in map(ipaddress.ip_network, PRIVATE) if not any(one.subnet_of(out) for out in excepted)]
        if inside:
            yield f"lets pods out to {', '.join(map(str, inside))}"
        if [port.get("port") for port in rule["ports"]] != [443]:
            yield "lets pods out to the world on more than port 443"


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _ports(
    policies: Sequence[dict[str, Any]], direction: str, peers: str, labels: dict[str, str]
) -> set[tuple[int, int]]:
    """Ranges of ports that ``policies`` open between their pods and pods with ``labels``."""
    return {
        (port["port"], port.get("endPort", port["port"]))
        for policy in policies
        for rule in policy.get(direction, [])
        if any(
            "podSelector" in one and "namespaceSelector" not in one and _selects(one["podSelector"], labels)
            for one in rule[peers]
        )
        for port in rule["ports"]
        if port["protocol"] == "TCP"
    }
