"""A lease says who works on a workspace; it ends with its run, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from latentscale.storage import lease
from latentscale.storage.lease import await_others, hold_lease, lease_name, read_leases
from latentscale.storage.objects import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def test_a_second_run_is_told_of_the_first_and_not_the_other_way_round(store: Store) -> None:
    with hold_lease(store, "1", "run") as others:
        assert others == ()
        with hold_lease(store, "2", "update") as others:
            assert [(held.run, held.purpose) for held in others] == [("1", "run")]
            assert "run 1 on " in str(others[0])
            assert "since 20" in str(others[0])
        assert [held.run for held in read_leases(store)] == ["1"]
    assert store.list() == {}


def test_a_lease_is_renewed_and_one_that_is_not_ends_by_the_clock_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(store.path(lease_name("1")))
    with hold_lease(store, "1", "run", renewed_every=0.05):
        long_ago = path.stat().st_mtime - 1_000
        os.utime(path, (long_ago, long_ago))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == long_ago and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [held.run for held in read_leases(store)] == ["1"]
    with hold_lease(store, "1", "run"):
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
        "with hold_lease(Store(sys.argv[1]), '1', 'run'):\n    print('held', flush=True); time.sleep(60)"
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
    with hold_lease(store, "1", "run"):
        monkeypatch.setattr(lease, "_machine", lambda: "another")
        assert [held.run for held in read_leases(store)] == ["1"]


def test_an_update_waits_for_an_earlier_one_and_then_goes_on(store: Store) -> None:
    said: list[str] = []
    ended = threading.Event()
    with hold_lease(store, "1", "update"), hold_lease(store, "2", "update") as others:

        def wait() -> None:
            await_others(store, "2", others, purposes=["update"], say=said.append, every=0.02)
            ended.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert not ended.wait(0.2)
        store.delete([lease_name("1")])
        assert ended.wait(10)
        thread.join()
        assert len(said) == 1
        assert said[0].startswith("waiting for update 1 on ")


def test_of_two_that_begin_at_once_one_goes_first(store: Store) -> None:
    with hold_lease(store, "1", "update"), hold_lease(store, "2", "update"):
        others = read_leases(store)
        said: list[str] = []
        assert await_others(store, "1", others, purposes=["update"], say=said.append, every=0.01)
        assert said == []
        assert not await_others(store, "2", others, purposes=["update"], say=said.append, at_most=0.1, every=0.01), (
            "and nobody waits for ever"
        )
        assert said[-1].startswith("going on after")


def test_only_the_purposes_that_matter_are_waited_for(store: Store) -> None:
    with hold_lease(store, "1", "run"):
        assert await_others(store, "2", read_leases(store), purposes=["update", "gc"], say=lambda text: None)
    # A collection stops when it sees a run; a run waits for that whoever came first.
    with hold_lease(store, "3", "gc"):
        assert not await_others(
            store, "2", read_leases(store), purposes=["gc"], say=lambda text: None, at_most=0.05, every=0.01
        )


def test_a_store_that_cannot_be_written_is_not_the_business_of_a_lease(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with hold_lease(Store(str(tmp_path / "file")), "1", "run") as others:
        assert others == ()
