"""Two builds of the page in one checkout: one builds, the other waits and finds it built."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.conftest import load

ROOT = Path(__file__).parents[2]
# It stands where Node and npm would: what is tested is who may start them, and how often.
NODE = """#!/bin/sh
case "$1 $2" in
  --version*) echo v99.0.0 ;;
  *npm-cli.js\\ ci)
    echo npm >> "$LOG"
    read -r _ < "$GATE"
    rm -rf node_modules; mkdir node_modules ;;
  *vite.js\\ build)
    echo vite >> "$LOG"
    mkdir -p ../static; echo page > ../static/index.html ;;
  *) exit 1 ;;
esac
"""


@pytest.mark.skipif(os.name == "nt", reason="the stand-in of Node is a script of a shell")
def test_one_build_at_a_time_and_libraries_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    hook = load("hatch_build_for_locks", ROOT / "hatch_build.py")
    root, tools = tmp_path / "checkout", tmp_path / "tools"
    (root / hook.WEB).mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / hook.WEB / name, root / hook.WEB / name)
    for path in hook.SHARED:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, root / path)
    (tools / "bin").mkdir(parents=True)
    (tools / "bin/node").write_text(NODE)
    (tools / "bin/node").chmod(0o755)
    (tools / "lib/node_modules/npm/bin").mkdir(parents=True)
    (tools / "lib/node_modules/npm/bin/npm-cli.js").touch()
    log, gate = tmp_path / "log", tmp_path / "gate"
    os.mkfifo(gate)
    monkeypatch.setenv("PATH", f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.setenv("GATE", str(gate))
    faults: list[BaseException] = []

    def build() -> None:
        try:
            hook.build(root)
        except BaseException as error:  # noqa: BLE001 - a thread's own would only be printed
            faults.append(error)

    builds = [threading.Thread(target=build, daemon=True) for _ in range(3)]
    for one in builds:
        one.start()
    with gate.open("w") as opened:  # waits until npm reads from it
        with (root / hook.LOCK).open("ab") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened.write("on\n")
    for one in builds:
        one.join()
    assert faults == []
    # The site, and the script of pages of one file.
    assert log.read_text().split() == ["npm", "vite", "vite"]
    assert hook.is_current(root)
    # Another page of the same libraries.
    (root / hook.WEB / "index.html").write_text("changed")
    assert not hook.is_current(root)
    hook.build(root)
    hook.install(root, hook.node_command())
    assert log.read_text().split() == ["npm", "vite", "vite", "vite", "vite"]
