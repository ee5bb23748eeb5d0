"""Noise on the page: ``publish.noise``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale

ROUGH: dict[str, Any] = {"cluster": {"min_cluster_size": 12}, "project": {"n_epochs": 50}}


def noise_and_sizes(workspace_folder: Path, made: Any) -> tuple[int, list[int], list[int]]:
    """Of a map's own tiles: documents in no cluster, and the sizes of the finest clusters without and with noise."""
    folder = workspace_folder / made.record.folder / "viewer"
    entries = json.loads((folder / "labels.json").read_text())["clusters"]
    finest = [entry for entry in entries if entry["layer"] == 0]
    noise = made.record.counts["page"]["noise"]
    return noise, [entry["size"] for entry in finest], [entry["nearest"] for entry in finest]


@pytest.fixture(scope="module")
def workspace_folder(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    (folder / "in").mkdir()
    demo[:600].write_parquet(folder / "in" / "0.parquet")
    latentscale.run(folder / "in", out=folder / "ws", progress="quiet", **ROUGH)
    return folder / "ws"


def test_noise_is_kept_or_assigned_to_its_nearest_cluster(workspace_folder: Path, demo: pl.DataFrame) -> None:
    kept = latentscale.open(workspace_folder).current
    noise, sizes, nearest = noise_and_sizes(workspace_folder, kept)
    assert noise == (kept.points().collect()["cluster"] < 0).sum() > 0
    assert sum(sizes) == 600 - noise
    assert sum(nearest) == 600
    # At its default the setting is no part of a map: the same map is found.
    assert latentscale.open(workspace_folder).map(publish=False, **ROUGH).id == kept.id
    made = latentscale.run(
        workspace_folder.parent / "in", out=workspace_folder, progress="quiet", publish={"noise": "nearest"}, **ROUGH
    )
    assert made.id != kept.id
    now, now_sizes, now_nearest = noise_and_sizes(workspace_folder, made)
    assert now == 0
    assert sorted(now_sizes) == sorted(now_nearest) == sorted(nearest)
    # The points say what the algorithm said, and so do the labels.
    points = made.points().collect()
    assert points.select("cluster", "nearest_cluster").equals(
        kept.points().collect().select("cluster", "nearest_cluster")
    )
    assert made.labels().select("size", "nearest_size").equals(kept.labels().select("size", "nearest_size"))
    # What an update adds is shown as the rest, whatever its settings say.
    demo[600:660].write_parquet(workspace_folder.parent / "in" / "1.parquet")
    grown = latentscale.open(workspace_folder).update(publish={"noise": "keep"})
    assert noise_and_sizes(workspace_folder, grown)[0] == 0
