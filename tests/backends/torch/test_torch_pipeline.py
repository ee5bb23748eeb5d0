"""The torch backend in a run: compared with the processors first, recorded, and replaced where it differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.errors import EnvironmentFailure
from latentscale.machine import Gpu

pytest.importorskip("torch", reason="the backend torch needs the package torch")
pytestmark = pytest.mark.slow
SETTINGS: dict[str, Any] = {"cluster": {"min_cluster_size": 8}, "progress": "quiet"}
BY_NAME: dict[str, Any] = {
    "neighbors": {"backend": "torch"},
    "project": {"backend": "torch", "n_epochs": 10},
    "cluster": {"backend": "torch", "min_cluster_size": 8},
    # By name it would get a GPU.
    "engine": {"resources": {stage: {"gpus": 0} for stage in ("neighbors", "project", "cluster")}},
}


@pytest.fixture
def documents(demo: pl.DataFrame) -> pl.DataFrame:
    return demo.head(240)


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that measures every distance a hundredth too far."""
    from latentscale.backends.torch.backend import TorchBackend

    right = TorchBackend.neighbors

    def neighbors(self: Any, *given: Any, **named: Any) -> Any:
        graph = right(self, *given, **named)
        return replace(graph, distances=graph.distances + 0.01)

    monkeypatch.setattr(TorchBackend, "neighbors", neighbors)


def test_clusters_that_differ_are_seen(documents: pl.DataFrame) -> None:
    """A backend that gives each document the cluster of another, and whose K-means ends too early."""
    from latentscale.backends.canary import compare_backends
    from latentscale.backends.cpu.backend import CpuBackend
    from latentscale.embedders import open_embedder

    class Wrong(CpuBackend):
        stages = frozenset({"cluster"})

        def hdbscan(self, points: Any, **settings: Any) -> Any:
            found = super().hdbscan(points, **settings)
            return replace(found, labels=np.roll(found.labels, 60))

        def kmeans(self, vectors: Any, **settings: Any) -> Any:
            found = super().kmeans(vectors, **settings)
            return replace(found, probabilities=found.probabilities * 0.95)

    vectors = open_embedder().embed(documents["text"].to_list()).vectors
    assert not compare_backends(CpuBackend(), CpuBackend(), vectors, threads=1).failed
    assert len(compare_backends(Wrong(), CpuBackend(), vectors, threads=1).failed) == 2


def test_a_map_by_torch_says_so_in_every_record(demo: pl.DataFrame, documents: pl.DataFrame, tmp_path: Path) -> None:
    made = ls.run(documents, out=tmp_path / "map", **SETTINGS | BY_NAME)
    workspace = ls.open(tmp_path / "map")
    kinds = {record.kind: record for record in workspace.artifacts}
    assert kinds["neighbors"].choices["backend"] == kinds["projection"].choices["backend"] == "torch"
    assert kinds["neighbors"].choices["device"] == kinds["clusters"].choices["device"] == "cpu"
    assert kinds["clusters"].choices["backend"] == "torch"
    assert kinds["clusters"].counts["clusters"] > 1
    (compared,) = workspace.runs[-1]["facts"]["compared"]
    assert (compared["backend"], compared["holds"], compared["documents"]) == ("torch", True, 240)
    assert {check["what"] for check in compared["checks"]} >= {
        "recall of the neighbours",
        "largest error of a distance",
        "agreement of the clusters (adjusted Rand index)",
        "similarity to the centroids of K-means, relative to the CPU backend",
    }
    assert made.points().collect().height == 240
    # Nothing is computed, and so nothing compared.
    ls.run(documents, out=tmp_path / "map", **SETTINGS | BY_NAME)
    assert "compared" not in workspace.runs[-1]["facts"]
    # An update is placed by what computes that, whatever laid out the map.
    workspace.update(demo.slice(240, 20))
    placement = max((one for one in workspace.artifacts if one.kind == "placement"), key=lambda one: one.created)
    assert (placement.choices["backend"], placement.counts["documents"]) == ("cpu", 20)


@pytest.mark.usefixtures("wrong")
def test_a_backend_that_was_asked_for_and_differs_ends_the_run(documents: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="largest error of a distance") as raised:
        ls.run(documents, out=tmp_path / "map", **SETTINGS | BY_NAME)
    assert raised.value.exit_code == 4
    assert "neighbors.backend=auto" in str(raised.value.hint)


@pytest.mark.usefixtures("wrong")
def test_auto_leaves_a_backend_that_differs_to_the_processors(
    documents: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = Gpu(name="A GPU", memory_gib=80.0, driver="580.1")
    monkeypatch.setattr("latentscale.engines.place.gpus", lambda: (gpu,))
    monkeypatch.setattr("latentscale.backends.torch.device.own_device", lambda: "cpu")
    ls.run(documents, out=tmp_path / "map", **SETTINGS | {"progress": "json"})
    workspace = ls.open(tmp_path / "map")
    assert {record.choices.get("backend", "cpu") for record in workspace.artifacts} == {"cpu"}
    facts = workspace.runs[-1]["facts"]
    assert facts["compared"][0]["holds"] is False
    reasons = {choice["stage"]: choice["reason"] for choice in facts["backends"]}
    assert "deviates from the CPU backend here" in reasons["neighbors"]
    assert "using the CPU backend" in capsys.readouterr().err


def test_the_self_test_prints_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from latentscale.cli.main import main

    monkeypatch.setattr("latentscale.upkeep.selftest.WITHOUT_GPU", 300)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--selftest"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "torch      ok, 300 documents" in shown
    assert "recall of the neighbours 1 (at least 0.99)" in shown
    assert "agreement of the clusters (adjusted Rand index)" in shown
