"""Files shared by the processes of a machine: complete or absent, written by one, and deleted at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from latentscale.errors import ResourceError
from latentscale.storage import scratch as module
from latentscale.storage.scratch import STALE_AFTER, remove_shared, scratch_folder, share_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there, no set is shared")

NAME = "vectors-0123"

# Writes a set slowly, says when it begins, and in between dies or waits for a line where that is asked for.
WRITER = """
import json, os, signal, sys, time
from pathlib import Path
from latentscale.storage.scratch import share_files

def write(folder):
    with (folder / "a").open("wb") as file:
        file.write(b"x" * 1000)
        file.flush()
        print("begun", flush=True)
        if sys.argv[2] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if sys.argv[2] == "stay":
            sys.stdin.readline()
        else:
            time.sleep(1.0)
        file.write(b"y" * 1000)
    return {"writer": os.getpid()}

files = share_files(Path(sys.argv[1]), "vectors-0123", write)
print(json.dumps([files.facts["writer"], os.getpid()]), flush=True)
if sys.argv[2] == "stay":
    sys.stdin.read()
"""


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def write(folder: Path) -> dict[str, int]:
    (folder / "a").write_bytes(np.arange(6, dtype="<i4").tobytes())
    return {"rows": 6}


def refuse(folder: Path) -> dict[str, int]:
    raise AssertionError("the set is there")


def test_who_finds_a_set_being_written_waits_for_it(tmp_path: Path) -> None:
    first = start(tmp_path, "end")
    assert first.stdout is not None
    assert first.stdout.readline() == "begun\n"
    others = [start(tmp_path, "end") for _ in range(3)]
    sets = [json.loads(process.communicate()[0].splitlines()[-1]) for process in (first, *others)]
    assert {writer for writer, _ in sets} == {first.pid}
    assert {process for _, process in sets} == {process.pid for process in (first, *others)}


def test_leftovers_of_a_killed_writer_are_never_used_as_a_set(tmp_path: Path) -> None:
    process = start(tmp_path, "die")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / f"{NAME}.unfinished" / "a").stat().st_size == 1000
    files = share_files(tmp_path, NAME, write)
    assert files.map("a", np.int32, (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.lock"]
    files.close()


def test_leftovers_of_a_killed_writer_are_removed_at_the_next_start(tmp_path: Path) -> None:
    start(tmp_path, "die").communicate()
    assert remove_shared(tmp_path, "vectors-", older_than=STALE_AFTER) == [NAME]
    assert list(tmp_path.iterdir()) == []


def test_a_set_stays_while_a_process_uses_it_and_goes_when_that_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path, "stay")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    # Being written, then in use.
    assert remove_shared(tmp_path, "vectors-") == []
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.readline()
    assert remove_shared(tmp_path, "vectors-") == []
    share_files(tmp_path, NAME, refuse).close()
    process.kill()
    process.wait()
    assert remove_shared(tmp_path, "other-") == []
    assert remove_shared(tmp_path, "vectors-") == [NAME]
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_nobody_took_into_use_for_a_day_is_stale(tmp_path: Path) -> None:
    share_files(tmp_path, NAME, write).close()
    (tmp_path / "of-somebody-else").mkdir()
    assert remove_shared(tmp_path, "vectors-", older_than=STALE_AFTER) == []
    yesterday = time.time() - STALE_AFTER - 60
    os.utime(tmp_path / f"{NAME}.lock", (yesterday, yesterday))
    share_files(tmp_path, NAME, refuse).close()
    assert remove_shared(tmp_path, "vectors-", older_than=STALE_AFTER) == []
    os.utime(tmp_path / f"{NAME}.lock", (yesterday, yesterday))
    assert remove_shared(tmp_path, "vectors-", older_than=STALE_AFTER) == [NAME]
    assert [path.name for path in tmp_path.iterdir()] == ["of-somebody-else"]


def test_a_set_from_before_the_last_boot_is_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_boot_id", lambda: "before")
    share_files(tmp_path, NAME, write).close()
    monkeypatch.undo()
    written: list[Path] = []
    files = share_files(tmp_path, NAME, lambda folder: written.append(folder) or write(folder))
    assert len(written) == 1
    files.close()


def test_a_set_with_a_truncated_file_is_rewritten(tmp_path: Path) -> None:
    share_files(tmp_path, NAME, write).close()
    (tmp_path / NAME / "a").chmod(0o600)
    (tmp_path / NAME / "a").write_bytes(b"x")
    files = share_files(tmp_path, NAME, write)
    assert files.map("a", np.int32, (6,)).tolist() == [0, 1, 2, 3, 4, 5]
    files.close()


def test_a_writer_that_fails_leaves_nothing_and_lets_others_try(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, int]:
        write(folder)
        raise ValueError("no more data")

    with pytest.raises(ValueError, match="no more data"):
        share_files(tmp_path, NAME, fail)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.lock"]
    share_files(tmp_path, NAME, write).close()


def test_a_write_to_a_mapped_set_reaches_no_other(tmp_path: Path) -> None:
    files = share_files(tmp_path, NAME, write)
    files.map("a", np.int32, (6,))[0] = 7
    assert files.map("a", np.int32, (6,)).tolist() == [0, 1, 2, 3, 4, 5]
    files.close()


def test_a_scratch_folder_that_another_user_may_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(module.VARIABLE, raising=False)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    folder = scratch_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(ResourceError, match="another user owns it or may write to it"):
        scratch_folder()
    monkeypatch.setenv(module.VARIABLE, str(tmp_path / "mine"))
    assert scratch_folder() == tmp_path / "mine"


def test_a_waiting_writer_uses_the_set_that_another_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that saw no set, the slower one is off the processor until the faster one has it in use."""
    about_to = threading.Event()
    take = module._acquire

    def late(lock: int, *, exclusive: bool, **more: bool) -> bool:
        if exclusive and threading.current_thread() is slow:
            about_to.set()
        return take(lock, exclusive=exclusive, **more)

    monkeypatch.setattr(module, "_acquire", late)
    found: list[object] = []
    other = os.open(tmp_path / "set.lock", os.O_RDWR | os.O_CREAT, 0o600)
    slow = threading.Thread(target=lambda: found.append(share_files(tmp_path, "set", refuse)), daemon=True)
    take(other, exclusive=False)
    slow.start()
    assert about_to.wait(60)
    module._write(tmp_path / "set", write)
    slow.join(60)
    assert len(found) == 1, "it waits for the end of the other's use"
    os.close(other)
