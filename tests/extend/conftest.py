"""The package of docs/extend.md, laid out as an installer would, from the page itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

WARM = Path(__file__).parents[1] / "faults" / "warm.py"
PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
_BLOCK = re.compile(r"^`(?P<file>[\w./]+)`:\n\n```\w*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Outside:
    """An environment in which ``acme_maps`` is installed beside LatentScale."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
        self.environment = {**os.environ, "PYTHONPATH": path}
        self._warm: subprocess.Popen[str] | None = None

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in a process that is forked from one of this environment."""
        if self._warm is None:
            self._warm = subprocess.Popen(
                [sys.executable, str(WARM)],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert self._warm.stdout is not None
            assert self._warm.stdout.readline() == "ready\n"
        out, err = (self.folder / f"command.{stream}" for stream in ("out", "err"))
        for file in (out, err):
            file.unlink(missing_ok=True)
        request = {"arguments": arguments, "output": str(out), "errors": str(err), "environment": self.environment}
        code = self._ask({"wait": self._ask(request)})
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._warm is not None
        assert self._warm.stdin is not None
        assert self._warm.stdout is not None
        self._warm.stdin.write(json.dumps(request) + "\n")
        self._warm.stdin.flush()
        return int(self._warm.stdout.readline())

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in this environment."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def close(self) -> None:
        if self._warm is not None:
            self._warm.communicate()


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("site")
    files = {match["file"]: match["text"] for match in _BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}
    project: dict[str, Any] = tomllib.loads(files.pop("pyproject.toml"))["project"]
    (folder / "acme_maps").mkdir()
    (folder / "acme_maps" / "__init__.py").touch()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    metadata = folder / f"acme_maps-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-maps\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in [f"[{group}]", *(f"{name} = {value}" for name, value in points.items()), ""]
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    made = Outside(folder)
    yield made
    made.close()
