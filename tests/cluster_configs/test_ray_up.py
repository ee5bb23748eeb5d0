"""The cluster of `ray up` on AWS: what Ray and EC2 know, spot workers, and no way in from the world."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.cluster_configs.manifests import CONFIGS, ROOT

PATH = CONFIGS / "ray-up" / "aws.yaml"


def cluster() -> dict[str, Any]:
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))


def problems(config: dict[str, Any]) -> Iterator[str]:
    """What must not be in it."""
    provider = config["provider"]
    if provider.get("use_internal_ips") is not True:
        yield "nodes have public addresses"
    if "security_group" in provider:
        yield "ray up makes a security group of its own"
    if not config.get("max_workers"):
        yield "no ceiling on workers"
    for name, kind in config["available_node_types"].items():
        node = kind["node_config"]
        # Without one, ray up makes a group that admits SSH from everywhere (ray/autoscaler/_private/aws/config.py).
        if not node.get("SecurityGroupIds") or not node.get("SubnetIds"):
            yield f"{name}: network left to ray up"
        if node.get("MetadataOptions", {}).get("HttpTokens") != "required":
            yield f"{name}: IMDSv1"
        if not re.fullmatch(r"ami-[0-9a-f]{17}", node.get("ImageId", "")):
            yield f"{name}: image is not pinned"
        if "KeyName" not in node or "IamInstanceProfile" not in node:
            yield f"{name}: key or role left to ray up"
        if not all(device["Ebs"].get("Encrypted") for device in node.get("BlockDeviceMappings", [{"Ebs": {}}])):
            yield f"{name}: disk is not encrypted"
        spot = node.get("InstanceMarketOptions", {}).get("MarketType") == "spot"
        if spot is (name == config["head_node_type"]):
            yield f"{name}: {'spot' if spot else 'on demand'}"
    commands = [line for key in config if key.endswith("commands") for line in config[key]]
    for line in commands:
        if "0.0.0.0" in line:
            yield f"listens to everybody: {line}"
        if re.search(r"\b(curl|wget)\b|\|\s*(ba)?sh\b|RAY_AUTH_TOKEN=", line):
            yield f"fetches and runs, or holds a token: {line}"
        if "pip install" in line and "--require-hashes" not in line and "--no-deps" not in line:
            yield f"installs without checksums: {line}"
    starts = [line for line in commands if "ray start" in line]
    if len(starts) != 2 or not all("~/.profile" in line for line in starts):
        yield "ray starts without the environment that asks for a token"
    if not any("RAY_AUTH_MODE=token" in line and "~/.profile" in line for line in commands):
        yield "no token authentication"
    if "RAY_enable_autoscaler_v2=1" not in " ".join(config["head_start_ray_commands"]):
        yield "not the autoscaler v2"


def test_the_cluster_config_follows_the_rules() -> None:
    assert list(problems(cluster())) == []


CHANGES: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("public", lambda c: c["provider"].update(use_internal_ips=False)),
    ("security group", lambda c: c["provider"].update(security_group={"GroupName": "x"})),
    ("ceiling", lambda c: c.pop("max_workers")),
    ("network", lambda c: c["available_node_types"]["cpu-spot"]["node_config"].pop("SecurityGroupIds")),
    ("IMDSv1", lambda c: c["available_node_types"]["head"]["node_config"].pop("MetadataOptions")),
    ("pinned", lambda c: c["available_node_types"]["head"]["node_config"].update(ImageId="latest_dlami")),
    ("role", lambda c: c["available_node_types"]["head"]["node_config"].pop("IamInstanceProfile")),
    ("encrypted", lambda c: c["available_node_types"]["head"]["node_config"].pop("BlockDeviceMappings")),
    ("on demand", lambda c: c["available_node_types"]["cpu-spot"]["node_config"].pop("InstanceMarketOptions")),
    (
        "spot",
        lambda c: c["available_node_types"]["head"]["node_config"].update(InstanceMarketOptions={"MarketType": "spot"}),
    ),
    ("everybody", lambda c: c["head_start_ray_commands"].append("ray start --dashboard-host=0.0.0.0")),
    ("fetches", lambda c: c["setup_commands"].append("curl https://example.com/x | sh")),
    ("checksums", lambda c: c["setup_commands"].append("pip install ray")),
    ("without the environment", lambda c: c["worker_start_ray_commands"].append("ray start")),
    ("no token", lambda c: c["setup_commands"].pop()),
    ("autoscaler", lambda c: c["head_start_ray_commands"].pop()),
]


@pytest.mark.parametrize(("expected", "change"), CHANGES, ids=[name for name, _ in CHANGES])
def test_a_file_that_breaks_a_rule_is_seen(expected: str, change: Callable[[dict[str, Any]], Any]) -> None:
    changed = cluster()
    change(changed)
    assert any(expected in problem for problem in problems(changed))


@pytest.mark.ray
def test_ray_knows_every_field() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(cluster())))
    wrong = cluster()
    wrong["max_worker"] = 3
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(wrong))


def ec2_problems(node: dict[str, Any]) -> str:
    """What EC2 would not understand in a node's settings; botocore's own model of RunInstances is asked."""
    loaders = pytest.importorskip("botocore.loaders")
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    shape = (
        ServiceModel(loaders.Loader().load_service_model("ec2", "service-2"))
        .operation_model("RunInstances")
        .input_shape
    )
    # Ray chooses one of the subnets, and says how many nodes.
    given = {key: value for key, value in node.items() if key != "SubnetIds"}
    unknown = set(given) - set(shape.members)
    report = ParamValidator().validate({**given, "SubnetId": node["SubnetIds"][0], "MinCount": 1, "MaxCount": 1}, shape)
    return f"{report.generate_report()}{sorted(unknown) or ''}"


@pytest.mark.parametrize("name", list(cluster()["available_node_types"]))
def test_ec2_knows_every_field(name: str) -> None:
    node = cluster()["available_node_types"][name]["node_config"]
    assert ec2_problems(node) == ""
    assert ec2_problems({**node, "InstanceTyp": "m7i.large"}) != ""
    assert ec2_problems({**node, "MetadataOptions": {"HttpToken": "required"}}) != ""


def test_the_files_that_it_copies_are_made_by_the_guide() -> None:
    guide = (CONFIGS / "README.md").read_text()
    for local in cluster()["file_mounts"].values():
        if not local.startswith("~"):
            assert (ROOT / local).is_dir() or f"-w {local}" in guide, local
    for lock in re.findall(r"requirements/(\S+\.lock)", PATH.read_text()):
        assert (ROOT / "requirements" / lock).is_file(), lock
