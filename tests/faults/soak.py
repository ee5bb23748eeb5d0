"""Kill `run` and `update` a thousand times, over a disk, Swift and moto in turn; the same command resumes.

``make soak`` (``PYTHONPATH=. python tests/faults/soak.py``) writes its report, which is its memory too, after each
workspace. A kill counts when the workspace that it hit has ended as one that nobody disturbed: every row once, all
bytes equal, nothing that `verify` finds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import harness
import polars as pl
import stores

from benchmarks.report import Result, Target, describe, write_readme
from latentscale.demo import corpus_path
from latentscale.storage.provenance import environment

REPOSITORY = Path(__file__).parents[2]
REPORT = REPOSITORY / "benchmarks" / "results" / "soak.json"
WHERE = ("disk", "swift", "moto")
COMMANDS = ("run", "update")
KILLS_A_WORKSPACE = 5
NOTES = [
    "Each workspace starts empty; its command is given until it ends well, and up to five of its processes die by "
    "SIGKILL at random moments on the way. After each kill the workspace must be without a fault as far as it goes, "
    "and no finished shard may be written again.",
    "A kill counts when its workspace has ended with every row once, and with the bytes of an undisturbed one.",
    "Processes are forked from one that has imported everything; workspaces hold 500 documents in 15 shards.",
]


@contextlib.contextmanager
def places(folder: Path, wanted: list[str]) -> Iterator[dict[str, Callable[[], harness.Place]]]:
    """Ways to an empty place in each store, the servers started."""

    def on_disk() -> harness.Place:
        return harness.Place(str(folder / uuid.uuid4().hex / "map"))

    def in_bucket(server: stores.Server) -> harness.Place:
        # This process looks into one store at a time.
        os.environ.update(server.environment)
        return server.new_place()

    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(stores.serving(name, folder / name)) for name in wanted if name != "disk"}
        yield {name: partial(in_bucket, servers[name]) if name in servers else on_disk for name in wanted}


def empty(place: harness.Place, files: Path) -> None:
    """Give back the room that a workspace took."""
    if place.store.is_local:
        shutil.rmtree(Path(place.url).parent)
    else:
        place.store.delete(list(place.store.list()))
    shutil.rmtree(files)


class Report:
    """What was done so far, in the form of a benchmark's result."""

    def __init__(self, path: Path, kills: int) -> None:
        self.path = path
        self.wanted = kills
        kept = json.loads(path.read_text(encoding="utf-8"))["state"] if path.exists() else {}
        self.state: dict[str, Any] = {"workspaces": 0, "seconds": 0.0, "rows": {}, "commits": {}, "failures": []} | kept

    @property
    def kills(self) -> int:
        return sum(row["kills"] for row in self.state["rows"].values())

    def add(self, store: str, command: str, episode: harness.Episode | None, seconds: float, error: str | None) -> None:
        """Count a workspace that has come to its end, or that has failed."""
        self.state["workspaces"] += 1
        self.state["seconds"] += seconds
        row = self.state["rows"].setdefault(
            f"{store}, {command}", {"workspaces": 0, "kills": 0, "starts": 0, "failures": 0, "reached": {}}
        )
        row["workspaces"] += 1
        if episode is not None:
            row["kills"] += episode.kills
            row["starts"] += episode.starts
            row["reached"] = dict(Counter(row["reached"]) + episode.reached)
            self.state["commits"][commit()] = self.state["commits"].get(commit(), 0) + episode.kills
        if error is not None:
            row["failures"] += 1
            number = self.state["workspaces"] - 1
            self.state["failures"].append({"number": number, "store": store, "command": command, "what": error})
        self.write()

    def write(self) -> None:
        """Write the report as a whole."""
        reached: Counter[str] = Counter()
        rows: list[dict[str, Any]] = []
        for what, row in sorted(self.state["rows"].items()):
            reached.update(row["reached"])
            rows.append({"what": what} | {key: row[key] for key in ("workspaces", "kills", "starts", "failures")})
        come = ", ".join(f"{folder} {reached[folder]}" for folder in ("nothing", *harness.ORDER, "HEAD"))
        result = Result(
            title="SIGKILL of `run` and `update` at random moments, until each workspace is done.",
            parameters={"documents": 500, "kills_a_workspace": KILLS_A_WORKSPACE},
            rows=rows,
            targets=[
                Target(what="kills so far", value=self.kills, limit=1_000, at_least=True),
                Target(what="workspaces that did not end as an undisturbed one", value=len(self.failures), limit=0),
            ],
            notes=[*NOTES, f"The last folder that had something new when the process was killed: {come}."],
        )
        record = result.as_dict() | {
            "case": "soak",
            "date": datetime.now(UTC).date().isoformat(),
            "commit": ", ".join(self.state["commits"]),
            "load": " ".join(f"{part:.1f}" for part in os.getloadavg()),
            "minutes": round(self.state["seconds"] / 60, 2),
            "environment": environment(),
            "state": self.state,
        }
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(self.path)

    @property
    def failures(self) -> list[Mapping[str, Any]]:
        return self.state["failures"]


def commit() -> str:
    """The commit of this tree; with a plus where files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    # The report changes while it is written, and is no part of what is tried.
    changed = [line for line in git("status", "--porcelain").splitlines() if not line.endswith(REPORT.name)]
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def main() -> int:
    """Run until there are so many kills; return 1 if a workspace did not end as expected."""
    parser = argparse.ArgumentParser(prog="soak.py", description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000, help="in all, those of earlier calls counted")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; a later call resumes")
    parser.add_argument("--stores", default=",".join(WHERE), help="some of them")
    parser.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args()
    wanted = options.stores.split(",")
    report = Report(options.report, options.kills)
    end = time.monotonic() + options.minutes * 60
    if report.kills < options.kills:
        with tempfile.TemporaryDirectory(prefix="latentscale-soak-") as name, contextlib.ExitStack() as stack:
            folder = Path(name)
            corpus = harness.Corpus(folder, pl.read_parquet(corpus_path()))
            known = harness.references(folder / "whole", corpus)
            ways = stack.enter_context(places(folder, wanted))
            while report.kills < options.kills and time.monotonic() < end:
                one(report, folder, ways, wanted, corpus, known)
    if options.report == REPORT:
        write_readme()
    print(describe("soak", json.loads(options.report.read_text(encoding="utf-8"))))
    return 1 if report.failures else 0


def one(
    report: Report,
    folder: Path,
    ways: Mapping[str, Callable[[], harness.Place]],
    wanted: list[str],
    corpus: harness.Corpus,
    known: Mapping[str, harness.Reference],
) -> None:
    """One workspace: the number of those before it tells the store, the command and all moments."""
    number = report.state["workspaces"]
    store, command = wanted[number % len(wanted)], COMMANDS[number // len(wanted) % len(COMMANDS)]
    place, files = ways[store](), folder / f"corpus-{number}"
    started = time.monotonic()
    episode: harness.Episode | None = None
    error: str | None = None
    try:
        episode = harness.kill_one(
            command, files, place, corpus, known, kills=KILLS_A_WORKSPACE, chance=random.Random(f"soak {number}")
        )
    except Exception:  # noqa: BLE001 - a failure is a result, and the next workspace is another
        error = traceback.format_exc(limit=-3)
        print(error, file=sys.stderr, flush=True)
    report.add(store, command, episode, time.monotonic() - started, error)
    kills = 0 if episode is None else episode.kills
    print(f"{number}: {store}, {command}: {kills} kills; {report.kills} in all", file=sys.stderr, flush=True)
    empty(place, files)


if __name__ == "__main__":
    sys.exit(main())
