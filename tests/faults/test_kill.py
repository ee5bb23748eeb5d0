"""kill -9 at random moments: the same command ends with every row once, and does no finished shard again."""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from harness import (
    HERE,
    Corpus,
    Place,
    Reference,
    beginning_of_update,
    check_end,
    check_so_far,
    contents,
    environment_of,
    finish,
    fork,
    kill_one,
    run_command,
    update_command,
)

from latentscale.storage.snapshots import list_snapshot_ids, read_snapshot

References = dict[str, Reference]
Places = Callable[[int], Place]
RECEIPT = re.compile(
    r"^documents/|^embeddings/|^snapshots/snapshot-|artifact\.json$|map\.json$|^(HEAD|workspace)\.json$"
)

PATH = os.pathsep.join([str(HERE), *sys.path])
STOPPING = """
import sys
import crash
from latentscale.cli.main import main
crash.install()
main(sys.argv[1:])
"""


def on_disk(folder: Path) -> Places:
    return lambda number: Place(str(folder / f"{number}" / "map"))


def kill(
    tmp_path: Path, corpus: Corpus, references: References, command: str, place_at: Places, *, kills: int, seed: int
) -> None:
    """Restart until so many processes were killed: the later ones of a workspace may end before their time."""
    done = 0
    for number in itertools.count():
        files, place = tmp_path / f"{number}" / "corpus", place_at(number)
        files.parent.mkdir(exist_ok=True)
        chance = random.Random(seed * 1_000 + number)
        done += kill_one(command, files, place, corpus, references, kills=min(4, kills - done), chance=chance).kills
        if done == kills:
            return
        assert number < kills + 20, f"only {done} of so many starts were alive when they were to be killed"


@pytest.mark.parametrize(("command", "kills"), [("run", 6), ("update", 4)])
def test_a_command_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    tmp_path: Path, grown_corpus: Corpus, references: References, command: str, kills: int
) -> None:
    kill(tmp_path, grown_corpus, references, command, on_disk(tmp_path), kills=kills, seed=0)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize(("command", "kills"), [("run", 40), ("update", 30)])
def test_many_more_kills(
    tmp_path: Path, grown_corpus: Corpus, references: References, command: str, kills: int
) -> None:
    kill(tmp_path, grown_corpus, references, command, on_disk(tmp_path), kills=kills, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("command", ["run", "update"])
def test_many_kills_over_a_bucket(
    tmp_path: Path, grown_corpus: Corpus, references: References, new_bucket: Callable[[], Place], command: str
) -> None:
    kill(tmp_path, grown_corpus, references, command, lambda number: new_bucket(), kills=8, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
@pytest.mark.parametrize("command", ["run", "update"])
def test_a_command_that_dies_after_each_of_its_writes_in_turn(
    tmp_path: Path, grown_corpus: Corpus, references: References, command: str
) -> None:
    """Each start writes one object further and dies: every moment between two writes is tried."""
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    if command == "run":
        grown_corpus.put(grown_corpus.before, files)
        given = run_command(files, place)
    else:
        beginning_of_update(references["run"], place, files, grown_corpus)
        given = update_command(place)
    died, number = 0, 1
    while True:
        # Records of runs, and leases, are written by every start.
        process = fork(given, place, crash=f"after:^(?!runs/|leases/|attempts/|\\.):{number}")
        said, _ = process.communicate(timeout=300)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said
        check_so_far(place)
        died += 1
        assert died < 300, "it comes to no end"
        # What is a receipt is not written again; the parts of an artifact are, until it has its record.
        number = 1 if RECEIPT.search(said.splitlines()[-1]) else number + 1
    check_end(place, references[command])
    assert died > 30


@pytest.mark.parametrize("command", ["run", "update"])
@pytest.mark.parametrize("moment", ["after:map.json:1", "after:^HEAD.json:1"], ids=["record", "head"])
def test_a_crash_between_record_head_and_page_leaves_a_readable_map(
    tmp_path: Path, grown_corpus: Corpus, references: References, command: str, moment: str
) -> None:
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    before = references["run"] if command == "update" else None
    if before is not None:
        beginning_of_update(before, place, files, grown_corpus)
        given = update_command(place)
    else:
        grown_corpus.put(grown_corpus.before, files)
        given = run_command(files, place)
    page = Path(place.url, "viewer", "manifest.json")
    shown = page.read_bytes() if page.exists() else None
    process = fork(given, place, crash=moment)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, said
    current = place.open().current
    if "HEAD" in moment:
        assert current is not None
        assert current.id == references[command].head
    else:
        assert (current.id if current else None) == (before.head if before else None)
    assert (page.read_bytes() if page.exists() else None) == shown, "the page shows what it showed"
    check_so_far(place)
    finish(given, place, process=fork(given, place))
    check_end(place, references[command])
    assert references[command].head in page.read_text()
    check_so_far(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path, grown_corpus: Corpus, number: signal.Signals) -> None:
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    grown_corpus.put(grown_corpus.before, files)
    # As a person starts it, but that it stops at a write: it has not ended before the signal, however late that comes.
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPING, *run_command(files, place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment_of(place, {"CRASH": "pause:^embeddings/.*parquet$:1", "PYTHONPATH": PATH}),
    )
    deadline = time.monotonic() + 300
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.poll() is None, process.communicate()
        if time.monotonic() > deadline:
            process.kill()
            pytest.fail("it embeds nothing")
        time.sleep(0.02)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "to resume" in said
    assert f"latentscale run {files} --out {place.url}" in said
    assert "Traceback" not in said
    assert place.open().runs[-1]["status"] == "interrupted"


def test_a_command_that_dies_while_texts_are_hashed_by_shard_resumes_and_leaves_the_same(
    tmp_path: Path, grown_corpus: Corpus
) -> None:
    """Each hashed shard is kept; once a run of hashes has all of them, none is left over."""
    files = tmp_path / "corpus"
    grown_corpus.put(grown_corpus.before, files)
    whole = Place(str(tmp_path / "whole"))
    place = Place(str(tmp_path / "map"), environment={"HASHED_BY_SHARD": "yes"})
    settings = ["--set", "embed.duplicates=corpus"]
    finish([*run_command(files, whole), *settings], whole, process=fork([*run_command(files, whole), *settings], whole))
    command = [*run_command(files, place), *settings]
    for crash in (r"after:^ids/shards-:2", r"before:^ids/[0-9a-f]+/shards.parquet$:1", r"after:/shared-texts/.*plan:1"):
        process = fork(command, place, crash=crash)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, said
        check_so_far(place)
        kept = {str(name) for name in place.store.list("ids") if str(name).startswith("ids/shards-")}
        shards = read_snapshot(place.store, list_snapshot_ids(place.store)[0]).shards
        assert len(kept) in ((0,) if "plan" in crash else (2, 3, 4) if "shards-" in crash else (len(shards),)), crash
    finish(command, place, process=fork(command, place))
    assert contents(place.store) == contents(whole.store)
    ids = [{name: one.store.read_bytes(name) for name in one.store.list("ids")} for one in (whole, place)]
    assert ids[0]
    assert ids[0] == ids[1]
