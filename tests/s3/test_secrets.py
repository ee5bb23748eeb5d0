"""Keys are where they must be, in the environment, and nowhere else: canaries are looked for everywhere."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from latentscale.storage.objects import Store

from .conftest import within

KEY, SECRET, TOKEN = "CANARYKEYabc123", "canarySECRETdef/456+x", "canaryTOKENghi789=="
OPTIONS = ["--set", "project.n_epochs=20", "--set", "cluster.min_cluster_size=8", "--set", "ingest.shard_rows=200"]


SOURCES = [
    pytest.param("chain", marks=pytest.mark.slow),
    "named variables",
    pytest.param("files", marks=pytest.mark.slow),
]


@pytest.fixture(params=SOURCES)
def reach(
    request: pytest.FixtureRequest, mock_bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> tuple[Any, list[str], dict[str, Any]]:
    """A bucket of the mock, which takes any key; the options and settings that lead to it; canaries for keys."""
    settings: dict[str, Any] = dict(mock_bucket.storage)
    names = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    if request.param != "chain":
        for name in names:
            monkeypatch.delenv(name, raising=False)
        names = {"MY_KEY": KEY, "MY_SECRET": SECRET, "MY_TOKEN": TOKEN}
        settings |= {"key_variable": "MY_KEY", "secret_variable": "MY_SECRET", "token_variable": "MY_TOKEN"}
    for name, value in names.items():
        if request.param == "files":
            (tmp_path / name).write_text(value)
            monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
        else:
            monkeypatch.setenv(name, value)
    options = [word for name, value in settings.items() for word in ("--storage", f"{name}={value}")]
    return mock_bucket, options, settings


def canaries(data: bytes) -> list[str]:
    return [name for name in (KEY, SECRET, TOKEN) if name.encode() in data]


class Watcher:
    """Reads the command lines of all processes again and again.

    Parameters
    ----------
    word : str
        Of the command that is meant: ``looks`` counts how often it was met.
    """

    def __init__(self, word: str) -> None:
        self.word = word.encode()
        self.seen: set[str] = set()
        self.looks = 0

    def __enter__(self) -> Watcher:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                self.looks += self.word in line
                self.seen.update(canaries(line))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def latentscale(*words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "latentscale", "--debug", *words]
    return subprocess.run(command, capture_output=True, timeout=300, env=os.environ, check=False)


def nowhere(bucket: Any, settings: dict[str, Any], *ended: subprocess.CompletedProcess[bytes]) -> None:
    """No canary in what was printed or written."""
    for one in ended:
        assert canaries(one.stdout + one.stderr) == []
    written = Store(bucket.url(""), storage=settings)
    names = list(written.list())
    assert any(name.endswith("run.json") for name in names)
    for name in names:
        assert canaries(written.read_bytes(name)) == [], name


def test_keys_appear_nowhere_in_a_run_and_in_commands_that_fail(
    reach: tuple[Any, list[str], dict[str, Any]],
    small_corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bucket, options, settings = reach
    with Watcher(bucket.url("map")) as watcher:
        command = ["run", str(small_corpus), "--text", "text", "--out", bucket.url("map"), *OPTIONS, *options]
        bucket.proxy.rate, bucket.proxy.faults = 0.05, ("slow-down", "reset")
        done = latentscale(*command)
        bucket.proxy.recover()
        assert done.returncode == 0, done.stderr.decode()
    # How often depends on the machine.
    assert watcher.looks > 0
    assert watcher.seen == set()
    nowhere(bucket, settings, done)

    monkeypatch.setenv("LATENTSCALE_DEBUG", "1")
    capfd.readouterr()
    bucket.proxy.outage(600)
    assert within("status", bucket.url("map"), *options, "--storage", "first_budget=1") == 4
    bucket.proxy.recover()
    bucket.proxy.answers += [(403, "SignatureDoesNotMatch", "The signature does not match.")] * 2
    assert within("status", bucket.url("map"), *options, "--storage", "first_budget=30") == 2
    assert within("status", "s3://no-such-bucket-here/x", *options) == 2
    assert within("show", bucket.url("map"), "map-nothing", *options) == 2
    said = "".join(capfd.readouterr())
    assert said.count("Traceback") >= 4
    assert canaries(said.encode()) == []


def test_a_store_that_shows_itself_shows_no_key(reach: tuple[Any, list[str], dict[str, Any]]) -> None:
    bucket, _, settings = reach
    store = Store(bucket.url("map"), storage=settings)
    store.check()
    shown = f"{store!r} {store.storage!r} {store._remote!r} {vars(store)!r}"
    assert canaries(shown.encode() + repr(store.__reduce__()).encode()) == []
    with pytest.raises(TypeError, match="does not travel"):
        copy.copy(store._remote)


def test_a_presigned_corpus_leaves_no_signature(
    mock_bucket: Any,
    small_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with small_corpus.open("rb") as body:
        mock_bucket.client.put_object(Bucket=mock_bucket.name, Key="raw/packages.parquet", Body=body.read())
    wanted = {"Bucket": mock_bucket.name, "Key": "raw/packages.parquet"}
    # For GET and for HEAD alike, as stores with a public address are.
    signed = mock_bucket.client.generate_presigned_url("get_object", Params=wanted)
    signature = re.search(r"Signature=([^&]+)", signed)[1]  # type: ignore[index]
    out = tmp_path / "map"
    monkeypatch.setenv("LATENTSCALE_DEBUG", "1")
    ended: list[tuple[int, str]] = []
    for command in (
        ["run", signed, "--text", "text", "--out", str(out), *OPTIONS],
        ["update", str(out)],
        ["run", signed.replace("packages", "nothing"), "--out", str(tmp_path / "other")],
    ):
        code = within("--debug", *command)
        ended.append((code, "".join(capfd.readouterr())))
    done, again, gone = ended
    assert done[0] == 0, done[1]
    assert again[0] == 2
    assert "without its signature" in again[1]
    assert gone[0] in (2, 4)
    for _, said in ended:
        assert said
        assert signature not in said
    files = [path for path in out.rglob("*") if path.is_file()]
    assert [path.name for path in files if signature.encode() in path.read_bytes()] == []
    frame = pl.concat([pl.read_parquet(path, columns=["source"]) for path in (out / "documents").rglob("*.parquet")])
    assert frame["source"].unique().to_list() == ["packages.parquet"]


@pytest.mark.slow
@pytest.mark.ray
def test_keys_appear_nowhere_in_a_run_on_ray(
    mock_bucket: Any, monkeypatch: pytest.MonkeyPatch, small_corpus: Path
) -> None:
    for name, value in {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    # Names of sockets may not be long.
    with tempfile.TemporaryDirectory(prefix="ls-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        with Watcher(mock_bucket.url("map")) as watcher:
            command = ["run", str(small_corpus), "--text", "text", "--out", mock_bucket.url("map"), *OPTIONS]
            done = latentscale(*command, *mock_bucket.options(), "--engine", "ray", "--set", "engine.workers=2")
            assert done.returncode == 0, done.stderr.decode()
        assert watcher.seen == set()
        nowhere(mock_bucket, mock_bucket.storage, done)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        assert any(path.name.startswith("worker") for path in files)
        for path in files:
            assert canaries(path.read_bytes()) == [], path
