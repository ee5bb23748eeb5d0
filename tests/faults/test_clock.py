"""Clocks that disagree: finished work is recognised by names and bytes, and ages by the store's own clock."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from harness import (
    Corpus,
    Place,
    Reference,
    beginning_of_update,
    check_end,
    check_so_far,
    finish,
    fork,
    run_command,
    update_command,
)

from latentscale.upkeep.gc import find_garbage

DAY = 86_400.0


def move_times(folder: Path, seconds: float) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            moment = path.stat().st_mtime + seconds
            os.utime(path, (moment, moment))


@pytest.mark.parametrize("skew", [2 * DAY, -2 * DAY], ids=["ahead", "behind"])
def test_a_resume_does_not_care_when_the_store_says_that_objects_were_written(
    tmp_path: Path, grown_corpus: Corpus, references: dict[str, Reference], skew: float
) -> None:
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    grown_corpus.put(grown_corpus.before, files)
    command = run_command(files, place)
    for crash in ("after:^embeddings/:5", "after:^clusters/.*json:1"):
        process = fork(command, place, crash=crash)
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
        move_times(Path(place.url), skew)
        check_so_far(place)
    before = {path: path.stat().st_mtime_ns for path in Path(place.url).glob("[de]*/**/*.parquet")}
    finish(command, place, process=fork(command, place))
    assert all(path.stat().st_mtime_ns == moment for path, moment in before.items()), "no shard was made again"
    check_end(place, references["run"])


@pytest.mark.parametrize("skew", [2 * DAY, -2 * DAY], ids=["ahead", "behind"])
def test_an_update_from_a_machine_whose_clock_is_wrong_is_as_any_other(
    tmp_path: Path, grown_corpus: Corpus, references: dict[str, Reference], skew: float
) -> None:
    files, place = tmp_path / "corpus", Place(str(tmp_path / "map"))
    beginning_of_update(references["run"], place, files, grown_corpus)
    there = replace(place, environment={"SKEW": str(skew)})
    finish(update_command(place), there, process=fork(update_command(place), there))
    written = json.loads(place.store.read_bytes("HEAD.json"))["written"]
    off = datetime.fromisoformat(written) - datetime.now(UTC)
    assert abs(off.total_seconds() - skew) < DAY, "that machine did have another clock"
    check_end(place, references["update"])
    assert "nothing" in finish(update_command(place), place, process=fork(update_command(place), place)), (
        "one by the right clock finds nothing left to do"
    )
    check_end(place, references["update"])
    # What that machine wrote is of this moment by the clock of the store, whatever its own says.
    assert find_garbage(place.store, grace=DAY).garbage == []
