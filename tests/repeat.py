"""Run the whole fast suite again and again, two at once, each in a clone of its own: does any test depend on time?

``make test-repeat`` (``PYTHONPATH=. python tests/repeat.py``) writes its report, which is its memory too, after each
run: runs of the same files count, whatever the reports of benchmarks say, so that it goes on where it stopped. Two runs
share the processors, so that each has as many busy processes beside it as it starts itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.report import Result, Target, describe, write_readme
from latentscale.storage.provenance import environment

REPOSITORY = Path(__file__).parents[1]
REPORT = REPOSITORY / "benchmarks" / "results" / "test_repeat.json"
AT_ONCE = 2
# As in the Makefile; set-up and lint are done once.
SUITE = ("-q", "-m", "not slow", "-n", "4")
NOTES = [
    "Each run is `pytest -m 'not slow' -n 4` in a clone with an environment of its own; the load is that of the last "
    "minute of the run.",
    "A run counts with all its tests; a failed one ends the row of runs.",
]


def clone(folder: Path) -> Path:
    """A clone of this commit with everything that `make test` sets up."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)
    subprocess.run(["make", "--silent", ".venv/.dev", "browser"], cwd=folder, check=True)
    return folder


def files() -> str:
    """What the commit holds, in one word; without the reports of benchmarks, this one's among them."""
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    kept = (line for line in listed.stdout.splitlines() if "\tbenchmarks/" not in line or line.endswith(".py"))
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:16]


def run_once(folder: Path) -> dict[str, Any]:
    """One run: when, how long, how many tests, and which of them failed."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    began, clock = datetime.now(UTC), time.monotonic()
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [str(folder / ".venv/bin/pytest"), *SUITE, f"--junit-xml={report}"]
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    failures = [f"{case.attrib['classname']}::{case.attrib['name']}" for case in bad]
    for name, case in zip(failures, bad, strict=True):
        said = "\n".join(part.text or "" for part in case if part.tag in ("failure", "error"))
        print(f"{name}\n{said[-4000:]}\n", file=sys.stderr, flush=True)
    if done.returncode and not failures:
        failures = [f"pytest ended with {done.returncode}: {done.stdout[-2000:]}"]
    return {
        "began": began.isoformat(timespec="seconds"),
        "wall_s": round(time.monotonic() - clock, 1),
        "passed": len(cases) - skipped - len(bad),
        "skipped": skipped,
        "failed": len(bad),
        "load": round(os.getloadavg()[0], 1),
        "failures": failures,
    }


def runs_without_failure(runs: Sequence[dict[str, Any]]) -> int:
    """The number of latest runs without a failure, ordered by start."""
    count = 0
    for run in runs:
        count = 0 if run["failures"] else count + 1
    return count


def write(runs: Sequence[dict[str, Any]], commit: str, tested: str, report: Path) -> None:
    """Write the report."""
    rows = [
        {"what": f"run {number}", **{key: run[key] for key in ("passed", "skipped", "failed", "wall_s", "load")}}
        for number, run in enumerate(runs, 1)
    ]
    failed = sorted({one for run in runs for one in run["failures"]})
    result = Result(
        title="The whole fast suite, again and again, two runs at once.",
        parameters={"at_once": AT_ONCE},
        rows=rows,
        targets=[
            Target(what="runs in a row without a failure", value=runs_without_failure(runs), limit=10, at_least=True)
        ],
        notes=[*NOTES, *(f"Failed: {one}" for one in failed)],
    )
    record = result.as_dict() | {
        "case": "test_repeat",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit,
        "files": tested,
        "load": " ".join(f"{part:.1f}" for part in os.getloadavg()),
        "environment": environment(),
        "runs": list(runs),
    }
    temporary = report.with_suffix(".new")
    temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(report)


def main() -> int:
    """Run until there are so many runs of these files; return 1 if a test failed."""
    parser = argparse.ArgumentParser(prog="repeat.py", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="in all, earlier ones of these files counted")
    parser.add_argument("--report", type=Path, default=REPORT)
    options = parser.parse_args()
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, check=True)
    commit = head.stdout.decode().strip()
    tested = files()
    kept = json.loads(options.report.read_text(encoding="utf-8")) if options.report.exists() else {}
    runs: list[dict[str, Any]] = kept.get("runs", []) if kept.get("files") == tested else []
    with tempfile.TemporaryDirectory(prefix="latentscale-repeat-") as name, ThreadPoolExecutor(AT_ONCE) as pool:
        clones = [clone(Path(name) / str(number)) for number in range(min(AT_ONCE, options.runs - len(runs)))]
        while len(runs) < options.runs:
            runs = sorted([*runs, *pool.map(run_once, clones)], key=lambda run: run["began"])
            write(runs, commit, tested, options.report)
    if options.report == REPORT:
        write_readme()
    print(describe("test_repeat", json.loads(options.report.read_text(encoding="utf-8"))))
    return 1 if any(run["failures"] for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
