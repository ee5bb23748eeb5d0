"""Density-preserving maps: requested, recorded, refused if unsupported; clusters do not change."""

from __future__ import annotations

from pathlib import Path

import pytest

import latentscale
from latentscale.backends.cpu.backend import CpuBackend
from latentscale.errors import ConfigError


def test_the_map_keeps_densities_and_its_clusters_stay(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = latentscale.run(str(small_corpus), out=tmp_path / "ws", progress="quiet", publish={"viewer": False})
    workspace = latentscale.open(tmp_path / "ws")
    dense = workspace.map(project={"density_weight": 2.0})
    records = {record.id: record for record in workspace.artifacts}
    before, after = (records[one.record.request["projection"]] for one in (plain, dense))
    assert "density_weight" not in before.request
    assert after.request["density_weight"] == 2.0
    assert after.choices["density_correlation"] > 0.8
    said = f"Densities of the map and of the embedding correlate with {after.choices['density_correlation']:.2f}."
    assert after.notes == (said,)
    assert dense.record.request["clusters"] == plain.record.request["clusters"]
    assert workspace.map(project={"density_weight": 0.0}).id == plain.id

    def layout(self: CpuBackend, graph: object, vectors: object, *, n_components: int) -> None:
        raise AssertionError("nothing is laid out")

    monkeypatch.setattr(CpuBackend, "layout", layout)
    with pytest.raises(ConfigError, match="backend cpu keeps no densities on the map"):
        latentscale.run(
            str(small_corpus),
            out=tmp_path / "other",
            progress="quiet",
            project={"density_weight": 1.0, "backend": "cpu"},
        )
    assert not (tmp_path / "other" / "documents").exists()
