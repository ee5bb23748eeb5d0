"""An embedder that wants a GPU gets one on a Ray cluster that has any, its share of one, or a processor.

Ray is told that the machine has a GPU: what it gives to whom is real, and no kernel runs on it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

EMBEDDER = """
import json
import os
import time
import uuid
from pathlib import Path
from typing import Literal

import numpy as np

from latentscale.config import Settings, StageResources
from latentscale.embedders import Embedded, EmbedderSpec
from latentscale.embedders.spec import options_of


class Options(Settings):
    folder: str
    together: int


class Spec(EmbedderSpec):
    kind: Literal["placed"] = "placed"
    folder: str
    together: int

    @classmethod
    def from_settings(cls, config, *, vectors_column):
        return cls(**options_of(config, Options).model_dump())

    @property
    def dimensions(self):
        return 4

    def identity(self):
        return {"embedder": "placed", "folder": self.folder}

    def resources(self):
        return StageResources(gpus="auto")

    def open(self, device="cpu"):
        import ray

        given = {"ids": ray.get_gpu_ids(), "visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid()}
        (Path(self.folder) / uuid.uuid4().hex).write_text(json.dumps(given))
        return Embedder(Path(self.folder), self.together)


class Embedder:
    def __init__(self, folder, together):
        self.folder, self.together = folder, together

    def embed(self, texts):
        # All actors are there before one of them has done all the work.
        deadline = time.monotonic() + 120
        while len(list(self.folder.iterdir())) < self.together:
            assert time.monotonic() < deadline, "the other actors did not start"
            time.sleep(0.02)
        vectors = np.full((len(texts), 4), 0.5, np.float32)
        there = np.ones(len(texts), bool)
        return Embedded(vectors=vectors, embeddable=there, tokens=len(texts), unknown=0, truncated=0)
"""

SCRIPT = """
import json
import sys
from pathlib import Path

import ray

import latentscale
from latentscale.errors import LatentScaleError
from latentscale.pipeline.observe import Observer

folder, gpus, cases = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
ray.init("local", num_cpus=2, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
answers = {}
for name, case in cases.items():
    seen = folder / f"seen-{name}-{gpus}"
    seen.mkdir()
    values = {
        "out": str(folder / f"map-{name}-{gpus}"),
        "corpus": {"sources": [str(folder / "texts.txt")], "format": "lines"},
        "ingest": {"shard_rows": 5},
        "embed": {"model": "placed", "options": {"folder": str(seen), "together": case["actors"]}},
        "engine": {"name": "ray", "resources": {"ingest": {"workers": 1}, "embed": case["asked"]}},
    }
    workspace = latentscale.open(values["out"], must_exist=False)
    observer = Observer("quiet")
    answer = {"error": None}
    try:
        workspace.run(values, until="embed", progress=observer)
        answer["embedding"] = workspace.status()["embedding"]
    except LatentScaleError as error:
        answer["error"] = error.message
    answer["notes"] = [event["text"] for event in observer.events if event["event"] == "note"]
    answer["opened"] = [json.loads(path.read_text()) for path in seen.iterdir()]
    answers[name] = answer
print(json.dumps(answers))
ray.shutdown()
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs cases on a cluster of one node with so many GPUs, in a process of its own."""
    site = tmp_path / "site"
    (site / "placed").mkdir(parents=True)
    (site / "placed" / "__init__.py").write_text(EMBEDDER)
    metadata = site / "placed-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: placed\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[latentscale.embedders]\nplaced = placed:Spec\n")
    (tmp_path / "texts.txt").write_text("".join(f"text number {i}\n" for i in range(20)))
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))

    def run(gpus: int, **cases: Any) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), str(gpus), json.dumps(cases)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_actors_get_a_gpu_a_share_or_none_as_requested(run: Any) -> None:
    answers = run(
        1,
        default={"asked": {}, "actors": 1},
        shared={"asked": {"gpus": 0.5}, "actors": 2},
        bounded={"asked": {"gpus": 0.5, "min_workers": 1, "max_workers": 1}, "actors": 1},
        processors={"asked": {"gpus": 0, "workers": 2}, "actors": 2},
    )
    assert {name: answer["error"] for name, answer in answers.items()} == dict.fromkeys(answers)
    default = answers["default"]
    # Two processors, one GPU: one actor, which opens its model once for four shards.
    assert [one["visible"] for one in default["opened"]] == ["0"]
    assert default["embedding"]["by_worker"][0]["shards"] == 4
    assert any(note.startswith("embed: a GPU for each worker") for note in default["notes"])
    assert [one["visible"] for one in answers["shared"]["opened"]] == ["0", "0"]
    assert len({one["pid"] for one in answers["shared"]["opened"]}) == 2
    assert [one["visible"] for one in answers["bounded"]["opened"]] == ["0"]
    assert [(one["ids"], one["visible"]) for one in answers["processors"]["opened"]] == [([], "")] * 2


def test_a_cluster_without_a_gpu_embeds_on_processors_and_says_so_or_refuses(run: Any) -> None:
    answers = run(
        0,
        default={"asked": {"workers": 1}, "actors": 1},
        needed={"asked": {"gpus": 1}, "actors": 1},
    )
    assert answers["default"]["error"] is None
    assert [(one["ids"], one["visible"]) for one in answers["default"]["opened"]] == [([], "")]
    assert any(note.startswith("embed: on CPUs") for note in answers["default"]["notes"])
    assert "stage embed asks for 1 CPU, 1 GPU" in answers["needed"]["error"]
    assert answers["needed"]["opened"] == []
