"""What doctor prints."""

from __future__ import annotations

import json
import subprocess
import sys

from latentscale.backends.capability import describe, usable_cores, usable_memory


def test_it_imports_none_of_the_packages_it_names():
    program = (
        "import sys; from latentscale.backends.capability import describe; describe();"
        "print(sorted({'numba', 'scipy', 'sklearn', 'pynndescent', 'ray', 'torch'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_every_stage_has_a_backend_with_a_reason():
    found = describe()
    assert [stage.stage for stage in found.stages] == ["embed", "neighbors", "project", "cluster", "label"]
    assert all(stage.reason and stage.backend in ("cpu", "cuda") for stage in found.stages)
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
