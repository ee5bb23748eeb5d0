"""Whatever kills parts of a Ray cluster: every row exactly once, and only the shards in hand are done again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale.upkeep.verify import verify_workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]

DOCUMENTS = 40_000
SHARD_ROWS = 2_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """Forty thousand different documents in twenty files of two formats: twenty units of ingest."""
    folder = tmp_path_factory.mktemp("many") / "corpus"
    folder.mkdir()
    texts = demo["text"].to_list()
    rows = [
        {"number": i, "text": f"{texts[i % len(texts)]} {i} {texts[(7 * i + 1) % len(texts)]}"}
        for i in range(DOCUMENTS)
    ]
    for i, part in enumerate(pl.DataFrame(rows).iter_slices(SHARD_ROWS)):
        if i % 2:
            part.write_ndjson(folder / f"part-{i:02}.jsonl")
        else:
            part.write_parquet(folder / f"part-{i:02}.parquet")
    return folder


@pytest.fixture(scope="module")
def ingested(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace that one process makes, as far as ingest: tests of what is lost while vectors are made copy it."""
    out = tmp_path_factory.mktemp("ingested") / "map"
    latentscale.Workspace(out).run(job(many, out), until="ingest")
    return out


@pytest.fixture(scope="module")
def whole(many: Path, ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of documents and vectors that one process makes."""
    out = tmp_path_factory.mktemp("whole") / "map"
    shutil.copytree(ingested, out)
    latentscale.Workspace(out).run(job(many, out), until="embed")
    return shards(out)


def job(corpus: Path, out: Path) -> dict[str, Any]:
    return {
        "corpus": {"sources": str(corpus), "text": "text", "id": "number"},
        "out": str(out),
        "ingest": {"shard_rows": SHARD_ROWS},
    }


def shards(out: Path) -> dict[str, bytes]:
    """Shards of documents and vectors, and no half-written file that a reader would take for one."""
    found = [*out.glob("documents/*/*.parquet"), *out.glob("embeddings/*/*/*.parquet")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in found if not path.name.startswith(".")}


def tries(out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(key, content) of all tries that have begun and not ended."""
    for path in list(out.glob("attempts/*/*/*")):
        if not path.name.startswith("."):
            with suppress(FileNotFoundError, json.JSONDecodeError):
                yield path.parent.name, json.loads(path.read_text())


def ingest(cluster: Any, corpus: Path, out: Path) -> subprocess.Popen[str]:
    settings = ["--text", "text", "--id", "number", "--set", f"ingest.shard_rows={SHARD_ROWS}"]
    return cluster.latentscale("ingest", corpus, "--out", out, *settings)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said, wrong = process.communicate(timeout=240)
    assert process.returncode == code, said + wrong
    return said + wrong


def embed_until(
    happened: Callable[[Path], bool], cluster: Any, ingested: Path, folder: Path
) -> tuple[Path, subprocess.Popen[str]]:
    """Start `embed` and return its workspace and process as soon as ``happened``.

    On a busy machine a node's worker may start when those of the others have done all shards: another run is started
    then.
    """
    for number in range(10):
        out = Path(shutil.copytree(ingested, folder / f"map{number}"))
        process = cluster.latentscale("embed", out)
        while process.poll() is None:
            if happened(out):
                return out, process
            time.sleep(0.02)
        finish(process)
    raise AssertionError("nothing was embedded on the node in ten runs")


def check_whole(out: Path, whole: dict[str, bytes]) -> None:
    made = shards(out)
    assert sorted(made) == sorted(whole)
    assert [name for name, data in made.items() if data != whole[name]] == []
    workspace = latentscale.open(out)
    assert verify_workspace(workspace.store).faults == []
    numbers = pl.concat([pl.read_parquet(out / name, columns=["number"]) for name in made if "documents" in name])
    assert numbers["number"].sort().to_list() == list(range(DOCUMENTS))


def kill_one(out: Path, seen: set[int]) -> bool:
    """Kill the worker of a running attempt, as the kernel kills one that takes too much memory."""
    for _, one in tries(out):
        if one["pid"] not in seen:
            seen.add(one["pid"])
            with suppress(ProcessLookupError):
                os.kill(one["pid"], signal.SIGKILL)
                return True
    return False


def is_writing(out: Path) -> bool:
    return any(out.glob("documents/*/.unfinished-*")) or any(out.glob("embeddings/*/*/.unfinished-*"))


def killed_while_writing(process: subprocess.Popen[str], out: Path, seen: set[int]) -> bool:
    """Kill a worker while a shard is being written; False if the run ended before one was seen to be."""
    while process.poll() is None:
        # A shard is written in a few milliseconds: there is no time to sleep.
        if is_writing(out) and kill_one(out, seen):
            return True
    return False


def test_workers_killed_while_they_read_embed_and_write(
    cluster: Any, ray_nodes: ModuleType, many: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    seen: set[int] = set()
    for number in range(20):
        out = tmp_path / f"map{number}"
        process = ingest(cluster, many, out)
        ray_nodes.until(partial(kill_one, out, seen), seconds=120, message="no worker was reading")
        caught = killed_while_writing(process, out, seen)
        finish(process)
        if caught:
            break
    assert caught, "a worker was killed while it wrote"
    process = cluster.latentscale("embed", out)
    ray_nodes.until(lambda: kill_one(out, seen), seconds=120, message="no worker was embedding")
    ray_nodes.until(
        lambda: any(out.glob("embeddings/*/*/*.parquet")) and kill_one(out, seen), seconds=120, message="no second one"
    )
    finish(process)
    hosts = latentscale.open(out).runs[-1]["facts"]["engine"]["hosts"]["embed"]
    assert set(hosts) == {node.host for node in cluster.nodes}, "each node had its part"
    assert sum(hosts.values()) == len(whole) // 2
    assert seen, "workers were killed"
    assert list(tries(out)) == [], "nothing is left of the tries of shards that came through"
    check_whole(out, whole)


def test_a_lost_node_costs_only_the_shards_in_hand(
    cluster: Any, ingested: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    lost = cluster.nodes[1]

    def at_work(out: Path) -> bool:
        some = len(list(out.glob("embeddings/*/*/*.parquet"))) >= 4
        return some and any(one["host"] == lost.host for _, one in tries(out))

    out, process = embed_until(at_work, cluster, ingested, tmp_path)
    cluster.lose(lost)
    written = {path: path.stat().st_mtime_ns for path in out.glob("embeddings/*/*/*.parquet")}
    replacement = cluster.add(wait=False, resources=lost.resources)
    finish(process)
    cluster.wait_for(replacement)
    check_whole(out, whole)
    assert [path for path, time_written in written.items() if path.stat().st_mtime_ns != time_written] == []
    left = [one for _, one in tries(out)]
    assert 1 <= len(left) <= 3, "what was lost is the shards in hand"
    assert {one["host"] for one in left} == {lost.host}
    # On a busy machine the workers of the other nodes may start when the first has done all but the lost shards.
    hosts = latentscale.open(out).runs[-1]["facts"]["engine"]["hosts"]["embed"]
    assert sum(hosts.values()) == len(whole) // 2


def test_a_driver_killed_at_any_moment_leaves_nothing_broken(
    cluster: Any, ray_nodes: ModuleType, many: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "map"
    process = ingest(cluster, many, out)
    ray_nodes.until(
        lambda: len(list(out.glob("documents/*/*.parquet"))) >= 6, seconds=120, message="nothing was written"
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("documents/*/[!.]*.parquet")}
    finish(ingest(cluster, many, out))
    assert [path for path, time_written in before.items() if path.stat().st_mtime_ns != time_written] == []
    process = cluster.latentscale("embed", out)
    ray_nodes.until(lambda: any(out.glob("embeddings/*/*/*.parquet")), seconds=120, message="nothing was embedded")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finish(cluster.latentscale("embed", out))
    check_whole(out, whole)
    assert latentscale.open(out).runs[-1]["status"] == "done"


def test_a_run_that_is_asked_to_stop_says_how_to_go_on(
    cluster: Any, ray_nodes: ModuleType, many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "map"
    process = ingest(cluster, many, out)
    ray_nodes.until(lambda: any(tries(out)), seconds=120, message="nothing was read")
    process.send_signal(signal.SIGTERM)
    said = finish(process, 130)
    assert "to resume" in said
    assert "Traceback" not in said
    assert latentscale.open(out).runs[-1]["status"] == "interrupted"


def test_a_paused_node_that_wakes_after_its_shards_were_redone_changes_nothing(
    cluster: Any, ray_nodes: ModuleType, ingested: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    paused = cluster.nodes[1]

    def at_work(out: Path) -> bool:
        return any(one["host"] == paused.host for _, one in tries(out))

    def pause_at_work(out: Path) -> bool:
        if not at_work(out):
            return False
        paused.signal(signal.SIGSTOP)
        # It may have finished its shard in the moment before.
        if at_work(out):
            return True
        paused.signal(signal.SIGCONT)
        return False

    out, process = embed_until(pause_at_work, cluster, ingested, tmp_path)
    finish(process)
    check_whole(out, whole)
    written = {path: path.stat().st_mtime_ns for path in out.glob("embeddings/*/*/*.parquet")}
    paused.signal(signal.SIGCONT)
    # It learns that it is held for dead, and ends; until then it may write what is there already.
    ray_nodes.until(lambda: not paused.workers("ray::"), seconds=120, message="the paused workers live on")
    cluster.lose(paused)
    cluster.add(resources=paused.resources)
    check_whole(out, whole)
    assert sorted(written) == sorted(out.glob("embeddings/*/*/*.parquet"))


def test_shards_that_kill_their_workers_are_quarantined_and_the_map_is_made_of_the_rest(
    cluster: Any, corpus: Path, local: Path, tmp_path: Path
) -> None:
    out = tmp_path / "map"
    settings = ["--text", "body", "--id", "package", "--set", "ingest.shard_rows=64", "--set", "quality.sample=100"]

    def quarantined() -> list[tuple[str, int]]:
        # A first death may have had company: it is on record, and does not count.
        assert len({one["pid"] for _, one in tries(out) if one["alone"]}) % 3 == 0
        run = latentscale.open(out).runs[-1]
        assert run["status"] == "quarantined"
        return [(one["stage"], one["tries"]) for one in run["facts"]["quarantined"]]

    # A file whose reader dies: what can be read is read.
    with cluster.deadly("part-03.jsonl"):
        said = finish(cluster.latentscale("ingest", corpus, "--out", out, *settings), 3)
    assert "part-03.jsonl" in said
    assert "its worker died 3 times" in said
    assert quarantined() == [("ingest", 3)]
    assert len(list(out.glob("documents/*/[!.]*.parquet"))) == 22
    # Nothing kills it now. Then a shard whose embedding kills: the map is made of the others.
    finish(cluster.latentscale("ingest", corpus, "--out", out, *settings))
    assert len(list(out.glob("documents/*/[!.]*.parquet"))) == 24
    before = shards(out)
    deadly = next(path for path in sorted(out.glob("documents/*/*.parquet")) if pl.read_parquet(path).height == 64)
    with cluster.deadly(deadly.name):
        said = finish(cluster.latentscale("run", corpus, "--out", out, *settings), 3)
    assert deadly.stem in said
    assert quarantined() == [("embed", 3)]
    made = latentscale.open(out).current
    assert made is not None
    assert made.points().collect().height == 1_500 - 64
    assert verify_workspace(latentscale.open(out).store).faults == []
    # The same command makes the whole map, and retries only what was quarantined.
    written = {path: path.stat().st_mtime_ns for path in out.glob("embeddings/*/*/*.parquet")}
    assert len(written) == 23
    finish(cluster.latentscale("run", corpus, "--out", out, *settings))
    assert [path for path, time_written in written.items() if path.stat().st_mtime_ns != time_written] == []
    assert {name: data for name, data in shards(out).items() if name in before} == before
    whole, expected = latentscale.open(out).current, latentscale.open(local).current
    assert whole is not None
    assert expected is not None
    names, wanted = (made.points().collect()["package"].sort().to_list() for made in (whole, expected))
    assert names == wanted, "every document exactly once"
    assert latentscale.open(out).runs[-1]["status"] == "done"
