"""The reference that `make docs` builds has every public name, with its docstring."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import latentscale

pytest.importorskip("pdoc", reason="pdoc builds the reference")
ROOT = Path(__file__).parents[2]


def test_every_public_name_is_in_the_reference(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", ROOT / "docs" / "build_reference.py", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "index.html"
    page = (tmp_path / "latentscale.html").read_text(encoding="utf-8")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))
    for name in latentscale.__all__:
        assert f'id="{name}"' in page, name
        value = getattr(latentscale, name)
        if callable(value):
            first = (inspect.getdoc(value) or "").split(".")[0]
            assert " ".join(first.split()[:3]).replace("`", "") in words, name
    # A section of numpy's style became a list, and was not left as it was typed.
    assert "-------" not in words
