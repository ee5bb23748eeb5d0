"""What the manifests run exists: scripts, options, settings, files; and every value to edit is marked."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from latentscale.cli.main import app
from latentscale.config import parse_job
from tests.cluster_configs.manifests import (
    CONFIGS,
    KUBERAY,
    PLAIN,
    ROOT,
    VERSIONS,
    Manifest,
    manifests,
    pods,
    ray_job_spec,
)

IN_THE_IMAGE = "/opt/latentscale/"
PLACEHOLDER = re.compile(r"example\.com|example-(?:maps|raw|bucket)|192\.0\.2\.|-0{17}\b|:0{12}:|\.pem\b")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GUIDES = [CONFIGS / "README.md", ROOT / "docs" / "kubernetes.md"]


def commands(found: list[Manifest]) -> Iterator[tuple[str, list[str]]]:
    """Everything that a manifest runs: entrypoints of RayJobs, commands of containers."""
    for manifest in found:
        job = ray_job_spec(manifest.value)
        if job is not None:
            yield manifest.name, shlex.split(job["entrypoint"])
        for pod in pods(manifest):
            for container in pod.spec["containers"]:
                if words := [*container.get("command", []), *container.get("args", [])]:
                    yield pod.where, words


def problem_with(words: list[str]) -> str | None:
    """Why a command cannot run, or None."""
    if words[0] == "latentscale":
        return problem_with_arguments(words[1:])
    if words[0] != "python" or len(words) < 2:
        return f"{words[0]} is not a command of the image"
    if words[1].startswith("/etc/latentscale/"):
        missing = [word for word in words[1:] if not (KUBERAY / Path(word).name).is_file()]
        return f"no file for {missing}" if missing else None
    script = ROOT / words[1].removeprefix(IN_THE_IMAGE)
    if not words[1].startswith(IN_THE_IMAGE) or not script.is_file():
        return f"there is no {words[1]}"
    # jobs/run.py and jobs/update.py take the arguments of the command that they are named after.
    return problem_with_arguments([script.stem, *words[2:]])


def problem_with_arguments(words: list[str]) -> str | None:
    """Why the CLI does not take these words, or None; its own parser is asked."""
    command: Any = typer.main.get_command(app)
    while words and getattr(command, "commands", None):
        if words[0] not in command.commands:
            return f"there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    try:
        with command.make_context(command.name, list(words)):
            return None
    except Exception as error:  # noqa: BLE001 - click's or typer's own, by version
        return str(error)


def test_every_command_in_a_manifest_exists_with_its_options() -> None:
    found = dict(commands(manifests()))
    assert len(found) == 4  # two RayJobs, the RayCronJob, the CronJob
    assert {where: problem for where, words in found.items() if (problem := problem_with(words))} == {}


def test_the_commands_without_ray_exist_with_their_options() -> None:
    found = dict(commands(manifests(PLAIN)))
    assert sorted(words[1] for words in found.values()) == ["gc", "run", "update"]
    assert {where: problem for where, words in found.items() if (problem := problem_with(words))} == {}
    # One place says which workspace.
    assert all("$(WORKSPACE)" in words for words in found.values())
    assert "WORKSPACE=s3://" in (PLAIN / "settings.env").read_text()
    job = yaml.safe_load((PLAIN / "job.yaml").read_text())
    assert "out" not in job
    assert parse_job({**job, "out": "s3://example-maps/news"}, where="job.yaml").corpus.id == "url"


def test_settings_to_edit_for_a_map_without_ray_are_in_few_places() -> None:
    images = [path.name for path in PLAIN.iterdir() if "registry.example.com" in path.read_text()]
    buckets = {path.name for path in PLAIN.iterdir() if "s3://" in path.read_text()}
    assert images == ["kustomization.yaml"]
    assert buckets == {"job.yaml", "settings.env"}


@pytest.mark.parametrize(
    "line",
    [
        "python /opt/latentscale/jobs/missing.py",
        "python /opt/latentscale/jobs/update.py s3://example-maps/news --no-such-option",
        "latentscale improve s3://example-maps/news",
        "latentscale run job.yaml --no-such-option",
        "sh -c 'latentscale run job.yaml'",
        "python /etc/latentscale/other.py",
    ],
)
def test_a_command_that_does_not_exist_is_seen(line: str) -> None:
    assert problem_with(shlex.split(line)) is not None


def test_files_that_a_command_names_are_mounted_where_it_looks() -> None:
    job = next(one for one in manifests() if one.file == "rayjob.yaml")
    head = next(pod for pod in pods(job) if pod.role == "head")
    mounts = {mount["mountPath"]: mount["name"] for mount in head.spec["containers"][0]["volumeMounts"]}
    sources = {volume["name"]: volume.get("configMap", {}).get("name") for volume in head.spec["volumes"]}
    generated = yaml.safe_load((KUBERAY / "kustomization.yaml").read_text())["configMapGenerator"]
    files = {one["name"]: one["files"] for one in generated}
    folder, name = ["/etc/latentscale", "job.yaml"]
    assert name in files[sources[mounts[folder]]]
    assert all((KUBERAY / file).is_file() for listed in files.values() for file in listed)


def job_files() -> list[Path]:
    files = [KUBERAY / "job.yaml", *sorted((ROOT / "jobs").glob("*.yaml"))]
    return [path for path in files if "corpus" in (yaml.safe_load(path.read_text()) or {})]


@pytest.mark.parametrize("path", job_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_job_file_is_a_job(path: Path) -> None:
    job = parse_job(yaml.safe_load(path.read_text(encoding="utf-8")), where=path.name)
    assert job.out


def test_the_nightly_update_goes_to_the_workspace_of_the_job() -> None:
    out = yaml.safe_load((KUBERAY / "job.yaml").read_text())["out"]
    nightly = [one for one in manifests() if one.file in ("rayjob-nightly.yaml", "raycronjob.yaml")]
    assert len(nightly) == 2
    for manifest in nightly:
        job = ray_job_spec(manifest.value)
        assert job is not None
        assert shlex.split(job["entrypoint"])[2] == out


def unmarked(text: str) -> list[str]:
    """Lines with a value that nobody can use as it is and that are not marked."""
    return [line for line in text.splitlines() if PLACEHOLDER.search(line.partition("# ")[0]) and "# EDIT" not in line]


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_value_to_edit_is_marked(path: Path) -> None:
    assert unmarked(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line", ["image: registry.example.com/a/b:1", "out: s3://example-maps/x", "ImageId: ami-00000000000000000"]
)
def test_a_value_that_is_not_marked_is_seen(line: str) -> None:
    assert unmarked(line) == [line]


@pytest.mark.parametrize("page", GUIDES, ids=lambda path: path.name)
def test_the_guides_name_files_and_commands_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in _LINK.findall(text):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target
    lines = [line for block in _FENCE.findall(text) for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    assert any(line.startswith("kubectl apply -k") for line in lines)
    for line in lines:
        words = shlex.split(line, comments=True)
        for flag, path in itertools.pairwise(words):
            if flag in ("-f", "-k") and words[0] in ("kubectl", "docker") and words[1] != "logs":
                assert (ROOT / path).exists(), line
        if words[:1] == ["latentscale"]:
            assert problem_with_arguments(words[1:]) is None, line


def test_the_versions_are_those_of_the_locks_and_of_the_package() -> None:
    for name in ("cpu", "gpu", "vllm"):
        lock = (ROOT / "requirements" / f"image-{name}.lock").read_text()
        assert re.search(rf"^ray=={re.escape(VERSIONS['ray'])} ", lock, re.MULTILINE), name
    from latentscale import __version__

    assert __version__ == VERSIONS["latentscale"]


def test_every_file_is_in_the_list_of_the_guide() -> None:
    text = (CONFIGS / "README.md").read_text(encoding="utf-8")
    files = [
        path.relative_to(CONFIGS).as_posix()
        for path in CONFIGS.rglob("*")
        # What another process compiles has a name of its own until it is whole.
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert [name for name in files if name != "README.md" and f"`{name}`" not in text] == []
