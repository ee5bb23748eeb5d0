"""Several processes at work on one workspace, one of them perhaps paused for a while: all end in one whole map."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import psutil
import pytest
from harness import (
    Child,
    Corpus,
    Place,
    Reference,
    beginning_of_update,
    check_end,
    check_so_far,
    finish,
    fork,
    run_command,
    running,
    update_command,
)

from latentscale.errors import EnvironmentFailure
from latentscale.storage.lease import lease_name, read_leases
from latentscale.upkeep.gc import delete_garbage

References = dict[str, Reference]
NewBucket = Callable[[], Place]


def beginning(command: str, place: Place, files: Path, corpus: Corpus, references: References) -> list[str]:
    if command == "update":
        beginning_of_update(references["run"], place, files, corpus)
        return update_command(place)
    corpus.put(corpus.before, files)
    return run_command(files, place)


def wait_for(*processes: Child) -> None:
    for process in processes:
        finish([], Place(""), process=process)


def two_at_once(command: str, place: Place, files: Path, corpus: Corpus, references: References) -> None:
    given = beginning(command, place, files, corpus, references)
    with running(given, place, 2) as processes:
        wait_for(*processes)
    check_end(place, references[command])


@pytest.mark.parametrize("command", ["run", "update"])
def test_two_at_once_change_nothing_twice(
    tmp_path: Path, grown_corpus: Corpus, references: References, command: str
) -> None:
    two_at_once(command, Place(str(tmp_path / "map")), tmp_path / "corpus", grown_corpus, references)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "update"])
def test_two_at_once_in_a_bucket_change_nothing_twice(
    tmp_path: Path, grown_corpus: Corpus, references: References, new_bucket: NewBucket, command: str
) -> None:
    two_at_once(command, new_bucket(), tmp_path / "corpus", grown_corpus, references)


@pytest.mark.slow
def test_a_run_and_a_concurrent_update_end_with_one_complete_map(
    tmp_path: Path, grown_corpus: Corpus, references: References
) -> None:
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    beginning_of_update(references["run"], place, files, grown_corpus)
    with running(run_command(files, place), place, 1) as full:
        # A run that begins when the update has ended is refused, as the map has grown.
        deadline = time.monotonic() + 300
        while not read_leases(place.store):
            assert full[0].poll() is None, full[0].said
            assert time.monotonic() < deadline, full[0].said
            time.sleep(0.01)
        with running(update_command(place), place, 1) as update:
            wait_for(*full, *update)
    check_end(place, references["update"], equal=False)


@contextmanager
def paused(command: list[str], place: Place, write: str) -> Iterator[Child]:
    """A process that stands still before the write that ``write`` names, until the block ends; then it ends well."""
    process = fork(command, place, crash=f"pause:{write}")
    try:
        stopped(process)
        yield process
        process.send_signal(signal.SIGCONT)
        wait_for(process)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def stopped(process: Child) -> None:
    """Wait until a process stands still."""
    deadline = time.monotonic() + 120
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.poll() is None, process.said
        assert time.monotonic() < deadline, process.said
        time.sleep(0.01)


def wakes_late(command: str, place: Place, files: Path, corpus: Corpus, references: References, write: str) -> None:
    given = beginning(command, place, files, corpus, references)
    with paused(given, place, write) as process:
        finish(given, place, process=fork(given, place))
        check_end(place, references[command])
        stood_before = process.said.splitlines()[-1]
        assert place.store.exists(stood_before), "another has done what this one was about to write"
    check_end(place, references[command])


@pytest.mark.parametrize(
    ("command", "write"),
    [("run", "^documents/:4"), ("run", "^embeddings/.*parquet:3"), ("update", "^embeddings/.*parquet:1")],
)
def test_a_process_that_wakes_after_its_shard_was_redone_changes_nothing(
    tmp_path: Path, grown_corpus: Corpus, references: References, command: str, write: str
) -> None:
    wakes_late(command, Place(str(tmp_path / "map")), tmp_path / "corpus", grown_corpus, references, write)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "write"),
    [
        *[("run", f"^{folder}:1") for folder in ("rejects", "snapshots", "neighbors", "projections", "clusters")],
        *[("run", f"^{name}:1") for name in ("labels", "maps/.*points", "maps/.*map.json", "HEAD.json", "viewer")],
        *[
            ("update", f"^{name}:1")
            for name in ("documents", "snapshots", "placements", "maps/.*map.json", "HEAD.json")
        ],
    ],
)
def test_a_process_that_wakes_after_all_was_done_changes_nothing(
    tmp_path: Path, grown_corpus: Corpus, references: References, command: str, write: str
) -> None:
    wakes_late(command, Place(str(tmp_path / "map")), tmp_path / "corpus", grown_corpus, references, write)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "write"), [("run", "^embeddings/.*parquet:3"), ("update", "^HEAD.json:1")])
def test_a_process_that_wakes_late_changes_nothing_in_a_bucket(
    tmp_path: Path, grown_corpus: Corpus, references: References, new_bucket: NewBucket, command: str, write: str
) -> None:
    wakes_late(command, new_bucket(), tmp_path / "corpus", grown_corpus, references, write)


def documents_of(place: Place) -> dict[int, str]:
    """Documents of the current map by row_id."""
    points = place.open().the_map().points().collect()
    assert points["row_id"].n_unique() == len(points)
    return dict(points.select("row_id", "package").iter_rows())


def test_an_overtaken_update_removes_no_newer_objects(
    tmp_path: Path, grown_corpus: Corpus, references: References, demo: pl.DataFrame
) -> None:
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    given = beginning("update", place, files, grown_corpus, references)
    packages = references["update"].packages.copy()
    with paused(given, place, "^maps/.*map.json:1"):
        demo.slice(600, 30).write_ndjson(files / "late.jsonl")
        packages.update(demo["package"][600:630].to_list())
        finish(given, place, process=fork(given, place))
        ahead = place.open().the_map().id
    workspace = place.open()
    assert workspace.the_map().id == ahead
    assert Counter(documents_of(place).values()) == packages
    check_so_far(place)
    page = workspace.store.read_bytes("viewer/manifest.json")
    assert ahead.encode() in page


def test_an_update_that_restores_its_own_map_loses_nothing_for_the_next(
    tmp_path: Path, grown_corpus: Corpus, references: References, demo: pl.DataFrame
) -> None:
    """It had looked at HEAD when it was paused: no store is trusted to compare and write in one step."""
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    given = beginning("update", place, files, grown_corpus, references)
    packages = references["update"].packages.copy()
    with paused(given, place, "^HEAD.json:1"):
        demo.slice(600, 30).write_ndjson(files / "late.jsonl")
        packages.update(demo["package"][600:630].to_list())
        finish(given, place, process=fork(given, place))
        overtaking = documents_of(place)
    check_so_far(place)
    assert Counter(documents_of(place).values()) == references["update"].packages
    finish(given, place, process=fork(given, place))
    found = documents_of(place)
    assert Counter(found.values()) == packages
    assert {row_id: found[row_id] for row_id in found.keys() & overtaking.keys()} == {
        row_id: overtaking[row_id] for row_id in found.keys() & overtaking.keys()
    }, "no row_id ever names two documents"
    kept = references["run"].row_ids
    assert all(row_id == kept.get(package, row_id) for row_id, package in found.items())
    check_so_far(place)


def test_a_run_rebuilds_leftovers_that_a_collection_deleted(
    tmp_path: Path, grown_corpus: Corpus, references: References
) -> None:
    """The lease keeps a collection away; where it does not, a run stops or continues, and the next one ends well."""
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    given = beginning("run", place, files, grown_corpus, references)
    # Others may be written while the fourth is: enough must be left for the next run.
    killed = fork(given, place, crash="after:^embeddings/:4")
    killed.communicate(timeout=300)
    process = fork(given, place, crash="pause:^embeddings/:2")
    stopped(process)
    with pytest.raises(EnvironmentFailure, match="is being worked on by run"):
        delete_garbage(place.store, grace=0)
    (lease,) = read_leases(place.store)
    place.store.delete([lease_name(lease.run)])
    found = delete_garbage(place.store, grace=0)
    assert sum(item.info.name.startswith("embeddings/") for item in found.garbage) >= 4
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=300)
    assert process.returncode in (2, 4), said
    assert "no such object" in said
    check_so_far(place)
    finish(given, place, process=fork(given, place))
    check_end(place, references["run"])
