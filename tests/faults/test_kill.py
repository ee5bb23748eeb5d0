"""kill -9 at random moments of a run: the same command ends with every row once, and does no finished shard again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

import latentscale
from latentscale.storage.objects import TEMPORARY_PREFIX
from latentscale.verification import verify_workspace

SETTINGS = ["--set", "ingest.shard_rows=50", "--set", "project.n_epochs=100", "--progress", "quiet"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """1,500 documents in two files, a JSONL and a gzip-compressed CSV, with a bad row in each."""
    import gzip

    folder = tmp_path_factory.mktemp("killed")
    demo.slice(0, 1_000).write_ndjson(folder / "a.jsonl")
    with (folder / "a.jsonl").open("a") as file:
        file.write("not json\n")
    with gzip.open(folder / "b.csv.gz", "wb") as file:
        file.write(demo.slice(1_000, 500).write_csv().encode() + b"too,few\n")
    return folder


def command(corpus: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "latentscale", "run", str(corpus), "--out", str(out), *SETTINGS]


def shards(out: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and modification time of all shard objects."""
    return {
        str(path.relative_to(out)): (path.read_bytes(), path.stat().st_mtime_ns)
        for folder in ("documents", "rejects", "embeddings")
        for path in sorted((out / folder).rglob("*.parquet"))
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> tuple[Path, float]:
    out = tmp_path_factory.mktemp("whole") / "map"
    subprocess.run(command(corpus, out), check=True, capture_output=True)  # fills the caches of compiled code
    started = time.monotonic()
    again = tmp_path_factory.mktemp("again") / "map"
    subprocess.run(command(corpus, again), check=True, capture_output=True)
    return again, time.monotonic() - started


def check_what_is_visible(out: Path) -> None:
    """Whatever has a name that others look for is whole."""
    for path in out.rglob("*"):
        if path.is_file() and not path.name.startswith(TEMPORARY_PREFIX):
            if path.suffix == ".parquet":
                pq.ParquetFile(path, page_checksum_verification=True).read()
            else:
                assert path.stat().st_size > 0


def check_whole(out: Path, uninterrupted: Path, before: dict[str, tuple[bytes, int]]) -> None:
    made, wanted = shards(out), shards(uninterrupted)
    assert {name: data for name, (data, _) in made.items()} == {name: data for name, (data, _) in wanted.items()}
    for name, (_, time_written) in before.items():
        assert made[name][1] == time_written, f"{name} was written again"
    workspace, whole = latentscale.open(out), latentscale.open(uninterrupted)
    assert verify_workspace(workspace.store).faults == []
    map_, reference = workspace.current, whole.current
    assert map_ is not None
    assert reference is not None
    points, expected = map_.points().collect(), reference.points().collect()
    assert points["row_id"].to_list() == expected["row_id"].to_list()
    assert points["package"].to_list() == expected["package"].to_list()
    assert points.equals(expected), "an exact map is the same to the bit"
    assert len(points) + len(workspace.rejects()) == 1_502
    assert workspace.runs[-1]["status"] == "done"


def kill_and_go_on(corpus: Path, out: Path, uninterrupted: tuple[Path, float], *, kills: int, seed: int) -> None:
    whole, seconds = uninterrupted
    choose = random.Random(seed)
    before: dict[str, tuple[bytes, int]] = {}
    for _ in range(kills):
        process = subprocess.Popen(command(corpus, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(choose.uniform(0.1, seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
        check_what_is_visible(out)
        for name, (_, time_written) in before.items():
            assert (out / name).stat().st_mtime_ns == time_written, f"{name} was written again"
        before = shards(out)
    subprocess.run(command(corpus, out), check=True, capture_output=True)
    check_whole(out, whole, before)


@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    tmp_path: Path, corpus: Path, uninterrupted: tuple[Path, float], seed: int
) -> None:
    kill_and_go_on(corpus, tmp_path / "map", uninterrupted, kills=3 + (seed == 0), seed=seed)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("seed", range(100, 110))
def test_thirty_more_kills(tmp_path: Path, corpus: Path, uninterrupted: tuple[Path, float], seed: int) -> None:
    kill_and_go_on(corpus, tmp_path / "map", uninterrupted, kills=3, seed=seed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, corpus: Path, number: signal.Signals) -> None:
    out = tmp_path / "map"
    process = subprocess.Popen(command(corpus, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob("documents/*/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "to go on" in said
    assert f"latentscale run {corpus} --out {out}" in said
    assert "Traceback" not in said
    assert latentscale.open(out).runs[-1]["status"] == "interrupted"


def test_two_runs_at_once_end_in_one_whole_map(tmp_path: Path, corpus: Path, uninterrupted: tuple[Path, float]) -> None:
    out = tmp_path / "map"
    both = [subprocess.Popen(command(corpus, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    check_whole(out, uninterrupted[0], {})
