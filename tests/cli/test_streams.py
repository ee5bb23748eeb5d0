"""Standard streams as programs are really started with: closed, without a reader, in other encodings, full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import latentscale as ls
from latentscale.pipeline.observe import Observer

COMMAND = [sys.executable, "-m", "latentscale"]
FAST = ["--set", "project.n_epochs=5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with texts that few encodings hold, and numbers that float32 does not, and its map."""
    root = tmp_path_factory.mktemp("streams")
    words = ["whale reef tide harbour", "violin sonata piano chord", "compiler pointer stack parser"]
    rows = [{"text": f"{words[i % 3]} number {i} \U0001f600 λ", "n": 1.5 * 10.0 ** (i + 200)} for i in range(100)]
    pl.DataFrame(rows).write_csv(root / "a.csv")
    ls.run(str(root / "a.csv"), out=root / "out", progress="quiet", project={"n_epochs": 5})
    return root


def run(made: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([*COMMAND, *arguments], cwd=made, timeout=300, **options)  # type: ignore[call-overload]


def run_in_shell(made: Path, line: str) -> int:
    return subprocess.run(["bash", "-c", f'exec "$@" {line}', "-", *COMMAND, "status", "out"], cwd=made).returncode


@pytest.mark.parametrize("line", ["2>&-", ">&-"])
def test_closed_streams_are_no_failure(made: Path, line: str) -> None:
    assert run_in_shell(made, line) == 0


def test_a_run_without_any_stream_makes_its_map(made: Path, tmp_path: Path) -> None:
    rest = ["run", "a.csv", "--text", "text", "--out", str(tmp_path / "out"), *FAST]
    done = subprocess.run(["bash", "-c", 'exec "$@" <&- >&- 2>&-', "-", *COMMAND, *rest], cwd=made)
    assert done.returncode == 0
    opened = ls.open(tmp_path / "out")
    assert opened.the_map().record.counts["documents"] == 100
    # No object got the number of a closed stream, and with it what a library prints.
    assert opened.verify().faults == []


def test_a_closed_pipe_does_not_end_the_run(made: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        # Results nobody reads: as a shell says of any other program.
        assert run(made, "show", "out", ls.open(made / "out").the_map().id, stdout=write).returncode == 141
        # Progress nobody reads, all through a run.
        rest = ["a.csv", "--text", "text", "--out", str(tmp_path / "out"), *FAST]
        done = run(made, "run", *rest, stderr=write)
    finally:
        os.close(write)
    assert done.returncode == 0
    assert b"The map is in" in done.stdout
    assert ls.open(tmp_path / "out").the_map().record.counts["documents"] == 100


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_result_that_does_not_fit_on_the_disk_is_a_failure(made: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(made, "status", "out", stdout=full)
    assert done.returncode == 4
    assert b"the disk is full" in done.stderr


def test_unencodable_output_is_escaped(made: Path) -> None:
    for encoding, form in (("ascii", ["--json"]), ("cp1252", [])):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        found = run(made, "search", "out", "whale reef", "-k", "1", *form, env=environment)
        assert (found.returncode, found.stderr) == (0, b"")
        shown = found.stdout.decode(encoding)
        assert r"\ud83d\ude00" in shown
        assert not form or json.loads(shown)["text"].endswith("\U0001f600 λ")
    # An error, too, names what it must.
    missing = run(made, "search", "λ\U0001f600", "x", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert missing.returncode == 2
    assert b"\\u03bb" in missing.stderr


def test_warnings_of_libraries_are_not_shown(made: Path) -> None:
    program = (
        "import sys, warnings; from latentscale.cli import main, inspect; from latentscale import workspace\n"
        "def warn(self): warnings.warn('of a library', RuntimeWarning); return {'documents': 1}\n"
        "workspace.Workspace.status = warn; main.main(['status', 'out'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=made, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    asked = {**os.environ, "PYTHONWARNINGS": "always"}
    shown = subprocess.run([sys.executable, "-c", program], cwd=made, capture_output=True, env=asked)
    assert b"of a library" in shown.stderr


def test_numbers_beyond_float32_colour_without_a_warning(made: Path) -> None:
    # Warnings in our modules are errors of the tests: the fixture's run would have failed.
    index = next((made / "out" / "maps").glob("*/viewer/index.json"))
    (entry,) = [one for one in json.loads(index.read_text())["colours"] if one["name"] == "n"]
    assert entry["kind"] == "numbers"
    assert entry["max"] > 1e290


def test_a_program_without_standard_error_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    observer = Observer()
    with observer.stage("ingest") as progress:
        progress.advance(1)
    observer.note("something")
    assert [event["event"] for event in observer.events] == ["stage started", "stage done", "note"]
