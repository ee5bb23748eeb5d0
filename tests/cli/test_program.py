"""Printed commands can be copied into the shell that called the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from latentscale.cli.program import program


def script(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "latentscale"
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name != "posix", reason="a script without an extension is a program on POSIX systems only")
def test_a_program_outside_the_path_is_named_as_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = script(tmp_path / "on path"), script(tmp_path / "my env")
    monkeypatch.setenv("PATH", str(inside.parent))
    monkeypatch.setattr(sys, "argv", [str(inside), "run"])
    assert program() == "latentscale"
    monkeypatch.setattr(sys, "argv", [str(outside), "run"])
    assert program() == f"'{outside}'"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["my env/latentscale", "run"])
    assert program() == "'my env/latentscale'"
    monkeypatch.setattr(sys, "argv", ["notebook.py"])
    assert program() == "latentscale"


def test_a_printed_command_runs(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "latentscale", "init", "job.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    command = made.stdout.strip().partition("then:  ")[2]
    assert command == f"{sys.executable} -m latentscale run job.yaml"
