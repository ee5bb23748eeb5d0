"""The Ray engine leaves the same objects as the local one, byte for byte."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pytest

import latentscale
from latentscale.config import EngineConfig
from latentscale.engines import Quarantined, check_engine
from latentscale.engines.failures import WorkerError
from latentscale.engines.ray.engine import RayEngine
from latentscale.errors import ConfigError, CorpusError, ResourceError, StorageError
from latentscale.pipeline import hashing
from latentscale.stages.context import StageContext
from latentscale.stages.publish.preview import NAME
from latentscale.storage import hashed_rows, receipts
from latentscale.storage.attempts import AttemptLog
from latentscale.storage.objects import Store
from tests.engines.work import (
    Beside,
    Crashing,
    Dividing,
    Environed,
    EnvironedParts,
    Hanging,
    Numbered,
    OutOfMemoryError,
    die,
    fail,
    kill_itself_twice,
    look,
    steps,
)

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One Ray for all tests of this module, two workers, as `latentscale run --engine ray` starts it."""
    import ray

    for left in reversed(range(3)):
        try:
            ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
            break
        except Exception as error:
            # It gives its own processes half a minute, whatever else the machine does (ray/_private/node.py).
            ray.shutdown()
            if not left or "timed out during startup" not in str(error):
                raise
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


@pytest.mark.slow
def test_both_engines_leave_the_same_bytes(
    tmp_path: Path, small_corpus: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A table that is written before a stage ends holds the shards that were finished by then.
    monkeypatch.setattr(receipts, "WRITTEN_EVERY", math.inf)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    frame = pl.read_parquet(small_corpus)
    for i, part in enumerate(frame.iter_slices(100)):
        part.write_csv(corpus / f"part-{i}.csv")
    settings = {"ingest": {"shard_rows": 40}, "progress": "quiet"}
    latentscale.run(str(corpus), out=tmp_path / "local" / "x", **settings)
    # Shown on its way by the stage's actor, the map is the same.
    settings |= {"project": {"preview": True}}
    latentscale.run(str(corpus), out=tmp_path / "ray" / "x", engine={"name": "ray"}, **settings)
    local, ray = (latentscale.open(tmp_path / engine / "x") for engine in ("local", "ray"))
    one, two = objects(local), objects(ray)
    assert b"viewer/index.html" in two.pop(NAME)
    (run,) = (tmp_path / "ray" / "x" / "runs").iterdir()
    told = [json.loads(line).get("text", "") for line in (run / "events.jsonl").read_text().splitlines()]
    states = ("layout after 125 of 500 steps (25%)", "layout after 250 of 500 steps (50%)")
    states = (*states, "layout after 375 of 500 steps (75%)", "layout, done")
    where = tmp_path / "ray" / "x" / NAME
    assert [text for text in told if text.startswith("preview")] == [f"preview of the {one}: {where}" for one in states]
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name] and name != "viewer/manifest.json"] == []
    # The page says when its map was made.
    pages = [json.loads(objects["viewer/manifest.json"]) for objects in (one, two)]
    made = [dict(page.pop("about")).pop("Made") for page in pages]
    assert pages[0] == pages[1]
    assert all(made)
    assert ray.runs[0]["facts"]["engine"]["engine"] == "ray"


def test_ids_and_texts_are_hashed_by_the_workers_of_the_cluster(
    tmp_path: Path, small_corpus: Path, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_here(column: object) -> None:
        raise AssertionError("the driver hashes texts")

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    frame = pl.read_parquet(small_corpus)
    for i, part in enumerate(frame.head(200).iter_slices(80)):
        # Each file has the texts and an id of the one before it, too.
        pl.concat([part, frame.slice(max(0, 80 * (i - 1)), 20)]).write_parquet(corpus / f"part-{i}.parquet")
    settings = {
        "corpus": {"sources": str(corpus), "text": "text", "id": "package"},
        "embed": {"duplicates": "corpus"},
        "ingest": {"shard_rows": 40},
    }
    latentscale.Workspace(tmp_path / "local").run(settings, until="embed")
    monkeypatch.setattr(hashing, "HERE_SECONDS", 0.0)
    monkeypatch.setattr(hashed_rows, "hash_values", not_here)
    latentscale.Workspace(tmp_path / "ray").run({**settings, "engine": {"name": "ray"}}, until="embed")
    local, ray = (objects(latentscale.open(tmp_path / engine)) for engine in ("local", "ray"))
    kept = [name for name in local if name.startswith(("documents/", "embeddings/", "snapshots/", "ids/"))]
    assert kept == [name for name in ray if name in kept or name.startswith("ids/")]
    assert [name for name in kept if local[name] != ray[name]] == []
    assert len({name.split("/")[1] for name in kept if name.startswith("ids/")}) == 2, "of the ids and of the texts"


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


def test_a_shard_that_always_kills_its_worker_is_quarantined_after_three_attempts(
    tmp_path: Path, cluster: None
) -> None:
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


def context(folder: Path) -> StageContext:
    return StageContext(store=Store(str(folder)), run="run")


def test_a_global_stage_knows_its_node_and_reports_progress(tmp_path: Path, cluster: None) -> None:
    notices: list[str] = []
    engine = RayEngine(EngineConfig(name="ray"), on_notice=notices.append)
    heard: list[tuple[int, int]] = []
    found = engine.call(
        steps, context(tmp_path), stage="project", progress=lambda done, total: heard.append((done, total))
    )
    assert found.pop("pid") != os.getpid()
    assert found.pop("memory") > 1e8
    assert found == {"threads": 2, "device": "cpu", "scratch": True, "run": "run"}
    assert heard == sorted(heard)
    assert heard[-1] == (5, 5)
    # What the test before has used may not be free yet.
    assert [one for one in notices if not one.startswith("waiting for ")] == ["half of it is a sample"]


def test_a_global_stage_whose_worker_is_lost_is_done_again(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray"), on_notice=lambda _: None)
    make = partial(kill_itself_twice, tmp_path / "tries")
    assert engine.call(make, context(tmp_path), stage="cluster") == "done"


def test_a_global_stage_whose_worker_always_dies_ends_the_run(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray"), on_notice=lambda _: None)
    with pytest.raises(StorageError, match="stage cluster was lost 3 times") as caught:
        engine.call(die, context(tmp_path), stage="cluster")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("a fault"), ValueError, "a fault"),
        (MemoryError("64 GB"), MemoryError, "64 GB"),
        (OSError(28, "No space left on device", "/x"), OSError, "No space left"),
        (OutOfMemoryError("CUDA"), WorkerError, "OutOfMemoryError: CUDA"),
        (CorpusError("a row", hint="Look."), CorpusError, "next: Look."),
    ],
)
def test_an_error_of_a_global_stage_keeps_its_type(
    tmp_path: Path, cluster: None, error: Exception, kind: type[Exception], text: str
) -> None:
    engine = RayEngine(EngineConfig(name="ray"), on_notice=lambda _: None)
    with pytest.raises(kind, match=text) as caught:
        engine.call(partial(fail, error), context(tmp_path), stage="cluster")
    assert type(caught.value) is kind
    if kind is not CorpusError:
        assert "in fail" in str(caught.value.__cause__), "the traceback of the worker"


def test_a_run_waits_for_occupied_resources_and_then_fails(tmp_path: Path, cluster: None) -> None:
    import ray

    @ray.remote(num_cpus=1)
    class Idle:
        def ready(self) -> int:
            return 1

    others = [Idle.remote() for _ in range(2)]
    ray.get([one.ready.remote() for one in others])
    # The head hears a while later what a node has given away.
    deadline = time.monotonic() + 120
    while ray.available_resources().get("CPU", 0.0) and time.monotonic() < deadline:
        time.sleep(0.02)
    notices: list[str] = []
    engine = RayEngine(EngineConfig(name="ray", wait_seconds=1), on_notice=notices.append)
    attempts = AttemptLog(Store(str(tmp_path)), "run")
    try:
        with pytest.raises(ResourceError, match=r"stage embed waits for 1 CPU since 1 s: .* 0 CPU are free"):
            list(
                engine.map_shards(
                    Crashing, [Numbered("1")], stage="embed", task_type=Numbered, receipt_type=str, attempts=attempts
                )
            )
        with pytest.raises(ResourceError, match="stage publish waits for 2 CPU"):
            engine.call(die, context(tmp_path), stage="publish")
    finally:
        for one in others:
            ray.kill(one)
    assert notices[0].startswith("waiting for 1 CPU")


def test_a_worker_that_hangs_ends_the_run_after_a_while(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray", stall_seconds=6))
    attempts = AttemptLog(Store(str(tmp_path)), "run")
    over = tmp_path / "over"
    try:
        with pytest.raises(ResourceError, match="no shard was finished for 6 s"):
            list(
                engine.map_shards(
                    partial(Hanging, over),
                    [Numbered("1")],
                    stage="embed",
                    task_type=Numbered,
                    receipt_type=str,
                    attempts=attempts,
                )
            )
    finally:
        over.touch()


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


def test_the_cluster_of_ray_init_is_used_by_any_of_its_addresses(cluster: None) -> None:
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


@pytest.mark.slow
def test_each_stage_sees_its_own_environment_over_that_of_the_run(tmp_path: Path, cluster: None) -> None:
    one, two = ({"runtime_env": {"env_vars": {"ENVIRONMENT_OF_THE_TESTS": value}}} for value in ("cuml", "vllm"))
    config = EngineConfig.model_validate({"name": "ray", "resources": {"project": one, "label": two, "embed": two}})
    engine = RayEngine(config, on_notice=lambda _: None)
    make = partial(look, "ENVIRONMENT_OF_THE_TESTS")
    found = {stage: engine.call(make, context(tmp_path), stage=stage) for stage in ("project", "label", "cluster")}
    assert found == {"project": "cuml", "label": "vllm", "cluster": None}
    made = engine.map_shards(
        EnvironedParts,
        [Numbered("1")],
        stage="embed",
        task_type=Numbered,
        receipt_type=str,
        attempts=AttemptLog(Store(str(tmp_path)), "run"),
    )
    assert list(made) == ["vllm"]


def test_resources_are_measured_where_the_stage_runs(cluster: None) -> None:
    config = EngineConfig.model_validate({"name": "ray", "resources": {"embed": {"memory": "100MB"}}})
    engine = RayEngine(config, on_notice=lambda _: None)
    whole, shard = engine.place("project"), engine.place("embed")
    assert whole is engine.place("project"), "measured once"
    assert (whole.cpus, shard.cpus) == (2, 1)
    assert whole.memory_bytes > 1e8
    assert shard.memory_bytes == 100e6
    assert whole.gpus == ()
    assert whole.packages["numpy"]
    assert whole.disk_free_bytes > 0


def test_the_next_shards_are_read_while_one_is_computed(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray", workers=1))
    made = engine.map_shards(
        Beside,
        [Numbered(str(i)) for i in range(8)],
        stage="embed",
        task_type=Numbered,
        receipt_type=str,
        attempts=AttemptLog(Store(str(tmp_path)), "run"),
    )
    most = [int(one.split()[1]) for one in made if isinstance(one, str)]
    assert len(most) == 8
    assert 2 <= max(most) <= 3


@pytest.mark.slow
def test_only_the_shard_that_kills_its_worker_is_quarantined(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray", workers=1))
    done = list(
        engine.map_shards(
            partial(Beside, poison="3"),
            [Numbered(str(i)) for i in range(9)],
            stage="embed",
            task_type=Numbered,
            receipt_type=str,
            attempts=AttemptLog(Store(str(tmp_path)), "run"),
        )
    )
    assert [(one.key, one.tries) for one in done if isinstance(one, Quarantined)] == [("3", 3)]
    most = dict(one.split() for one in done if isinstance(one, str))
    assert sorted(most) == [str(i) for i in range(9) if i != 3]
    # Three deaths alone, and the first, which had company; nothing is left of those that came through.
    assert {path.parent.name for path in (tmp_path / "attempts" / "run").glob("*/*")} == {"3"}
    assert len(list((tmp_path / "attempts" / "run" / "3").iterdir())) in (3, 4)


def test_a_fault_in_a_shard_ends_the_run_as_it_does_locally(tmp_path: Path, cluster: None) -> None:
    engine = RayEngine(EngineConfig(name="ray"))
    with pytest.raises(ZeroDivisionError) as caught:
        list(
            engine.map_shards(
                Dividing,
                [Numbered("0")],
                stage="embed",
                task_type=Numbered,
                receipt_type=str,
                attempts=AttemptLog(Store(str(tmp_path)), "run"),
            )
        )
    assert "in __call__" in str(caught.value.__cause__)


TWO_NODES = """
import tempfile
from ray.cluster_utils import Cluster
from latentscale.config import EngineConfig
from latentscale.engines.ray.engine import RayEngine
from latentscale.stages.context import StageContext
from latentscale.storage.objects import Store

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=2)
cluster.add_node(num_cpus=2)


def node(context):
    import ray
    return ray.get_runtime_context().get_node_id()


engine = RayEngine(EngineConfig(name="ray", address=cluster.address))
context = StageContext(store=Store(tempfile.mkdtemp()))
try:
    stages = ("neighbors", "project", "cluster", "label", "publish")
    print([engine.call(node, context, stage=stage) for stage in stages])
finally:
    engine.close()
    cluster.shutdown()
"""


@pytest.mark.slow
def test_later_stages_run_where_the_vectors_are(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TWO_NODES)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=500, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    nodes = ast.literal_eval(done.stdout.splitlines()[-1])
    assert len(nodes) == 5
    assert len(set(nodes)) == 1
