"""One command puts the image, the workspace and the corpus into every manifest, as often as it is called."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.cluster_configs.manifests import CONFIGS, manifests, pods, ray_job_spec


def test_all_manifests_get_the_values_and_nothing_else_changes(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    shutil.copytree(CONFIGS, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def call(*words: str) -> str:
        command = [sys.executable, str(CONFIGS / "set_values.py"), "--folder", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    first = (
        "--registry",
        "ghcr.io:443/acme",
        "--tag",
        "0.2.0-rc.1",
        "--workspace",
        "s3://m/a",
        "--corpus",
        "s3://c/a/",
    )
    assert "plain/settings.env changed" in call(*first)
    told = call("--registry", "ghcr.io/acme", "--workspace", "s3://m/b", "--corpus", "s3://c/b/")
    assert "to look at: kuberay/network-policy.yaml" in told
    for part in ("kuberay", "plain"):
        made = manifests(folder / part)
        images = {one["image"] for manifest in made for pod in pods(manifest) for one in pod.spec["containers"]}
        if part == "kuberay":
            assert images == {f"ghcr.io/acme/latentscale-{name}:0.2.0-rc.1" for name in ("cpu", "gpu", "vllm")}
            runs = [job["entrypoint"] for one in made if (job := ray_job_spec(one.value)) is not None]
            assert sum("s3://m/b" in line for line in runs) == 2
        job = yaml.safe_load((folder / part / "job.yaml").read_text())
        assert job["corpus"]["sources"] == "s3://c/b/"
    assert yaml.safe_load((folder / "kuberay/job.yaml").read_text())["out"] == "s3://m/b"
    (image,) = yaml.safe_load((folder / "plain/kustomization.yaml").read_text())["images"]
    assert (image["newName"], image["newTag"]) == ("ghcr.io/acme/latentscale-cpu", "0.2.0-rc.1")
    assert "WORKSPACE=s3://m/b\n" in (folder / "plain/settings.env").read_text()
    # Back to the values of the repository, every file is what it was.
    call(
        *("--registry", "registry.example.com/latentscale", "--tag", "0.1.0"),
        *("--workspace", "s3://example-maps/news", "--corpus", "s3://example-raw/news/"),
    )
    for path in [*CONFIGS.glob("*/*.yaml"), *CONFIGS.glob("*/*.env")]:
        assert (folder / path.relative_to(CONFIGS)).read_text() == path.read_text(), path
