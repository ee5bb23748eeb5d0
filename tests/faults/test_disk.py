"""A full or read-only disk is reported; existing objects stay intact, and the same command resumes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from harness import Corpus, Place, Reference, check_end, finish, fork, run_command

# File systems of its own in a name space of its own: nothing outside sees them, and they go with the shell.
PRIVATE = ("unshare", "--user", "--map-root-user", "--mount", "sh")


class Mounts:
    """A shell in a name space of its own, which says when it has done what it was told."""

    def __init__(self) -> None:
        self._shell = subprocess.Popen(PRIVATE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, line: str) -> None:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{{ {line}; }} >&2; echo $?\n")
        self._shell.stdin.flush()
        assert self._shell.stdout.readline() == "0\n", line

    def finish(self, command: Sequence[str], *, code: int) -> str:
        """Run a command, which sees what is mounted, to its end."""
        there = Place("", environment={"MOUNTS_OF": str(self._shell.pid)})
        return finish(command, there, code=code, process=fork(command, there))

    def close(self) -> None:
        self._shell.communicate(timeout=60)


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    try_one = (*PRIVATE, "-c", f"mount -t tmpfs -o size=1m tmpfs {tmp_path}")
    if shutil.which("unshare") is None or subprocess.run(try_one, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here; tests/cli/test_bad_input.py limits the size of files instead")
    one = Mounts()
    yield one
    one.close()


@pytest.mark.parametrize(
    "size",
    [
        pytest.param("100k", id="ingest"),
        pytest.param("400k", id="embed", marks=pytest.mark.slow),
        pytest.param("1200k", id="publish", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_reported_and_the_same_command_resumes_with_space(
    tmp_path: Path, mounts: Mounts, grown_corpus: Corpus, references: dict[str, Reference], size: str
) -> None:
    files, disk = tmp_path / "corpus", tmp_path / "disk"
    grown_corpus.put(grown_corpus.before, files)
    disk.mkdir()
    # It is known beforehand that it cannot fit; here it is tried all the same.
    tried = [*run_command(files, Place(str(disk / "map"))), "--set", "engine.on_shortage=warn"]
    mounts.do(f"mount -t tmpfs -o size={size} tmpfs {disk}")
    said = mounts.finish(tried, code=4)
    mounts.finish(["verify", f"{disk}/map"], code=0)
    mounts.do(f"mount -o remount,size=64m {disk}")
    mounts.finish(tried, code=0)
    mounts.finish(["verify", f"{disk}/map"], code=0)
    mounts.do(f"cp -a {disk}/map {tmp_path}/map")
    assert list(disk.iterdir()) == [], "nothing was written but on that disk"
    # Before the first vector is computed, what is left is compared with what the run will write.
    assert "the disk is full" in said or "are free on its disk" in said, said
    assert "Free some space" in said, said
    check_end(Place(str(tmp_path / "map")), references["run"])


def test_a_workspace_that_may_only_be_read_is_read_and_refused_for_writing(
    tmp_path: Path, mounts: Mounts, references: dict[str, Reference]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts.do(f"mount -t tmpfs -o size=64m tmpfs {disk}")
    mounts.do(f"cp -a {references['run'].workspace} {disk}/map && mount -o remount,ro {disk}")
    workspace = f"{disk}/map"
    read = [mounts.finish([command, workspace], code=0) for command in ("verify", "gc")]
    refused = [
        mounts.finish(command, code=4)
        for command in (["update", workspace], ["gc", workspace, "--grace", "0", "--keep-maps", "0", "--delete"])
    ]
    assert all("ead-only file system" in said for said in refused), refused
    assert not any("Traceback" in said for said in (*read, *refused)), (read, refused)
