"""What doctor prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from latentscale.backends import doctor
from latentscale.backends.doctor import describe
from latentscale.machine import usable_cores, usable_memory


def test_it_imports_none_of_the_packages_it_names():
    program = (
        "import sys; from latentscale.backends.doctor import describe; describe();"
        "print(sorted({'numba', 'scipy', 'sklearn', 'pynndescent', 'ray', 'torch'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_every_stage_has_a_backend_with_a_reason():
    found = describe()
    backends = {stage.stage: stage.backend for stage in found.stages}
    assert backends == {
        "embed": "static",
        "neighbors": "cpu",
        "project": "cpu",
        "cluster": "cpu",
        "label": "keyphrases",
        "place": "cpu",
    }
    assert all(stage.reason for stage in found.stages)
    assert found.packages["numba"]
    assert json.loads(json.dumps(found.as_dict()))["cores"] == found.cores
    assert "numba" in str(found)


def test_limits_are_within_the_machine():
    found = describe()
    assert 0 < usable_cores() <= found.cores
    assert usable_memory() > 2**27


def test_a_gpu_is_read_from_the_driver_s_tool(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA Test 9000, 81559, 580.10'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":" if sys.platform != "win32" else ";")
    (gpu,) = describe().gpus
    assert (gpu.name, gpu.memory_gib, gpu.driver) == ("NVIDIA Test 9000", 79.6, "580.10")


def test_every_extra_that_a_user_installs_is_offered_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda name: None)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # Tools of development; and cuML, a whole environment for one stage.
    extras = set(project["optional-dependencies"]) - {"dev", "gpu"}
    assert set(re.findall(r"pip install 'latentscale\[([\w-]+)\]'", str(doctor.describe()))) == extras
