"""Labels by vLLM, in an environment of its own: in the process of the stage, and in workers of a Ray cluster."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale.upkeep.verify import verify_workspace
from tests.environments import python_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_500)]

ROOT = Path(__file__).parents[2]
ROUGH: dict[str, Any] = {"cluster": {"min_cluster_size": 16}, "project": {"n_epochs": 50}}
MODELS = """
import sys
from pathlib import Path
from tests.labelers.tiny_chat import make_model

make_model(Path(sys.argv[1]) / "noise")
"""
# A GPU that is only counted: the settings of a real cluster are scheduled, and the processors compute.
PROGRAM = """
import json, sys
import latentscale

if __name__ == "__main__":
    given = json.load(open(sys.argv[1]))
    if given["engine"]["name"] == "ray":
        import ray

        ray.init(num_cpus=6, num_gpus=1, include_dashboard=False, log_to_driver=False)
    latentscale.open(given.pop("place")).map(**given)
"""


def in_environment(program: str, folder: Path, *arguments: str) -> None:
    """Run a program where vLLM is, without any GPU, network or telemetry."""
    python = python_of("vllm")
    (folder / "program.py").write_text(program)
    ended = subprocess.run(
        [python, str(folder / "program.py"), *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=700,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4_000:]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model of random weights."""
    folder = tmp_path_factory.mktemp("models")
    in_environment(MODELS, folder, str(folder))
    return folder


@pytest.fixture
def place(tmp_path: Path, demo: pl.DataFrame) -> Path:
    """A workspace with clusters, labelled by keyphrases."""
    demo.filter(pl.col("section").is_in(["games", "perl", "mail", "fonts"]))[:600].write_parquet(tmp_path / "c.parquet")
    latentscale.run(tmp_path / "c.parquet", out=tmp_path / "ws", progress="quiet", **ROUGH)
    return tmp_path / "ws"


def labelled(place: Path, engine: str, model: Path, **options: Any) -> Any:
    """Name the clusters where vLLM is; returns the record of the labels."""
    label = {"method": "vllm", "options": {"model": str(model), "compile": False, **options}}
    given = {"place": str(place), "label": label, "engine": {"name": engine}, **ROUGH}
    (place.parent / "given.json").write_text(json.dumps(given))
    in_environment(PROGRAM, place.parent, str(place.parent / "given.json"))
    assert verify_workspace(latentscale.open(place).store).faults == []
    labels = [one for one in latentscale.open(place).artifacts if one.kind == "labels"]
    # By its file: what a record says of its time is to the second, in which several may be made.
    return max(labels, key=lambda one: (place / one.folder / "artifact.json").stat().st_mtime_ns)


def labels_of(place: Path, record: Any) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted((place / record.folder).glob("*.parquet"))])


def check_noise(labels: pl.DataFrame) -> None:
    """Every cluster has a label, and what is wrong with an answer is what it says, never that it is no JSON."""
    assert len(labels) > 4
    for row in labels.iter_rows(named=True):
        assert row["label"]
        assert row["source"] == "vllm" or row["reason"], row
    reasons = " ".join(labels["reason"].drop_nulls())
    assert "such JSON" not in reasons
    assert "vLLM gave no answer" not in reasons
    assert "two answers of the model are no label" in reasons


def test_on_the_local_engine_answers_keep_to_the_schema_and_noise_is_refused(place: Path, models: Path) -> None:
    record = labelled(place, "local", models / "noise", max_output_tokens=256)
    labels = labels_of(place, record)
    check_noise(labels)
    assert record.counts["asked"] == len(labels)
    assert record.choices["spending"]["output_tokens"] > 0
    assert any("in vLLM 0." in note for note in record.notes)


def test_in_replicas_on_ray_answers_are_kept_and_asked_for_once(place: Path, models: Path) -> None:
    record = labelled(place, "ray", models / "noise", held_out=False, max_output_tokens=256)
    labels = labels_of(place, record)
    check_noise(labels)
    assert record.counts["asked"] == len(labels)
    assert any("1 replicas of vLLM on Ray" in note for note in record.notes)
    # The receipts name all clusters: nothing is started again, on whatever engine.
    (place / record.folder / "artifact.json").unlink()
    receipts = {path: path.stat().st_mtime_ns for path in (place / "label-receipts").rglob("*.json")}
    assert len(receipts) >= len(labels)
    again = labelled(place, "local", models / "noise", held_out=False, max_output_tokens=256)
    assert again.counts["asked"] == 0
    assert labels_of(place, again).equals(labels)
    assert {path: path.stat().st_mtime_ns for path in receipts} == receipts
