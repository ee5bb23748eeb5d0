"""The operations of a store, on a real server and a mock, with and without faults on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from latentscale.errors import MissingObjectError, StorageError, WorkspaceError
from latentscale.storage.objects import TEMPORARY_PREFIX, Store
from latentscale.storage.parquet import open_parquet, read_footer, read_parquet, write_parquet
from latentscale.storage.remote.retries import Deadline

from .conftest import fast_on, hurried

MEBIBYTE = 1 << 20
SMALL_PARTS = {"multipart_threshold": 5 * MEBIBYTE, "part_size": 5 * MEBIBYTE}
EVERY_FAULT = (
    "unavailable",
    "slow-down",
    "too-many",
    "internal",
    "refused",
    "lost",
    "reset",
    "truncated",
    "short",
)


def test_written_objects_are_listed_read_and_deleted(bucket: Any) -> None:
    store = bucket.store()
    store.put_bytes("a/one.json", b"{}")
    store.put_bytes("b/two words ä.bin", b"second")
    store.put_bytes("b/empty", b"")
    listed = store.list()
    assert {name: info.size for name, info in listed.items()} == {"a/one.json": 2, "b/two words ä.bin": 6, "b/empty": 0}
    assert list(listed) == sorted(listed)
    assert list(store.list("a")) == ["a/one.json"]
    assert store.read_bytes("b/two words ä.bin") == b"second"
    assert store.read_bytes("b/empty") == b""
    info = store.info("a/one.json")
    assert info is not None
    assert info.version == listed["a/one.json"].version
    assert abs(store.clock() - time.time()) < 60
    store.delete(["a/one.json", "a/one.json", "never"])
    assert not store.exists("a/one.json")
    assert store.list("nowhere") == {}


def test_another_writer_is_never_hidden(bucket: Any) -> None:
    mine, other = bucket.store(), Store(bucket.url("ws"), storage=bucket.direct)
    assert mine.list() == {}
    assert mine.info("x") is None
    other.put_bytes("x", b"1")
    assert list(mine.list()) == ["x"]
    other.put_bytes("x", b"22")
    assert mine.list()["x"].size == 2
    assert mine.read_bytes("x") == b"22"
    other.delete(["x"])
    assert mine.list() == {}
    assert mine.info("x") is None


@fast_on("swift")
def test_a_large_object_goes_and_comes_in_parts(bucket: Any, tmp_path: Path) -> None:
    store = bucket.store(**SMALL_PARTS)
    data = os.urandom(11 * MEBIBYTE + 17)
    (tmp_path / "large").write_bytes(data)
    put = store.put_file("large", tmp_path / "large")
    assert put.version.endswith("-3")
    assert store.read_bytes("large") == data
    store.put_bytes("again", memoryview(data))
    assert store.list()["again"].size == len(data)
    with store.open("again") as file:
        assert file.seek(-100, os.SEEK_END) == len(data) - 100
        assert file.read() == data[-100:]
        file.seek(3)
        assert file.read(6 * MEBIBYTE) == data[3 : 3 + 6 * MEBIBYTE]
        assert file.read(10) == data[3 + 6 * MEBIBYTE :][:10]
        file.seek(0)
        pieces = [file.read(100_000) for _ in range(120)]
    assert b"".join(pieces) == data
    assert store.unfinished() == []


@fast_on("swift")
def test_a_parquet_footer_costs_one_request_and_so_does_a_small_object(bucket: Any) -> None:
    store = bucket.store()
    table = pa.table({"x": range(300_000), "text": [f"text {n * 7919}" for n in range(300_000)]})
    write_parquet(store, "t.parquet", table, facts={"rows": 300_000})
    write_parquet(store, "small.parquet", table[:100], facts={})
    store.put_bytes("small.jsonl", b"one\ntwo\n")
    store.put_bytes("empty", b"")
    bucket.proxy.requests.clear()
    assert read_footer(store, "t.parquet").rows == 300_000
    assert read_parquet(store, "small.parquet").equals(table[:100])
    with store.open("small.jsonl") as file:
        assert file.readlines() == [b"one\n", b"two\n"]
    assert [request.split()[0] for request in bucket.proxy.requests] == ["GET"] * 3
    assert read_parquet(store, "t.parquet").equals(table)
    # There is no part of it to ask for.
    with store.open("empty") as file:
        assert file.read() == b""


def test_objects_have_content_type_and_cache_headers(bucket: Any) -> None:
    store = bucket.store()
    names = ["viewer/index.html", "viewer/manifest.json", "viewer/assets/index.Ab.js", "maps/map-1/viewer/t.parquet"]
    for name in names:
        store.put_bytes(name, b"x")
    heads = {name: bucket.client.head_object(Bucket=bucket.name, Key=f"ws/{name}") for name in names}
    assert [head["ContentType"].split(";")[0] for head in heads.values()] == [
        "text/html",
        "application/json",
        "text/javascript",
        "application/vnd.apache.parquet",
    ]
    if bucket.server.name != "swift" or all("CacheControl" in head for head in heads.values()):
        assert [head["CacheControl"].startswith("public") for head in heads.values()] == [False, False, True, True]


KINDS = {
    "PUT": r"^PUT [^?]*/small/",
    "the beginning of an upload": r"^POST .*uploads",
    "a part": r"^PUT .*partNumber=1",
    "the end of an upload": r"^POST .*uploadId=",
    "GET": r"^GET [^?]*/small/",
    "GET of a range": r"^GET [^?]*/large",
    "HEAD": r"^HEAD ",
    "a listing": r"^GET .*list-type",
    "DELETE": r"^DELETE [^?]*/small/",
}


@fast_on("swift")
@pytest.mark.parametrize("fault", EVERY_FAULT)
def test_each_fault_of_each_request_loses_nothing(bucket: Any, fault: str, tmp_path: Path) -> None:
    data = os.urandom(5 * MEBIBYTE + 100)
    (tmp_path / "large").write_bytes(data)
    store = bucket.store(**SMALL_PARTS)
    store.check()
    bucket.proxy.planned = [(kind, fault) for kind in KINDS.values()]
    store.put_file("large", tmp_path / "large")
    for number in range(3):
        store.put_bytes(f"small/{number}", bytes([number]) * 10)
    assert store.read_bytes("large") == data
    with store.open("large") as file:
        file.seek(1000)
        assert file.read(2 * MEBIBYTE) == data[1000 : 1000 + 2 * MEBIBYTE]
    looked_at = store.info("large")
    assert looked_at is not None
    assert looked_at.size == len(data)
    assert [store.read_bytes(f"small/{number}") for number in range(3)] == [bytes([n]) * 10 for n in range(3)]
    store.delete([f"small/{number}" for number in range(2)])
    assert list(store.list()) == ["large", "small/2"]
    assert bucket.proxy.planned == []
    # The id of an upload that was begun went with the answer; `gc` finds such uploads.
    store.discard(store.unfinished())
    assert store.unfinished() == []
    assert store.read_bytes("large") == data


@pytest.mark.parametrize("times", [1, 3])
def test_an_answer_lost_at_the_beginning_and_at_the_end_of_an_upload_is_no_loss(bucket: Any, times: int) -> None:
    store = bucket.store(**SMALL_PARTS)
    data = os.urandom(6 * MEBIBYTE)
    bucket.proxy.planned = [(r"POST .*uploads", "lost"), *[(r"POST .*uploadId=", "lost")] * times]
    store.put_bytes("large", data)
    assert bucket.proxy.planned == []
    assert [(name, info.size) for name, info in store.list().items()] == [("large", len(data))]
    assert store.read_bytes("large") == data


@fast_on("moto")
def test_a_failed_upload_is_aborted(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # After three tries: a budget of so few seconds would be that of giving up the upload too, which succeeds.
    next_wait = Deadline.next_wait

    def thrice(deadline: Deadline, error: BaseException) -> float | None:
        wait = next_wait(deadline, error)
        return wait if deadline.attempts < 3 else None

    monkeypatch.setattr(Deadline, "next_wait", thrice)
    store = bucket.store(**SMALL_PARTS)
    store.check()
    bucket.proxy.faults, bucket.proxy.rate, bucket.proxy.only = ("unavailable",), 1.0, ("PUT",)
    with pytest.raises(StorageError, match="ServiceUnavailable"):
        store.put_bytes("large", os.urandom(6 * MEBIBYTE))
    bucket.proxy.recover()
    assert store.unfinished() == []
    assert store.list() == {}


def test_an_interrupted_upload_is_found_and_discarded(bucket: Any) -> None:
    begun = bucket.client.create_multipart_upload(Bucket=bucket.name, Key="ws/half")
    store = bucket.store()
    (left,) = store.unfinished()
    assert (left.name, left.version) == ("half", f"upload:{begun['UploadId']}")
    store.discard([left])
    assert store.unfinished() == []


def test_an_outage_longer_than_the_budget_names_mock_bucket_key_and_failure(mock_bucket: Any) -> None:
    store = mock_bucket.store()
    store.put_bytes("before", b"x")
    mock_bucket.proxy.outage(600)
    began = time.monotonic()
    with hurried(store, 1.0), pytest.raises(StorageError) as caught:
        store.put_bytes("documents/0a/key.parquet", b"x")
    assert time.monotonic() - began < 120, "long before the store is back"
    assert caught.value.exit_code == 4
    assert f"s3://{mock_bucket.name}/ws/documents/0a/key.parquet" in str(caught.value)
    assert "tries" in str(caught.value)
    assert "run the same command" in str(caught.value)
    mock_bucket.proxy.recover()
    store.put_bytes("documents/0a/key.parquet", b"x")


def test_a_silent_store_times_out(mock_bucket: Any) -> None:
    store = mock_bucket.store()
    store.put_bytes("before", b"x")
    mock_bucket.proxy.outage(600, silent=True)
    began = time.monotonic()
    with hurried(store, 2.0), pytest.raises(StorageError, match="no answer in time"):
        store.read_bytes("before")
    assert time.monotonic() - began < 120, "long before the store is back"
    mock_bucket.proxy.recover()


def test_a_short_outage_is_waited_for(mock_bucket: Any) -> None:
    store = mock_bucket.store()
    store.put_bytes("before", b"x")
    mock_bucket.proxy.outage(600)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(store.put_bytes, "after", b"y")
        while mock_bucket.proxy.happened["outage"] < 3 and not written.done():
            time.sleep(0.01)
        assert not written.done()
        mock_bucket.proxy.recover()
        written.result()
    assert sorted(store.list()) == ["after", "before"]


@fast_on("moto")
def test_large_listings_in_parts_are_complete(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentscale.storage.remote.s3_listing.PAGE", 20)
    store, direct = bucket.store(), Store(bucket.url("ws"), storage=bucket.direct)
    # Many pages: in 40 folders, in one of them, and in none.
    names = [f"documents/{n % 40:02x}/{n:05d}.parquet" for n in range(150)]
    names += [f"documents/07/more-{n:05d}" for n in range(50)]
    names += [f"flat/{n:05d}" for n in range(50)]
    names += ["HEAD.json", "documents/zz", "documents/!first"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: direct.put_bytes(name, b"x"), names))
    # So that requests meet each other on a slow machine too: the first one within the folder waits for a second.
    bucket.proxy.at.append((r"start-after", lambda: setattr(bucket.proxy, "together", 2)))
    assert list(store.list()) == sorted(names)
    assert len(bucket.proxy.requests) < 60
    assert bucket.proxy.most_at_once > 1
    assert list(store.list("flat")) == sorted(name for name in names if name.startswith("flat/"))
    bucket.proxy.faults, bucket.proxy.rate = EVERY_FAULT, 0.2
    assert list(store.list("documents")) == sorted(name for name in names if name.startswith("documents/"))


@fast_on("swift")
def test_a_store_travels_without_keys_and_works_in_threads_forks_and_fresh_processes(bucket: Any) -> None:
    store = bucket.store()
    store.put_bytes("x", b"parent")
    reopen, arguments = store.__reduce__()
    carried = json.dumps(arguments)
    assert bucket.server.secret not in carried
    assert bucket.server.key not in carried
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: store.read_bytes("x"), range(32))) == {b"parent"}
    script = textwrap.dedent(f"""
        import json, os, threading
        from {reopen.__module__} import {reopen.__name__}
        store = {reopen.__name__}(*json.loads({carried!r}))
        assert store.read_bytes("x") == b"parent"
        child = os.fork()
        if child == 0:
            store.put_bytes("from-the-fork", b"y")
            os._exit(0 if store.read_bytes("x") == b"parent" else 1)
        assert os.waitpid(child, 0)[1] == 0
        threads = [threading.Thread(target=store.put_bytes, args=(f"t/{{n}}", b"z")) for n in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(len(store.list("t")))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "8\n", done.stderr
    assert store.exists("from-the-fork")


@fast_on("swift")
def test_a_writer_that_is_killed_leaves_no_object(bucket: Any, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(12 * MEBIBYTE))
    # A fork for each writer, as what it imports takes much longer than what it writes.
    script = textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        from latentscale.storage.objects import Store
        store = Store({bucket.url("ws")!r}, storage={bucket.direct | SMALL_PARTS!r})
        store.check()
        for _ in sys.stdin:
            writer = os.fork()
            if writer == 0:
                store.check()
                print(os.getpid(), flush=True)
                store.put_file("killed", Path({str(tmp_path / "source")!r}))
                os._exit(0)
            print(os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]), flush=True)
    """)
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    ended: list[int] = []
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for delay in (0.0, 0.05, 0.12):
            process.stdin.write("\n")
            writer = int(process.stdout.readline())
            time.sleep(delay)
            with contextlib.suppress(ProcessLookupError):
                os.kill(writer, signal.SIGKILL)
            ended.append(int(process.stdout.readline()))
            info = bucket.store().info("killed")
            assert info is None or info.size == 12 * MEBIBYTE
        process.stdin.close()
    assert ended[0] == -signal.SIGKILL
    assert set(ended) <= {-signal.SIGKILL, 0}


@fast_on("swift")
def test_two_writers_of_one_name_leave_one_complete_object(bucket: Any) -> None:
    contents = [bytes([n]) * (6 * MEBIBYTE) for n in range(4)]
    store = bucket.store(**SMALL_PARTS)
    threads = [threading.Thread(target=store.put_bytes, args=("x", content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read_bytes("x") in contents


@fast_on("swift")
def test_an_object_that_is_written_again_while_it_is_read_is_not_mixed(bucket: Any) -> None:
    store = bucket.store()
    store.put_bytes("x", b"a" * MEBIBYTE)
    with store.open("x") as file:
        assert file.read(10) == b"a" * 10
        store.put_bytes("x", b"b" * MEBIBYTE)
        file.seek(MEBIBYTE - 10)
        with pytest.raises(StorageError, match="overwritten while it was read"):
            file.read(10)


@fast_on("swift")
def test_an_object_that_is_missing_for_a_moment_is_read(bucket: Any) -> None:
    """As in Swift, where there is none while another process replaces it."""
    store = bucket.store()
    store.put_bytes("x", b"a" * MEBIBYTE)
    with store.open("x") as file:
        bucket.proxy.answers.append((404, "NoSuchKey", "The specified key does not exist."))
        assert file.read() == b"a" * MEBIBYTE


@fast_on("swift")
def test_a_table_that_is_deleted_while_it_is_read_is_missing_and_not_damaged(bucket: Any) -> None:
    store = bucket.store()
    # Larger than what the first request brings, so that its pages are asked for after the footer.
    noise = np.random.default_rng(0).integers(0, 1 << 60, 100_000)
    write_parquet(store, "x.parquet", pa.table({"n": noise}), facts={})

    def read_what_another_deletes() -> None:
        with open_parquet(store, "x.parquet") as file:
            store.delete(["x.parquet"])
            file.read()

    with pytest.raises(MissingObjectError, match="no such object"):
        read_what_another_deletes()


def test_a_missing_object_is_named_with_its_url(bucket: Any) -> None:
    with pytest.raises(WorkspaceError, match=f"s3://{bucket.name}/ws/x: there is no such object"):
        bucket.store().read_bytes("x")
    with pytest.raises(WorkspaceError, match="there is no such object"):
        bucket.store().open("x")


def test_a_probe_leaves_nothing_behind(bucket: Any) -> None:
    bucket.store().check(write=True)
    left = bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents", [])
    assert [entry["Key"] for entry in left] == []
    assert TEMPORARY_PREFIX.startswith(".")
