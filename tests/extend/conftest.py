"""The package of docs/extend.md, laid out as an installer would, from the page itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "extend.md"
_BLOCK = re.compile(r"^`(?P<file>[\w./]+)`:\n\n```\w*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class Outside:
    """An environment in which ``acme_maps`` is installed beside LatentScale."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
        self.environment = {**os.environ, "PYTHONPATH": path}

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "latentscale", *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
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
    return Outside(folder)
