"""A graph that was made of shards of the vectors is that of one device."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import latentscale as ls
from latentscale.backends.select import check_workers
from latentscale.backends.torch.backend import TorchBackend
from latentscale.errors import ConfigError, EnvironmentFailure, ResourceError
from latentscale.machine import Replicas

pytest.importorskip("torch", reason="the backend torch needs the package torch")
pytestmark = pytest.mark.slow


def one_device(vectors: Any, k: int = 15) -> Any:
    return TorchBackend("cpu").neighbors(vectors, k=k, method="exact", recall_target=1.0, seed=0, threads=1)


@pytest.mark.parametrize(("shards", "rows"), [(1, 3000), (3, 3000), (7, 20), (2, 2)])
def test_shards_give_the_graph_of_one_device(
    vectors: Any, monkeypatch: pytest.MonkeyPatch, shards: int, rows: int
) -> None:
    from latentscale.backends.torch import shards as module

    some = vectors[90 : 90 + rows] if rows < 100 else vectors
    bounds = np.linspace(0, len(some), shards + 1).astype(int)
    held = [
        module.Shard(some[first:last], int(first), device="cpu") for first, last in pairwise(bounds) if last > first
    ]
    monkeypatch.setattr(module, "_BLOCK_ROWS", 700)

    def ask(blocks: Iterator[Any]) -> Iterator[Any]:
        for start, asking in blocks:
            yield [shard.nearest(asking, start, min(15, len(some) - 1)) for shard in held]

    found = module.sharded_neighbors(some, k=15, query_shards=ask, shards=shards)
    truth = one_device(some)
    np.testing.assert_allclose(found.distances, truth.distances, atol=1e-7)
    # What may differ is which of several that are equally near is taken.
    assert (found.indices == truth.indices).mean() > 0.99
    if rows > 100:
        np.testing.assert_array_equal(found.indices[100:120], truth.indices[100:120])


def test_too_small_gpu_memory_for_a_shard_is_reported(vectors: Any) -> None:
    from latentscale.backends.torch.shards import Shard
    from tests.backends.torch.pretend_cuda import PretendCuda

    with PretendCuda(memory=1 << 30):
        found, distance = Shard(vectors[:500], 0, device="cuda:0").nearest(vectors[:50], 0, 15)
    np.testing.assert_array_equal(found, one_device(vectors[:500]).indices[:50])
    assert distance.dtype == np.float32
    with PretendCuda(memory=100_000), pytest.raises(EnvironmentFailure, match="does not fit in the memory of cuda:0"):
        Shard(vectors, 0, device="cuda:0").nearest(vectors[:50], 0, 15)


def test_workers_need_a_cluster_and_a_backend_that_can(demo: pl.DataFrame, tmp_path: Path) -> None:
    workers: dict[str, Any] = {"resources": {"neighbors": {"workers": 2}}}
    with pytest.raises(ConfigError, match=r"need a cluster, and engine\.name is local"):
        ls.run(demo.head(50), out=tmp_path / "map", engine={"name": "local", **workers}, progress="quiet")
    with pytest.raises(ConfigError, match=r"neighbors\.backend is 'auto', which does not search in several workers"):
        check_workers("auto", engine="ray")
    check_workers("torch", engine="ray")
    with pytest.raises(ConfigError, match="project runs in one worker"):
        ls.run(demo.head(50), out=tmp_path / "map", engine={"resources": {"project": {"workers": 2}}})


@pytest.mark.ray
def test_actors_with_a_counted_gpu_give_the_graph_of_one_device(
    vectors: Any, demo: pl.DataFrame, tmp_path: Path
) -> None:
    ray: Any = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from latentscale.backends.torch.actors import neighbors_of_actors

    # Ray is told of two GPUs; the actors find that there are none, and compute on processors.
    ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        found = neighbors_of_actors(vectors, k=15, replicas=Replicas(cpus=1, gpus=1, workers=2))
        truth = one_device(vectors)
        assert found.details["shards"] == 2
        np.testing.assert_allclose(found.distances, truth.distances, atol=1e-7)
        assert (found.indices == truth.indices).mean() > 0.99
        with pytest.raises(ResourceError, match="3 workers for the neighbours did not answer for 3 s"):
            neighbors_of_actors(vectors, k=15, replicas=Replicas(cpus=1, gpus=1, workers=3, stall_seconds=3))
        engine: dict[str, Any] = {
            "name": "ray",
            "resources": {
                "neighbors": {"workers": 2, "gpus": 1, "cpus": 1},
                "embed": {"workers": 1},
                "project": {"cpus": 1},
                "cluster": {"cpus": 1},
                "label": {"cpus": 1},
                "publish": {"cpus": 1},
            },
        }
        settings: dict[str, Any] = {"neighbors": {"backend": "torch"}, "project": {"n_epochs": 10}, "progress": "quiet"}
        documents = demo.head(200)
        # Four processors have room for four workers, and not for the stage beside them.
        many = {**engine, "resources": {**engine["resources"], "neighbors": {"workers": 4, "gpus": 0.5, "cpus": 1}}}
        with pytest.raises(ResourceError, match=r"takes a processor and starts 4 workers .* room for 3 beside it"):
            ls.run(documents, out=tmp_path / "refused", engine=many, **settings)
        ls.run(documents, out=tmp_path / "shared", engine=engine, **settings)
        ls.run(documents, out=tmp_path / "alone", **settings, engine={"resources": {"neighbors": {"gpus": 0}}})
        (shared,), (alone,) = (
            [one for one in ls.open(tmp_path / name).artifacts if one.kind == "neighbors"]
            for name in ("shared", "alone")
        )
        assert (shared.choices["shards"], shared.id) == (2, alone.id)
    finally:
        ray.shutdown()
