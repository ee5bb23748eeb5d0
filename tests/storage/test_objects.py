from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from latentscale.errors import StorageError, WorkspaceError
from latentscale.storage.objects import TEMPORARY_PREFIX, Store


@pytest.fixture(params=["path", "file://", "memory://"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory://":
        return Store(f"memory://{tmp_path.name}-{os.getpid()}")
    return Store(("file://" if request.param == "file://" else "") + str(tmp_path / "store"))


def test_written_objects_are_listed_and_read(store: Store) -> None:
    store.put_bytes("a/one.bin", b"one")
    store.put_bytes("b/two.bin", b"second")
    assert {name: info.size for name, info in store.list().items()} == {"a/one.bin": 3, "b/two.bin": 6}
    assert list(store.list("a")) == ["a/one.bin"]
    assert store.read_bytes("b/two.bin") == b"second"
    assert store.exists("a/one.bin")
    assert not store.exists("a/none.bin")
    assert store.list("nowhere") == {}


def test_an_object_is_replaced_in_one_piece(store: Store) -> None:
    store.put_bytes("HEAD.json", b"old")
    store.put_bytes("HEAD.json", b"new and longer")
    assert store.read_bytes("HEAD.json") == b"new and longer"


def test_a_file_is_written_without_loading_it(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(5 << 20))
    store.put_file("copied.bin", source)
    assert store.read_bytes("copied.bin") == source.read_bytes()


def test_deleting_twice_is_no_error(store: Store) -> None:
    store.put_bytes("x", b"x")
    store.delete(["x"])
    store.delete(["x"])
    assert not store.exists("x")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a\\b", "x\0y", ".."])
def test_a_name_that_would_leave_the_store_is_refused(store: Store, name: str) -> None:
    with pytest.raises(WorkspaceError, match="would leave"):
        store.put_bytes(name, b"")


def test_unfinished_objects_are_never_listed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}abc").write_bytes(b"half")
    assert Store(str(tmp_path)).list() == {}


def test_a_writer_killed_in_the_middle_leaves_no_object(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        from pathlib import Path
        from latentscale.storage.objects import Store
        store = Store({str(tmp_path)!r})
        source = Path({str(tmp_path / "source")!r})
        print("ready", flush=True)
        while True:
            store.put_file("out/object", source)
            store.delete(["out/object"])
    """)
    (tmp_path / "source").write_bytes(b"x" * (8 << 20))
    for delay in (0.01, 0.05, 0.09):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        process.wait()
        process.stdout.close()
        info = Store(str(tmp_path)).info("out/object")
        assert info is None or info.size == 8 << 20


def test_a_path_without_permission_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # Root may write anywhere; a file in the way of a folder is refused to root too.
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(WorkspaceError, match="a file exists where a folder is needed"):
            Store(str(tmp_path / "file")).put_bytes("x", b"")
        return
    tmp_path.chmod(0o500)
    with pytest.raises(WorkspaceError, match="permission denied"):
        Store(str(tmp_path)).put_bytes("x", b"")


def test_a_full_disk_is_named_and_resumable() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    from latentscale.storage.objects import explain_os_error

    with pytest.raises(OSError, match="No space") as caught, Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")
    error = explain_os_error(caught.value, "write", "x.parquet")
    assert isinstance(error, StorageError)
    assert error.exit_code == 4
    assert "disk is full" in str(error)
    assert "run the same command again" in str(error)
