"""A corpus in a bucket becomes a map in a bucket, the same as on a disk, also where calls fail or the store is gone."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale as ls
from latentscale.storage.objects import Store
from latentscale.upkeep.verify import verify_workspace

from .conftest import fast_on, within

SETTINGS: dict[str, Any] = {
    # By their bytes, so that files on a disk and in a bucket are the same corpus.
    "ingest": {"shard_rows": 60, "fingerprint": "content"},
    "project": {"n_epochs": 50},
    "cluster": {"min_cluster_size": 8},
}
OPTIONS = [
    *("--set", "ingest.shard_rows=60", "--set", "ingest.fingerprint=content", "--set", "project.n_epochs=50"),
    *("--set", "cluster.min_cluster_size=8", "--progress", "quiet"),
]
SHARDS = ("documents", "rejects", "embeddings")


@pytest.fixture(scope="module")
def files(demo: pl.DataFrame) -> dict[str, bytes]:
    """250 documents in two formats, and a line that is no JSON."""
    parquet, jsonl = io.BytesIO(), io.BytesIO()
    demo.slice(0, 150).write_parquet(parquet, row_group_size=50)
    demo.slice(150, 100).write_ndjson(jsonl)
    return {"2025/a.parquet": parquet.getvalue(), "2026/b.jsonl": jsonl.getvalue() + b"not json\n"}


@pytest.fixture(scope="module")
def on_disk(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> ls.Map:
    """The map of a local run."""
    folder = tmp_path_factory.mktemp("disk")
    for name, data in files.items():
        (folder / "raw" / name).parent.mkdir(parents=True)
        (folder / "raw" / name).write_bytes(data)
    return ls.run(str(folder / "raw"), text="text", out=folder / "map", progress="quiet", **SETTINGS)


@pytest.fixture
def corpus(bucket: Any, files: dict[str, bytes]) -> str:
    """The corpus in the bucket."""
    raw = Store(bucket.url("raw"), storage=bucket.direct)
    for name, data in files.items():
        raw.put_bytes(name, data)
    return bucket.url("raw")


def shards(store: Store) -> dict[str, bytes]:
    return {name: store.read_bytes(name) for folder in SHARDS for name in store.list(folder) if "/artifact" not in name}


def run(bucket: Any, corpus: str, **storage: Any) -> ls.Map:
    out, reach = bucket.url("map"), {**bucket.storage, **storage}
    return ls.run(corpus, text="text", out=out, progress="quiet", storage=reach, **SETTINGS)


def check(bucket: Any, made: ls.Map, on_disk: ls.Map) -> None:
    """Every row once, readable, and all that a stage of shards writes equal to the bit."""
    points = made.points().collect()
    assert points["row_id"].n_unique() == len(points) == made.record.counts["documents"] == 250
    assert shards(made.store) == shards(on_disk.store)
    assert verify_workspace(made.store).faults == []
    assert made.store.unfinished() == []


@fast_on("moto")
def test_a_map_in_a_bucket_is_that_of_a_disk(bucket: Any, corpus: str, on_disk: ls.Map, tmp_path: Path) -> None:
    made = run(bucket, corpus)
    check(bucket, made, on_disk)
    assert [row["x"] for row in made.points().collect().to_dicts()] == [
        row["x"] for row in on_disk.points().collect().to_dicts()
    ]
    workspace = ls.open(bucket.url("map"), storage=bucket.storage)
    again = workspace.run(workspace.settings(of_last_run=True))
    assert again.made == []
    hits = workspace.the_map().search("a game of cards", k=3)
    assert [hit.row_id for hit in hits] == [hit.row_id for hit in on_disk.search("a game of cards", k=3)]
    workspace.the_map().export(tmp_path / "points.parquet", text=True)
    assert len(pl.read_parquet(tmp_path / "points.parquet")) == 250
    assert workspace.the_map().export(tmp_path / "page").exists()


@fast_on("moto")
def test_the_points_of_a_bucket_are_those_of_a_disk_and_are_read_as_they_are_needed(
    bucket: Any, tmp_path: Path, demo: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = demo.head(120).with_columns(
        zip=pl.Series(["007", "a b/é", None, ""] * 30), year=pl.Series([2020, None, 2021] * 40, dtype=pl.Int16)
    )
    chosen.write_parquet(tmp_path / "a.parquet")
    # In one place for both columns: what differs is made last.
    places: list[tuple[str, dict[str, Any]]] = [
        (str(tmp_path / "map"), {}),
        (bucket.url("map"), {"storage": bucket.storage}),
    ]
    for column in ("zip", "year"):
        settings = {**SETTINGS, "publish": {"partition_by": column}}
        here, there = [
            ls.run(tmp_path / "a.parquet", out=out, text="text", progress="quiet", **settings, **reach)
            for out, reach in places
        ]
        assert here.points().collect().equals(there.points().collect(), null_equal=True)
        assert here.points().collect_schema() == there.points().collect_schema()
        assert there.sample(5, seed=1).equals(here.sample(5, seed=1), null_equal=True)
        opened: list[str] = []
        real = Store.open

        def watched(self: Store, name: str, opened: list[str] = opened, real: Any = real) -> Any:
            opened.append(name)
            return real(self, name)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "open", watched)
            points = there.points()
            assert len(opened) == 1, "only one footer is read before the frame is collected"
            assert len(points.head(1).collect()) == 1


@fast_on("moto")
def test_every_command_reaches_a_workspace_in_a_bucket(
    bucket: Any, corpus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(bucket, corpus)
    for command in (["status"], ["list"], ["show", made.id], ["search", "games"], ["verify", "--quick"], ["gc"]):
        assert within(command[0], bucket.url("map"), *command[1:], *bucket.options()) == 0, capsys.readouterr().err
    assert within("view", bucket.url("map"), *bucket.options()) == 2
    assert "is not on this disk" in capsys.readouterr().err


@fast_on("moto")
def test_an_update_in_a_bucket_adds_and_removes(bucket: Any, corpus: str, demo: pl.DataFrame) -> None:
    first = run(bucket, corpus)
    raw = Store(corpus, storage=bucket.direct)
    more = io.BytesIO()
    demo.slice(250, 20).write_ndjson(more)
    raw.put_bytes("2026/c.jsonl", more.getvalue())
    bucket.proxy.faults, bucket.proxy.rate = ("slow-down", "reset", "lost"), 0.1
    grown = ls.open(bucket.url("map"), storage=bucket.storage).update()
    bucket.proxy.recover()
    assert grown.id != first.id
    points = grown.points().collect()
    assert points["row_id"].n_unique() == len(points) == 270
    assert verify_workspace(grown.store).faults == []


@fast_on("moto")
def test_a_map_on_a_disk_remembers_how_its_corpus_is_reached(
    bucket: Any, corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ls.run(corpus, text="text", out=tmp_path / "map", progress="quiet", storage=bucket.storage, **SETTINGS)
    assert made.record.counts["documents"] == 250
    Store(corpus, storage=bucket.direct).put_bytes("2026/c.csv", b"text\na document of its own\n")
    assert ls.open(tmp_path / "map").update().record.counts["documents"] == 251
    # Another way to the store, which is reported, is used.
    bucket.proxy.outage(600)
    Store(corpus, storage=bucket.direct).put_bytes("2026/d.csv", b"text\nand one more\n")
    grown = ls.open(tmp_path / "map", storage=bucket.direct).update()
    assert grown.record.counts["documents"] == 252


@fast_on("swift")
def test_a_store_that_throttles_a_fifth_of_all_calls_costs_time_alone(
    bucket: Any, corpus: str, on_disk: ls.Map
) -> None:
    bucket.proxy.faults, bucket.proxy.rate = ("slow-down", "unavailable", "too-many"), 0.2
    made = run(bucket, corpus)
    assert sum(bucket.proxy.happened.values()) > 20
    bucket.proxy.recover()
    check(bucket, made, on_disk)


@pytest.mark.slow
def test_lost_or_truncated_responses_lose_and_duplicate_nothing(bucket: Any, corpus: str, on_disk: ls.Map) -> None:
    bucket.proxy.faults, bucket.proxy.rate = ("refused", "lost", "reset", "truncated", "short"), 0.2
    bucket.proxy.latency = 0.01
    made = run(bucket, corpus)
    assert len(bucket.proxy.happened) == 5
    bucket.proxy.recover()
    check(bucket, made, on_disk)


@pytest.mark.parametrize(
    ("bucket", "seconds", "silent"),
    [
        pytest.param("swift", 60, True, marks=pytest.mark.slow),
        pytest.param("moto", 60, False, marks=pytest.mark.slow),
    ],
    indirect=["bucket"],
)
def test_an_outage_in_the_middle_of_a_run_is_waited_for(
    bucket: Any, corpus: str, on_disk: ls.Map, seconds: int, silent: bool
) -> None:
    bucket.proxy.at.append((r"^PUT .*/embeddings/", lambda: bucket.proxy.outage(seconds, silent=silent)))
    began = time.monotonic()
    made = run(bucket, corpus)
    assert time.monotonic() - began > seconds
    assert bucket.proxy.happened["outage"] > 0
    check(bucket, made, on_disk)


# The budget of a request begins with its first failure, and a try has ten seconds at least: on a busy machine a request
# that nothing keeps may take longer than the budget of this test.
PATIENT = """
import runpy, sys, time
from latentscale.storage.remote import retries, s3_connection

real = retries.Deadline.next_wait

def next_wait(self, error):
    if not self.attempts:
        self._end = time.monotonic() + self.seconds
    return real(self, error)

retries.Deadline.next_wait = next_wait
s3_connection.LEAST_TRY = 10.0
sys.argv[0] = "latentscale"
runpy.run_module("latentscale", run_name="__main__")
"""


def latentscale(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PATIENT, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@fast_on("moto")
def test_an_outage_beyond_the_budget_is_exit_code_4_and_the_same_command_resumes(
    bucket: Any, corpus: str, on_disk: ls.Map
) -> None:
    command = ["run", corpus, "--text", "text", "--out", bucket.url("map"), *OPTIONS, *bucket.options()]
    bucket.proxy.at.append((r"^PUT .*/embeddings/", lambda: bucket.proxy.outage(600)))
    ended = latentscale(*command, "--storage", "budget=2", "--storage", "first_budget=60")
    assert ended.returncode == 4, ended.stderr
    assert f"s3://{bucket.name}/map/" in ended.stderr
    assert "Connect" in ended.stderr
    assert "tries in" in ended.stderr
    assert "run the same command" in ended.stderr
    assert "Traceback" not in ended.stderr
    bucket.proxy.recover()
    done = Store(bucket.url("map"), storage=bucket.direct).list("documents")
    assert done
    made = run(bucket, corpus)
    check(bucket, made, on_disk)
    # What was there before is the very object that is there now.
    after = made.store.list("documents")
    assert {name: after[name].modified for name in done} == {name: info.modified for name, info in done.items()}
