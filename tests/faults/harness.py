"""Kill the real command line at any moment, resume with the same command, and compare with an uninterrupted run.

A child is a process of its own, as a person or a cluster would start it. After each kill the workspace must be without
a fault as far as it goes; at the end every row of the corpus is there exactly once and readable, and every shard and
every part of the map has the bytes that it has without a kill.
"""

from __future__ import annotations

import atexit
import functools
import gzip
import hashlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

import latentscale
from latentscale.storage.head import read_head
from latentscale.storage.objects import Store
from latentscale.storage.sealed import seal
from latentscale.upkeep.verify import verify_workspace

SETTINGS = (
    *("--set", "ingest.shard_rows=40", "--set", "project.n_epochs=60", "--set", "cluster.min_cluster_size=8"),
    *("--set", "engine.threads=1", "--progress", "quiet"),
)
# In the order in which a run or an update fills them.
ORDER = (
    *("documents", "snapshots", "embeddings", "neighbors", "projections", "clusters", "labels", "placements", "maps"),
)
SHARDS = ("documents", "rejects", "embeddings", "snapshots")
HERE = Path(__file__).parent


class Corpus:
    """Documents in three files of different formats, each with a row that cannot be used; and how they change.

    Attributes
    ----------
    before, after : Path
        Overnight one file is added, one is gone, one is renamed, and one is rewritten with most of its rows.
    """

    def __init__(self, folder: Path, demo: pl.DataFrame) -> None:
        self.before, self.after = folder / "before", folder / "after"
        self.before.mkdir()
        self.after.mkdir()
        self._jsonl(self.before / "a.jsonl", demo.slice(0, 240))
        with gzip.open(self.before / "b.csv.gz", "wb") as file:
            file.write(demo.slice(240, 130).write_csv().encode() + b"too,few\n")
        self._jsonl(self.before / "c.jsonl", demo.slice(370, 90))
        self._jsonl(self.before / "d.jsonl", demo.slice(460, 40))
        # a stays, b is renamed, c is rewritten without its first rows and with new ones, d goes, e comes.
        shutil.copy2(self.before / "a.jsonl", self.after / "a.jsonl")
        shutil.copy2(self.before / "b.csv.gz", self.after / "renamed.csv.gz")
        self._jsonl(self.after / "c.jsonl", demo.slice(380, 80).vstack(demo.slice(500, 20)))
        self._jsonl(self.after / "e.jsonl", demo.slice(520, 70))

    @staticmethod
    def _jsonl(path: Path, frame: pl.DataFrame) -> None:
        frame.write_ndjson(path)
        with path.open("a") as file:
            file.write("not json\n")

    def put(self, version: Path, folder: Path) -> None:
        """Make ``folder`` hold one version of the corpus, files that did not change with their times."""
        folder.mkdir(parents=True, exist_ok=True)
        wanted = {path.name for path in version.iterdir()}
        for path in folder.iterdir():
            if path.name not in wanted:
                path.unlink()
        for path in version.iterdir():
            target = folder / path.name
            if not target.exists() or target.read_bytes() != path.read_bytes():
                shutil.copy2(path, target)

    def packages(self, version: Path) -> Counter[str]:
        """The documents of one version by name: what a map of it must hold, each once."""
        held: list[pl.DataFrame] = []
        for path in version.iterdir():
            if path.suffix == ".gz":
                held.append(pl.read_csv(gzip.decompress(path.read_bytes()).rpartition(b"too,few")[0])[["package"]])
            else:
                held.append(pl.read_ndjson(path.read_text().removesuffix("not json\n").encode())[["package"]])
        return Counter(pl.concat(held)["package"].to_list())

    def rejects(self, version: Path) -> int:
        """Rows of one version that cannot be used."""
        return len(list(version.iterdir()))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a workspace is, and how to reach it.

    Attributes
    ----------
    url : str
        A folder or URL.
    storage : mapping of str to str
        Settings of its store.
    environment : mapping of str to str
        Variables, credentials among them, that children get; this process has them already.
    """

    url: str
    storage: Mapping[str, str] = field(default_factory=dict[str, str])
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def options(self) -> list[str]:
        return [part for key, value in self.storage.items() for part in ("--storage", f"{key}={value}")]

    def open(self) -> latentscale.Workspace:
        return latentscale.Workspace(self.url, storage=dict(self.storage) or None)

    @property
    def store(self) -> Store:
        return self.open().store


def run_command(corpus: Path, place: Place) -> list[str]:
    return ["run", str(corpus), "--out", place.url, *place.options, *SETTINGS]


def update_command(place: Place) -> list[str]:
    return ["update", place.url, *place.options, "--progress", "quiet"]


def environment_of(place: Place, more: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, **place.environment, **more}


def start(command: Sequence[str], place: Place) -> subprocess.Popen[str]:
    """Start a command as a person does."""
    return subprocess.Popen(
        [sys.executable, "-m", "latentscale", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment_of(place, {}),
    )


class Warm:
    """The process of ``warm.py``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="latentscale-faults-"))
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment_of(Place(""), {}),
        )
        assert self._ask(None) == "ready"

    def _ask(self, request: dict[str, object] | None) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            if request is not None:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
            return self._process.stdout.readline().strip()

    def fork(self, command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, Path]:
        output = self._folder / uuid.uuid4().hex
        request = {"arguments": list(command), "environment": dict(environment), "output": str(output)}
        return int(self._ask(request)), output

    def wait(self, pid: int) -> int:
        return int(self._ask({"wait": pid}))

    def close(self) -> None:
        self._process.communicate(timeout=60)
        shutil.rmtree(self._folder)


@functools.cache
def warm() -> Warm:
    """The one of this process."""
    one = Warm()
    atexit.register(one.close)
    return one


class Child:
    """A command in a fork of the warm process, with as much of the interface of ``Popen`` as is used."""

    def __init__(self, command: Sequence[str], place: Place, crash: str | None) -> None:
        environment = environment_of(place, {} if crash is None else {"CRASH": crash})
        self.pid, self._output = warm().fork(command, environment)
        self._descriptor = os.pidfd_open(self.pid)
        self.returncode: int | None = None

    @property
    def said(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        if self.returncode is None:
            # Readable when the process has ended; it keeps its number until it is waited for. Unlike select(), poll()
            # takes descriptors of any number: a process of many tests may have more than a thousand.
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            if not ended.poll(None if timeout is None else timeout * 1_000):
                raise subprocess.TimeoutExpired("latentscale", timeout or 0.0)
            self.returncode = warm().wait(self.pid)
            os.close(self._descriptor)
        return self.said, None

    def send_signal(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self._descriptor, number)

    def poll(self) -> int | None:
        try:
            self.communicate(timeout=0)
        except subprocess.TimeoutExpired:
            return None
        return self.returncode

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(command: Sequence[str], place: Place, *, crash: str | None = None) -> Child:
    """Start a command in a process that has imported everything; ``crash`` as in ``crash.py``."""
    return Child(command, place, crash)


def finish(command: Sequence[str], place: Place, *, code: int = 0, process: Child | None = None) -> str:
    """Run a command to its end."""
    one = process or start(command, place)
    said, _ = one.communicate(timeout=600)
    assert one.returncode == code, said
    return said


# ----------------------------------------------------------------------------------------------------------- contents


def contents(store: Store) -> dict[str, str]:
    """Digests of all shards and snapshots."""
    return {
        name: hashlib.sha256(store.read_bytes(name)).hexdigest()
        for folder in SHARDS
        for name in store.list(folder)
        if name.endswith(".parquet")
    }


def parts(workspace: latentscale.Workspace) -> dict[str, str]:
    """Digests of all parts of the current map, and of those that it shows of others."""
    current = workspace.current
    assert current is not None
    shown = {segment["map"] for segment in current.record.segments} | {current.id}
    return {f"{m.id}/{part.name}": part.sha256 for m in workspace.maps if m.id in shown for part in m.record.parts}


@dataclass(frozen=True, slots=True)
class Reference:
    """What an uninterrupted command leaves, and how long it takes."""

    head: str
    contents: dict[str, str]
    parts: dict[str, str]
    packages: Counter[str]
    rejects: int
    row_ids: dict[str, int]
    seconds: float
    workspace: Path


def read_reference(place: Place, corpus: Corpus, version: Path, seconds: float) -> Reference:
    workspace = place.open()
    current = workspace.current
    assert current is not None
    points = current.points().collect()
    return Reference(
        head=current.id,
        contents=contents(workspace.store),
        parts=parts(workspace),
        packages=corpus.packages(version),
        rejects=corpus.rejects(version),
        row_ids=dict(zip(points["package"].to_list(), points["row_id"].to_list(), strict=True)),
        seconds=seconds,
        workspace=Path(place.url),
    )


def references(folder: Path, corpus: Corpus) -> dict[str, Reference]:
    """Do `run`, then `update` on the changed corpus, without a fault; each as a person does, and timed in a fork."""
    files = folder / "corpus"
    found: dict[str, Reference] = {}
    # The last part of its path is the name of a workspace, and so in the title of its map.
    made = {name: Place(str(folder / name / "map")) for name in ("run", "update", "timed")}
    corpus.put(corpus.before, files)
    finish(run_command(files, made["run"]), made["run"])
    seconds = timed(run_command(files, made["timed"]), made["timed"])
    found["run"] = read_reference(made["run"], corpus, corpus.before, seconds)
    check_end(made["timed"], found["run"])
    shutil.copytree(made["run"].url, made["update"].url)
    corpus.put(corpus.after, files)
    finish(update_command(made["update"]), made["update"])
    seconds = timed(update_command(made["timed"]), made["timed"])
    found["update"] = read_reference(made["update"], corpus, corpus.after, seconds)
    check_end(made["timed"], found["update"])
    return found


def timed(command: Sequence[str], place: Place) -> float:
    """Seconds that a command takes in a fork."""
    warm()
    started = time.monotonic()
    finish(command, place, process=fork(command, place))
    return time.monotonic() - started


def check_so_far(place: Place) -> None:
    """Whatever is there is whole: nothing that a kill leaves looks like a result."""
    store = place.store
    if store.exists("workspace.json"):
        faults = verify_workspace(store).faults
        assert faults == [], [str(fault) for fault in faults]


def check_end(place: Place, reference: Reference, *, equal: bool = True) -> None:
    """Every row once and readable; where ``equal``, all bytes as they are without a fault."""
    workspace = place.open()
    check_so_far(place)
    current = workspace.current
    assert current is not None
    points = current.points().collect()
    assert points["row_id"].n_unique() == len(points)
    assert Counter(points["package"].to_list()) == reference.packages
    assert len(current.rejects()) == reference.rejects
    assert points["x"].is_finite().all()
    if equal:
        assert current.id == reference.head
        assert dict(zip(points["package"].to_list(), points["row_id"].to_list(), strict=True)) == reference.row_ids
        made = contents(workspace.store)
        assert {name: made.get(name) for name in reference.contents} == reference.contents
        assert parts(workspace) == reference.parts


# ------------------------------------------------------------------------------------------------------------- killing


@dataclass(slots=True)
class Episode:
    """One workspace from its beginning to its end, under kills.

    Attributes
    ----------
    kills : int
        Processes that were alive when they were killed.
    starts : int
    after : list of float
        Seconds from the start of each killed process.
    reached : Counter
        How many were killed when they had come so far.
    """

    kills: int = 0
    starts: int = 0
    after: list[float] = field(default_factory=list[float])
    reached: Counter[str] = field(default_factory=Counter[str])


# Seconds that a command takes now, by store and command: machines that do other work are slow at times.
PACE: dict[tuple[bool, str], float] = {}


def kill_and_go_on(
    command: Sequence[str], place: Place, *, kills: int, chance: random.Random, seconds: float
) -> Episode:
    """Give ``command`` until it ends well, killing up to ``kills`` processes at random moments of its ``seconds``."""
    episode = Episode()
    store = place.store
    pace = (store.is_local, command[0])
    seconds = PACE.setdefault(pace, seconds)
    first, head = set(store.list()), read_head(store)
    before: dict[str, float | None] = {}
    while True:
        process = fork(command, place)
        episode.starts += 1
        if episode.kills == kills:
            finish(command, place, process=process)
            break
        # What is done is not done again, so that a later start has less time.
        left = max(seconds - sum(episode.after) / 2, seconds / 2)
        moment = chance.uniform(0.02, 1.0) * left
        started = time.monotonic()
        try:
            said, _ = process.communicate(timeout=moment)
            assert process.returncode == 0, said
            if episode.starts == 1:
                PACE[pace] = time.monotonic() - started
            break
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        # It may have ended in the last moment.
        assert process.returncode in (0, -signal.SIGKILL), said
        if process.returncode == -signal.SIGKILL:
            come = reached(store, first, head)
            episode.kills += 1
            episode.after.append(round(moment, 3))
            episode.reached[come] += 1
            if episode.starts == 1 and moment > seconds / 2 and come in ("nothing", *ORDER[:3]):
                PACE[pace] = seconds * 1.2
        check_so_far(place)
        before = check_kept(place, before)
    check_kept(place, before)
    return episode


def reached(store: Store, first: Collection[str], head: str | None) -> str:
    """What a killed command had come to: the last of the folders that it fills which holds something new."""
    if read_head(store) != head:
        return "HEAD"
    new = {name.split("/")[0] for name in store.list() if name not in first}
    return next((folder for folder in reversed(ORDER) if folder in new), "nothing")


def check_kept(place: Place, before: Mapping[str, float | None]) -> dict[str, float | None]:
    """No shard that was there is written again; returns those that are there now."""
    store = place.store
    now = {n: info.modified for folder in ("documents", "embeddings") for n, info in store.list(folder).items()}
    for name, moment in before.items():
        if name.endswith(".parquet"):
            assert now.get(name) == moment, f"{name} was overwritten"
    return now


@contextmanager
def running(command: Sequence[str], place: Place, number: int) -> Iterator[list[Child]]:
    """Several processes of one command at once; none outlives the block."""
    processes = [fork(command, place) for _ in range(number)]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def beginning_of_update(reference: Reference, place: Place, files: Path, corpus: Corpus) -> None:
    """Put a finished workspace and its corpus somewhere, and let the corpus change.

    Its records name the corpus by an absolute path, which is the only thing of it that is altered.
    """
    corpus.put(corpus.before, files)
    store = Store(place.url, storage=dict(place.storage) or None)
    for path in sorted(reference.workspace.rglob("*")):
        name = path.relative_to(reference.workspace).as_posix()
        if path.is_file() and not path.name.startswith("."):
            data = path.read_bytes()
            if path.name in ("workspace.json", "run.json", "map.json"):
                record = {key: value for key, value in json.loads(data).items() if key != "digest"}
                (record.get("job") or record)["corpus"]["sources"] = [str(files)]
                data = seal(record)
            store.put_bytes(name, data)
    corpus.put(corpus.after, files)


def kill_one(
    command: str,
    files: Path,
    place: Place,
    corpus: Corpus,
    known: Mapping[str, Reference],
    *,
    kills: int,
    chance: random.Random,
) -> Episode:
    """One workspace, from where ``command`` begins to what it must leave, under kills."""
    if command == "run":
        corpus.put(corpus.before, files)
        given = run_command(files, place)
    else:
        beginning_of_update(known["run"], place, files, corpus)
        given = update_command(place)
    # A bucket takes longer than the disk of the reference.
    seconds = known[command].seconds * (1 if place.store.is_local else 2.5)
    episode = kill_and_go_on(given, place, kills=kills, chance=chance, seconds=seconds)
    check_end(place, known[command])
    return episode
