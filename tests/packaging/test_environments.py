"""The environments of vLLM and cuML where they cannot be made: said loudly, and told to the tests that are skipped."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import environments, make_environment
from tests.environments import absence_of, folder_of, python_of, stamp_of


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment of this machine is touched or named, and no registry is asked."""
    monkeypatch.setattr(environments, "VENV", tmp_path)
    for name in make_environment.ENVIRONMENTS:
        monkeypatch.delenv(environments.variable_of(name), raising=False)
    for name in ("UV_OFFLINE", "PIP_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("vllm", "No matching distribution found for torch"), ("cuml", "may only be read from the cache")],
)
def test_without_a_network_the_reason_is_reported_and_nothing_is_left(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp_of(name).touch()
    make_environment.main(name)
    said = capsys.readouterr().err
    assert f"NO {name.upper()} HERE: its tests are skipped." in said
    assert reason in said
    assert [path.name for path in tmp_path.iterdir()] == [absence_of(name).name]
    with pytest.raises(pytest.skip.Exception, match=f"no environment with {name}, and LATENTSCALE_") as skipped:
        python_of(name)
    assert reason in str(skipped.value)


def test_a_small_disk_and_a_torch_for_gpus_alone_are_reasons(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A report of pip, as it is on most machines.
    report = '{"install": [{"metadata": {"version": "2.13.0"}}]}'
    monkeypatch.setattr(make_environment, "run", lambda *command: report)
    make_environment.main("vllm")
    assert "no build of torch for processors, but 2.13.0" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2e9))
    make_environment.main("cuml")
    assert "it takes 7 GB of disk, and 2.0 GB are free" in absence_of("cuml").read_text()


def test_an_environment_variable_takes_precedence_over_a_built_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match="`make cuml` was not called"):
        python_of("cuml")
    stamp_of("cuml").touch()
    assert python_of("cuml") == str(folder_of("cuml") / "bin" / "python")
    monkeypatch.setenv("LATENTSCALE_CUML_PYTHON", "/opt/python")
    assert python_of("cuml") == "/opt/python"
    make_environment.main("cuml")
    assert not folder_of("cuml").exists()
