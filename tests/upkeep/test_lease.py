"""A lease names who works on a workspace; it ends with its run, however that ends."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import latentscale
from latentscale.errors import WorkspaceError
from latentscale.pipeline import run as running
from latentscale.pipeline import update as updating
from latentscale.storage import lease
from latentscale.storage.lease import Lease, hold_lease, lease_name, read_leases, warning_of
from latentscale.storage.objects import ObjectInfo, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_only_the_second_of_two_runs_is_warned(store: Store) -> None:
    with hold_lease(store, "1", "run") as first:
        assert first.others() == ()
        with hold_lease(store, "2", "update") as second:
            others = second.others()
            assert [(held.run, held.purpose) for held in others] == [("1", "run")]
            assert f"run 1 on {platform.node()} (process {os.getpid()}), since 20" in warning_of(others)
            assert "No row is lost or duplicated" in warning_of(others)
        assert [held.run for held in read_leases(store)] == ["1"]
    assert store.list() == {}


def test_a_lease_is_renewed_and_one_that_is_not_ends_by_the_clock_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(store.path(lease_name("1")))
    with hold_lease(store, "1", "run", renewed_every=0.05) as held:
        assert held.others() == ()
        long_ago = path.stat().st_mtime - 1_000
        os.utime(path, (long_ago, long_ago))
        deadline = time.monotonic() + 120
        while path.stat().st_mtime == long_ago and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [held.run for held in read_leases(store)] == ["1"]
    with hold_lease(store, "1", "run") as held:
        assert held.others() == ()
        os.utime(path, (long_ago, long_ago))
        assert read_leases(store) == ()
        # The machine's own clock does not count: to a store whose clock is as far behind, the lease is fresh.
        monkeypatch.setattr(Store, "clock", lambda store: long_ago + 5)
        assert [held.run for held in read_leases(store)] == ["1"]
        monkeypatch.setattr(Store, "clock", lambda store: long_ago - 1_000)
        assert read_leases(store) == (), "from a future that was a wrong clock"


def test_the_lease_of_a_process_that_was_killed_on_this_machine_ends_at_once(store: Store) -> None:
    script = (
        "import sys, time\nfrom latentscale.storage.lease import hold_lease\n"
        "from latentscale.storage.objects import Store\n"
        "with hold_lease(Store(sys.argv[1]), '1', 'run') as held:\n"
        "    held.others(); print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, store.url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert [held.run for held in read_leases(store)] == ["1"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert store.exists(lease_name("1"))
    assert read_leases(store) == ()


def test_a_run_of_another_machine_is_believed_until_its_lease_ends(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_lease(store, "1", "run") as held:
        assert held.others() == ()
        monkeypatch.setattr(lease, "_machine", lambda: "another")
        assert [held.run for held in read_leases(store)] == ["1"]


def test_a_store_that_cannot_be_written_is_not_the_business_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    said: list[object] = []
    store = Store(str(tmp_path / "file"))
    # Only who wants to delete asks, and gets the error.
    with hold_lease(store, "1", "run", notice=said.append) as held, pytest.raises(WorkspaceError):
        held.others()
    assert said == []


def test_an_unresponsive_store_does_not_delay_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    real = Store.put_bytes

    def put_bytes(store: Store, name: str, data: bytes) -> ObjectInfo:
        answer.wait(60)
        return real(store, name, data)

    monkeypatch.setattr(Store, "put_bytes", put_bytes)
    monkeypatch.setattr(lease, "END_TIMEOUT_SECONDS", 0.01)
    work: list[str] = []
    with hold_lease(store, "1", "run") as held:
        work.append("done")
    assert work == ["done"]
    assert store.list() == {}, "nothing was written yet"
    answer.set()
    held.others()
    held._thread.join(60)
    assert store.list() == {}, "what was written late is taken back"


def test_a_lease_costs_a_write_a_listing_and_a_deletion(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("put_bytes", "list", "delete", "read_bytes", "clock"):
        real = getattr(Store, name)
        monkeypatch.setattr(Store, name, lambda *a, real=real, name=name, **k: (calls.append(name), real(*a, **k))[1])
    with hold_lease(store, "1", "run") as held:
        held.others()
    assert calls == ["put_bytes", "list", "delete"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    path = tmp_path_factory.mktemp("lease") / "corpus.jsonl"
    demo.head(120).write_ndjson(path)
    return path


SETTINGS: dict[str, Any] = {"project": {"n_epochs": 20}, "cluster": {"min_cluster_size": 8}, "progress": "quiet"}


def notes(workspace: latentscale.Workspace) -> list[str]:
    run = workspace.runs[-1]["id"]
    events = [json.loads(line) for line in workspace.store.read_bytes(f"runs/{run}/events.jsonl").splitlines()]
    return [event["text"] for event in events if event["event"] == "note"]


@pytest.mark.parametrize("purpose", ["run", "gc"])
def test_run_and_update_warn_of_who_is_at_work_and_go_on(tmp_path: Path, corpus: Path, purpose: str) -> None:
    out = tmp_path / "map"
    latentscale.run(corpus, out=out, **SETTINGS)
    workspace = latentscale.open(out)
    assert not workspace.store.list(lease.FOLDER), "it was given back"
    assert not any("also at work" in note for note in notes(workspace))
    with hold_lease(workspace.store, "other", purpose) as held:
        assert held.others() == ()
        for work in (lambda: latentscale.run(corpus, out=out, **SETTINGS), workspace.update):
            work()
            said = [note for note in notes(workspace) if "also at work" in note]
            assert len(said) == 1
            assert f"{purpose} other on {platform.node()} (process {os.getpid()}), since 20" in said[0]
            assert ("A collection stops" in said[0]) == (purpose == "gc")


def test_run_and_update_hold_a_lease_while_they_work(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Lease, ...]] = []

    def looking(real: Any) -> Any:
        def look(context: Any, *arguments: Any, **options: Any) -> Any:
            deadline = time.monotonic() + 120  # it is written while the work continues
            while not read_leases(context.store) and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(read_leases(context.store))
            return real(context, *arguments, **options)

        return look

    for module in (running, updating):
        monkeypatch.setattr(module, "ingest_corpus", looking(module.ingest_corpus))
    out = tmp_path / "map"
    latentscale.run(corpus, out=out, **SETTINGS)
    latentscale.open(out).update()
    assert [[held.purpose for held in leases] for leases in seen] == [["run"], ["update"]]
    assert [leases[0].run for leases in seen] == [run["id"] for run in latentscale.open(out).runs]
    assert read_leases(Store(str(out))) == ()
