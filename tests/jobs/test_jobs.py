"""The entry points, files and lines of jobs/ are what Ray and the command understand."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from latentscale.cli.main import app
from latentscale.config import check_runtime_env, parse_job, read_yaml

JOBS = Path(__file__).parents[2] / "jobs"
LINES = re.findall(r"^ray job submit .+$", (JOBS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
INSIDE = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"job_{name}", JOBS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_job_file_is_valid(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name.startswith("runtime_env"):
        check_runtime_env(values)
        assert set(values) <= {"env_vars", "pip", "working_dir", "config"}
    else:
        parse_job(read_yaml(path), where=path.name)


def test_there_are_lines_for_each_kind_of_job() -> None:
    assert {Path(shlex.split(line)[-1]).name for line in LINES if "update.py" in line}
    assert len(LINES) >= 4


@pytest.mark.parametrize("line", LINES)
def test_every_documented_line_is_one_of_ray_and_of_the_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.dashboard.modules.job.cli import submit

    words = shlex.split(line)[3:]
    with submit.make_context("submit", list(words)) as context:
        given = context.params
    assert given["address"]
    assert re.fullmatch(r"[a-z0-9-]+", given["submission_id"])
    assert isinstance(yaml.safe_load(given["metadata_json"]), dict)
    assert (JOBS.parent / given["runtime_env"]).exists()
    assert (JOBS.parent / given["working_dir"]) == JOBS
    python, entry, *rest = given["entrypoint"]
    assert python == "python"
    assert (JOBS / entry).exists()
    monkeypatch.setenv(INSIDE, "{}")
    monkeypatch.chdir(JOBS)
    name, *arguments = script(entry.removesuffix(".py")).arguments_of_the_command(rest)
    if rest[0].endswith(".yaml"):
        assert (JOBS / rest[0]).exists()
    root: Any = typer.main.get_command(app)
    command = root.commands[name]
    with command.make_context(name, arguments) as context:
        assert name == entry.removesuffix(".py")
        assert context.params["address"] in ("auto", None)


@pytest.mark.parametrize(
    ("given", "inside", "expected"),
    [
        (["demo.yaml"], True, ["--address", "auto"]),
        (["demo.yaml"], False, []),
        (["demo.yaml", "--engine", "local"], True, []),
        (["demo.yaml", "--address=10.0.0.1:6379"], True, []),
        (["demo.yaml", "--set", "engine.name=local"], True, []),
        (["s3-cpu-cluster.yaml"], True, []),
    ],
)
def test_within_a_ray_job_the_default_engine_is_ray(
    given: list[str], inside: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(JOBS)
    monkeypatch.setenv(INSIDE, "{}") if inside else monkeypatch.delenv(INSIDE, raising=False)
    assert script("run").arguments_of_the_command(given) == ["run", *given, *expected]


@pytest.mark.parametrize("name", ["run", "update"])
def test_an_entry_point_ends_with_the_codes_of_the_command(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, JOBS / f"{name}.py", str(tmp_path / "nowhere.yaml")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
