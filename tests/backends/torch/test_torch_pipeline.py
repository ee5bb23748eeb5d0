"""The torch backend in a run: compared with the processors first, recorded, and replaced where it differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

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
    # By name it would get a GPU.
    "engine": {"resources": {"neighbors": {"gpus": 0}, "project": {"gpus": 0}}},
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


def test_a_map_by_torch_says_so_in_every_record(documents: pl.DataFrame, tmp_path: Path) -> None:
    made = ls.run(documents, out=tmp_path / "map", **BY_NAME, **SETTINGS)
    workspace = ls.open(tmp_path / "map")
    kinds = {record.kind: record for record in workspace.artifacts}
    assert kinds["neighbors"].choices["backend"] == kinds["projection"].choices["backend"] == "torch"
    assert kinds["neighbors"].choices["device"] == "cpu"
    (compared,) = workspace.runs[-1]["facts"]["compared"]
    assert (compared["backend"], compared["holds"], compared["documents"]) == ("torch", True, 240)
    assert {check["what"] for check in compared["checks"]} >= {
        "recall of the neighbours",
        "largest error of a distance",
    }
    assert made.points().collect().height == 240
    # Nothing is computed, and so nothing compared.
    ls.run(documents, out=tmp_path / "map", **BY_NAME, **SETTINGS)
    assert "compared" not in workspace.runs[-1]["facts"]


@pytest.mark.usefixtures("wrong")
def test_a_backend_that_was_asked_for_and_differs_ends_the_run(documents: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="largest error of a distance") as raised:
        ls.run(documents, out=tmp_path / "map", **BY_NAME, **SETTINGS)
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
    assert "differs from the processors here" in reasons["neighbors"]
    assert "the processors compute it" in capsys.readouterr().err


def test_the_self_test_prints_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from latentscale.cli.main import main

    monkeypatch.setattr("latentscale.upkeep.selftest.WITHOUT_GPU", 300)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--selftest"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "torch      ok, 300 documents" in shown
    assert "recall of the neighbours 1 (at least 0.99)" in shown
