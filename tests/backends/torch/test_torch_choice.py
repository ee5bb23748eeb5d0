"""Where the torch backend is chosen, and what is said of a device that is not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from latentscale.backends.abilities import layout_lacks
from latentscale.backends.select import Choice, check_layouts, choose_backend
from latentscale.backends.torch.backend import TorchBackend
from latentscale.config import JobConfig
from latentscale.errors import ConfigError, EnvironmentFailure
from latentscale.machine import Gpu, Place


def test_auto_uses_torch_only_with_a_gpu() -> None:
    gpu = Gpu(name="A GPU", memory_gib=80.0, driver="580.1")
    with_gpu = Place(gpus=(gpu,), packages={"torch": "2.13.0"})
    assert choose_backend("auto", "neighbors", lambda: with_gpu).backend == "torch"
    without = choose_backend("auto", "project", lambda: Place(packages={"torch": "2.13.0"}))
    assert (without.backend, "torch: there is no GPU" in without.reason) == ("cpu", True)
    assert choose_backend("torch", "project", lambda: Place(packages={"torch": "2.13.0"})).backend == "torch"
    # By an exact tree a few documents are no faster on a GPU.
    few = choose_backend("auto", "cluster", lambda: with_gpu, documents=99_999)
    assert (few.backend, "torch: it is taken from 100,000 documents on" in few.reason) == ("cpu", True)
    assert choose_backend("auto", "cluster", lambda: with_gpu, documents=100_000).backend == "torch"


def test_auto_leaves_unsupported_stages_to_the_cpu_and_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(gpus=(Gpu(name="A GPU", memory_gib=80.0, driver="580.1"),), packages={"torch": "2.13.0"})
    config = JobConfig.model_validate(
        {"corpus": {"sources": ["x.csv"]}, "out": "maps/x", "project": {"density_weight": 0.2, "map_dimensions": 3}}
    )

    def chosen() -> Choice:
        return choose_backend("auto", "project", lambda: place, lacks=lambda kind: layout_lacks(kind, config))

    assert chosen().backend == "torch"

    def layout(self: TorchBackend, graph: object, vectors: object, *, fixed: object) -> None:
        raise AssertionError("nothing is laid out")

    monkeypatch.setattr(TorchBackend, "layout", layout)
    dense = chosen()
    assert (dense.backend, "torch: keeps no densities on the map" in dense.reason) == ("cpu", True)
    asked = config.model_copy(update={"project": config.project.model_copy(update={"backend": "torch"})})
    with pytest.raises(ConfigError, match="the backend torch keeps no densities on the map") as raised:
        check_layouts(asked)
    assert raised.value.where == "project.density_weight"


def test_a_missing_device_is_reported() -> None:
    torch: Any = pytest.importorskip("torch", reason="the backend torch needs the package torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(EnvironmentFailure, match="cannot use the device cuda:0"):
        TorchBackend("cuda:0").neighbors(
            np.eye(20, dtype=np.float32), k=5, method="auto", recall_target=0.9, seed=0, threads=1
        )
