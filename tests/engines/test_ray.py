"""The Ray engine leaves the same objects as the local one, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

import latentscale
from latentscale.config import EngineConfig
from latentscale.engines.ray import RayEngine, _probe
from latentscale.errors import CorpusError, ResourceError
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.objects import Store

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests of this module, two workers, as `latentscale run --engine ray` starts it."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def objects(workspace: latentscale.Workspace) -> dict[str, bytes]:
    """All objects but records, which hold times, and runs."""
    skipped = ("runs/", "HEAD.json", "workspace.json")
    return {
        name: workspace.store.read_bytes(name)
        for name in workspace.store.list()
        if not name.startswith(skipped) and not name.endswith(("artifact.json", "map.json"))
    }


def test_both_engines_leave_the_same_bytes(tmp_path: Path, small_corpus: Path, cluster: None) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    frame = pl.read_parquet(small_corpus)
    for i, part in enumerate(frame.iter_slices(100)):
        part.write_csv(corpus / f"part-{i}.csv")
    settings = {"ingest": {"shard_rows": 40}, "progress": "quiet"}
    latentscale.run(str(corpus), out=tmp_path / "local" / "x", **settings)
    latentscale.run(str(corpus), out=tmp_path / "ray" / "x", engine={"name": "ray"}, **settings)
    local, ray = (latentscale.open(tmp_path / engine / "x") for engine in ("local", "ray"))
    one, two = objects(local), objects(ray)
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []
    assert ray.runs[0]["facts"]["engine"]["engine"] == "ray"


def test_an_error_of_a_worker_comes_back_as_it_was(tmp_path: Path, cluster: None) -> None:
    import numpy as np
    import pyarrow as pa

    vectors = np.random.default_rng(0).standard_normal((50, 8)).tolist()
    vectors[31][2] = float("nan")
    table = pa.table({"text": [f"word {i}" for i in range(50)], "emb": pa.array(vectors, pa.list_(pa.float32()))})
    with pytest.raises(CorpusError, match="NaN"):
        latentscale.run(
            table,
            out=tmp_path / "out",
            progress="quiet",
            engine={"name": "ray"},
            corpus={"vectors": "emb"},
            embed={"model": "column"},
            ingest={"shard_rows": 10},
        )


@dataclass(frozen=True)
class Numbered:
    """A task as the stages have them: with a key."""

    key: str


class Crashing:
    """A worker that ends its process on one task, as a library with a fault would."""

    def __call__(self, task: Numbered) -> str:
        if task.key == "3":
            os._exit(1)
        return task.key


@pytest.mark.timeout(180)
def test_a_shard_that_always_kills_its_worker_ends_the_run_after_three_tries(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray"))
    attempts = AttemptLog(Store(str(tmp_path)), "run")
    tasks = [Numbered(str(i)) for i in range(6)]
    with pytest.raises(ResourceError, match="the worker of shard 3 died 3 times") as caught:
        list(engine.map_shards(Crashing, tasks, task_type=Numbered, receipt_type=str, attempts=attempts))
    assert caught.value.exit_code == 4
    assert len(list((tmp_path / "attempts" / "run" / "3").iterdir())) == 3
    assert not list((tmp_path / "attempts" / "run").glob("[0-24-9]/*"))


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1:1"):
        _probe("127.0.0.1:1")
    with pytest.raises(ResourceError, match=r"127\.0\.0\.1:1"):
        _probe("ray://127.0.0.1:1")
    _probe("auto")
    _probe(None)
