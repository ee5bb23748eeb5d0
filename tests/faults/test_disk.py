"""A full or read-only disk is reported; existing objects stay intact, and the same command resumes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Corpus, Place, Reference, check_end, run_command

# A file system of its own in a name space of its own: nothing outside sees it, and it goes with the shell.
PRIVATE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture(scope="module")
def private_mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("mount")
    command = ["sh", "-c", f"mount -t tmpfs -o size=1m tmpfs {folder}"]
    if shutil.which("unshare") is None or subprocess.run([*PRIVATE, *command], capture_output=True).returncode:
        pytest.skip("no file system may be mounted here; tests/cli/test_bad_input.py limits the size of files instead")


def shell(script: str) -> list[str]:
    done = subprocess.run([*PRIVATE, "sh", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.usefixtures("private_mounts")
@pytest.mark.parametrize(
    "size",
    [
        pytest.param("100k", id="ingest"),
        pytest.param("400k", id="embed", marks=pytest.mark.slow),
        pytest.param("1200k", id="publish", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_said_and_the_same_command_goes_on_when_there_is_room(
    tmp_path: Path, grown_corpus: Corpus, references: dict[str, Reference], size: str
) -> None:
    files, disk = tmp_path / "corpus", tmp_path / "disk"
    grown_corpus.put(grown_corpus.before, files)
    disk.mkdir()
    # It is known beforehand that it cannot fit; here it is tried all the same.
    tried = [*run_command(files, Place(str(disk / "map"))), "--set", "engine.on_shortage=warn"]
    words = " ".join(f"'{word}'" for word in tried)
    program = f"'{sys.executable}' -m latentscale"
    said = shell(
        f"unset PYTHONDONTWRITEBYTECODE; mount -t tmpfs -o size={size} tmpfs {disk}\n"
        f"{program} {words} 2>&1; echo code $?\n"
        f"{program} verify {disk}/map 2>&1; echo verified $?\n"
        f"mount -o remount,size=64m {disk}\n"
        f"{program} {words} 2>&1 >/dev/null; echo code $?\n"
        f"{program} verify {disk}/map 2>&1; echo verified $?\n"
        f"cp -a {disk}/map {tmp_path}/map"
    )
    assert [line for line in said if line.startswith("code")] == ["code 4", "code 0"], said
    assert [line for line in said if line.startswith("verified")] == ["verified 0"] * 2, said
    # Before the first vector is computed, what is left is compared with what the run will write.
    assert any("the disk is full" in line or "are free on its disk" in line for line in said), said
    assert any("Free some space" in line for line in said), said
    check_end(Place(str(tmp_path / "map")), references["run"])


@pytest.mark.usefixtures("private_mounts")
def test_a_workspace_that_may_only_be_read_is_read_and_refused_for_writing(
    tmp_path: Path, grown_corpus: Corpus, references: dict[str, Reference]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    program = f"'{sys.executable}' -m latentscale"
    commands = ["verify", "gc", "update", "gc --grace 0 --keep-maps 0 --delete"]
    said = shell(
        f"unset PYTHONDONTWRITEBYTECODE; mount -t tmpfs -o size=64m tmpfs {disk}\n"
        f"cp -a {references['run'].workspace} {disk}/map && mount -o remount,ro {disk}\n"
        + "\n".join(
            f"{program} {' '.join([command.split()[0], f'{disk}/map', *command.split()[1:]])} 2>&1; echo code $?"
            for command in commands
        )
    )
    assert [line for line in said if line.startswith("code")] == ["code 0"] * 2 + ["code 4"] * 2, "\n".join(said)
    assert sum("ead-only file system" in line for line in said) == 2, "\n".join(said)
    assert not any("Traceback" in line for line in said), "\n".join(said)
