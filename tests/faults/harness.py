"""Kill the real command line at any moment, go on with the same command, and hold the end against an uninterrupted run.

A child is a process of its own, as a person or a cluster would start it. After each kill the workspace must be without
a fault as far as it goes; at the end every row of the corpus is there exactly once and readable, and every shard and
every part of the map has the bytes that it has without a kill.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

import latentscale
from latentscale.storage.objects import Store
from latentscale.verification import verify_workspace

SETTINGS = (
    *("--set", "ingest.shard_rows=40", "--set", "project.n_epochs=60", "--set", "cluster.min_cluster_size=8"),
    *("--set", "engine.threads=1", "--progress", "quiet"),
)
SHARDS = ("documents", "rejects", "embeddings", "snapshots")
CRASH = Path(__file__).with_name("crash.py")


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
        folder.mkdir(exist_ok=True)
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
        return latentscale.open(self.url, storage=dict(self.storage) or None)

    @property
    def store(self) -> Store:
        return self.open().store


def credentials(key: str, secret: str) -> dict[str, str]:
    """Variables by which a child reaches a store of the tests, and nothing of the developer's own."""
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def run_command(corpus: Path, place: Place) -> list[str]:
    return ["run", str(corpus), "--out", place.url, *place.options, *SETTINGS]


def update_command(place: Place) -> list[str]:
    return ["update", place.url, *place.options, "--progress", "quiet"]


def start(
    command: Sequence[str], place: Place, *, crash: str | None = None, program: Sequence[str] = ("-m", "latentscale")
) -> subprocess.Popen[str]:
    """Start a child; ``crash`` as in ``crash.py``."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | dict(place.environment)
    if crash is not None:
        environment["CRASH"] = crash
        program = (str(CRASH),)
    return subprocess.Popen(
        [sys.executable, *program, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def finish(command: Sequence[str], place: Place, *, code: int = 0) -> str:
    """Run a command to its end."""
    process = start(command, place)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, said
    return said


# ------------------------------------------------------------------------------------------------------- what is there


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
    """Do `run`, then `update` on the changed corpus, without a fault."""
    files = folder / "corpus"
    corpus.put(corpus.before, files)
    warm = Place(str(folder / "warm" / "map"))
    finish(run_command(files, warm), warm)  # fills the caches of compiled code
    # The last part of its path is the name of a workspace, and so in the title of its map.
    place = Place(str(folder / "run" / "map"))
    started = time.monotonic()
    finish(run_command(files, place), place)
    found = {"run": read_reference(place, corpus, corpus.before, time.monotonic() - started)}
    grown = Place(str(folder / "update" / "map"))
    shutil.copytree(place.url, grown.url)
    corpus.put(corpus.after, files)
    started = time.monotonic()
    finish(update_command(grown), grown)
    found["update"] = read_reference(grown, corpus, corpus.after, time.monotonic() - started)
    return found


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
    """

    kills: int = 0
    starts: int = 0
    after: list[float] = field(default_factory=list[float])


def kill_and_go_on(
    command: Sequence[str], place: Place, *, kills: int, chance: random.Random, seconds: float
) -> Episode:
    """Give ``command`` until it ends well, killing up to ``kills`` processes at random moments of ``seconds``."""
    episode = Episode()
    before: dict[str, float | None] = {}
    while True:
        process = start(command, place)
        episode.starts += 1
        if episode.kills == kills:
            said, _ = process.communicate(timeout=600)
            assert process.returncode == 0, said
            break
        moment = chance.uniform(0.05, 1.05) * seconds
        try:
            said, _ = process.communicate(timeout=moment)
            assert process.returncode == 0, said
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            episode.kills += 1
            episode.after.append(round(moment, 3))
        check_so_far(place)
        before = check_kept(place, before)
    check_kept(place, before)
    return episode


def check_kept(place: Place, before: Mapping[str, float | None]) -> dict[str, float | None]:
    """No shard that was there is written again; returns those that are there now."""
    store = place.store
    now = {n: info.modified for folder in ("documents", "embeddings") for n, info in store.list(folder).items()}
    for name, moment in before.items():
        if name.endswith(".parquet"):
            assert now.get(name) == moment, f"{name} was written again"
    return now


@contextmanager
def running(command: Sequence[str], place: Place, number: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Several processes of one command at once; none outlives the block."""
    processes = [start(command, place) for _ in range(number)]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


def beginning_of_update(reference: Reference, place: Place, files: Path, corpus: Corpus) -> None:
    """Put a finished workspace and its corpus somewhere, and let the corpus change.

    The workspace names its corpus by an absolute path, which is the only thing of it that is altered.
    """
    corpus.put(corpus.before, files)
    store = Store(place.url, storage=dict(place.storage) or None)
    for path in sorted(reference.workspace.rglob("*")):
        name = path.relative_to(reference.workspace).as_posix()
        if path.is_file() and not path.name.startswith("."):
            data = path.read_bytes()
            if name == "workspace.json":
                record = json.loads(data)
                record["corpus"]["sources"] = [str(files)]
                data = json.dumps(record).encode()
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
    seconds = known[command].seconds * (1 if place.store.is_local else 2)
    episode = kill_and_go_on(given, place, kills=kills, chance=chance, seconds=seconds)
    check_end(place, known[command])
    return episode
