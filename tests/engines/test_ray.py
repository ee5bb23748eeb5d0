"""The Ray engine leaves the same objects as the local one, byte for byte."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import pytest

import latentscale
from latentscale.config import EngineConfig
from latentscale.engines import Quarantined, check_engine
from latentscale.engines.ray import RayEngine
from latentscale.errors import ConfigError, CorpusError, ResourceError, StorageError
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
def test_a_shard_that_always_kills_its_worker_is_set_aside_after_three_tries(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray"))
    attempts = AttemptLog(Store(str(tmp_path)), "run")
    tasks = [Numbered(str(i)) for i in range(6)]
    done = list(
        engine.map_shards(Crashing, tasks, stage="ingest", task_type=Numbered, receipt_type=str, attempts=attempts)
    )
    given_up = [one for one in done if isinstance(one, Quarantined)]
    assert sorted(one for one in done if isinstance(one, str)) == ["0", "1", "2", "4", "5"]
    assert [(one.key, one.tries) for one in given_up] == [("3", 3)]
    assert given_up[0].reason.startswith("its worker died 3 times: process ")
    assert len(list((tmp_path / "attempts" / "run" / "3").iterdir())) == 3
    assert not list((tmp_path / "attempts" / "run").glob("[0-24-9]/*"))
    hosts = engine.describe()["hosts"]["ingest"]
    assert sum(hosts.values()) == 6


class Steps:
    """A function of a whole stage that says how far it is."""

    def __call__(self, progress: Callable[[int, int], None]) -> int:
        for i in range(1, 6):
            progress(i, 5)
            time.sleep(0.5)
        return os.getpid()


def test_a_global_stage_says_how_far_it_is(cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray"))
    heard: list[tuple[int, int]] = []
    pid = engine.call(Steps(), stage="projection", progress=lambda done, total: heard.append((done, total)))
    assert pid != os.getpid()
    assert heard == sorted(heard)
    assert heard[-1][1] == 5
    assert engine.threads("projection") == 2


def kill_itself_twice(path: Path) -> str:
    """Die until the file says that it was tried twice before."""
    with path.open("a") as file:
        file.write("x")
    if len(path.read_text()) < 3:
        os._exit(1)
    return "done"


def test_a_global_stage_whose_worker_is_lost_is_done_again(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray"), say=lambda _: None)
    assert engine.call(partial(kill_itself_twice, tmp_path / "tries"), stage="clusters") == "done"


def test_a_global_stage_whose_worker_always_dies_ends_the_run(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray"), say=lambda _: None)
    with pytest.raises(StorageError, match="stage cluster was lost 3 times") as caught:
        engine.call(partial(os._exit, 1), stage="clusters")
    assert caught.value.exit_code == 4


def test_resources_that_others_hold_are_waited_for_and_then_the_run_ends(tmp_path: Path, cluster: None) -> None:
    import ray

    @ray.remote(num_cpus=1)
    class Idle:
        def ready(self) -> int:
            return 1

    others = [Idle.remote() for _ in range(2)]
    ray.get([one.ready.remote() for one in others])
    said: list[str] = []
    engine = RayEngine(EngineConfig(name="ray", wait_seconds=3), say=said.append)
    attempts = AttemptLog(Store(str(tmp_path)), "run")
    try:
        with pytest.raises(ResourceError, match=r"stage embed waits for 1 CPU since 3 s: .* 0 CPU are free"):
            list(
                engine.map_shards(
                    Crashing, [Numbered("1")], stage="embed", task_type=Numbered, receipt_type=str, attempts=attempts
                )
            )
        with pytest.raises(ResourceError, match="stage publish waits for 2 CPU"):
            engine.call(os.getpid, stage="map")
    finally:
        for one in others:
            ray.kill(one)
    assert said[0].startswith("waiting for 1 CPU")


class Sleeping:
    """A worker that hangs."""

    def __call__(self, task: Numbered) -> str:
        time.sleep(60)
        return task.key


def test_a_worker_that_hangs_ends_the_run_after_a_while(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray", stall_seconds=6))
    attempts = AttemptLog(Store(str(tmp_path)), "run")
    with pytest.raises(ResourceError, match="no shard was finished for 6 s"):
        list(
            engine.map_shards(
                Sleeping, [Numbered("1")], stage="embed", task_type=Numbered, receipt_type=str, attempts=attempts
            )
        )


class Environed:
    """A worker that reads a variable when it is made, as a store reads its keys."""

    def __init__(self, store: Store) -> None:
        self._value = os.environ["CANARY_OF_THE_TESTS"]

    def __call__(self, task: Numbered) -> str:
        return self._value


def test_named_variables_reach_the_workers_and_no_file_of_ray(
    tmp_path: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    canary = "canary-3f9d1c-value"
    monkeypatch.setenv("CANARY_OF_THE_TESTS", canary)
    config = EngineConfig(name="ray", pass_environment=("CANARY_OF_THE_TESTS",))
    engine = RayEngine(config)
    attempts = AttemptLog(Store(str(tmp_path)), "run")
    made = engine.map_shards(
        partial(Environed, Store(str(tmp_path))),
        [Numbered("1")],
        stage="embed",
        task_type=Numbered,
        receipt_type=str,
        attempts=attempts,
    )
    assert list(made) == [canary]
    assert canary not in repr(engine._environment)
    assert canary not in repr(config) + str(engine.describe())
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    logs = [path for path in (session / "logs").rglob("*") if path.is_file()]
    assert logs
    assert [path.name for path in logs if canary.encode() in path.read_bytes()] == []
    monkeypatch.delenv("CANARY_OF_THE_TESTS")
    with pytest.raises(ConfigError, match="CANARY_OF_THE_TESTS, which is not set here"):
        check_engine(config)


def test_the_cluster_of_ray_init_is_taken_by_any_of_its_names_and_no_other(cluster: None) -> None:
    import ray

    here = ray.get_runtime_context().gcs_address
    for address in (None, "auto", here, f"localhost:{here.rpartition(':')[2]}"):
        config = EngineConfig(name="ray", address=address)
        check_engine(config)
        assert RayEngine(config).describe()["address"] == "the cluster of ray.init()"
    for address in ("local", "ray://127.0.0.1:10001"):
        config = EngineConfig(name="ray", address=address)
        with pytest.raises(ConfigError, match=f"engine.address is {address}, but this process .* {here}"):
            check_engine(config)
        with pytest.raises(ConfigError, match="has called ray"):
            RayEngine(config)
    with pytest.raises(ResourceError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        check_engine(EngineConfig(name="ray", address="127.0.0.1:1"))
    assert ray.is_initialized(), "what was refused was not disconnected"


def test_a_runtime_environment_after_ray_init_is_refused(cluster: None) -> None:
    with pytest.raises(ConfigError, match="comes too late"):
        check_engine(EngineConfig(name="ray", runtime_env={"env_vars": {"POLARS_MAX_THREADS": "1"}}))
