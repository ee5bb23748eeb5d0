"""The environments of vLLM and of cuML, which conflict with that of LatentScale's tests: their paths, or why missing.

``tests/make_environment.py`` makes them, below ``.venv``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venv"
TARGETS = {"vllm": "make vllm", "cuml": "make cuml"}


def folder_of(name: str) -> Path:
    """The environment, which is there as a whole where :func:`stamp_of` is."""
    return VENV / name


def stamp_of(name: str) -> Path:
    """An empty file, newer than the requirements: that the environment is made."""
    return VENV / f".{name}"


def absence_of(name: str) -> Path:
    """A text file: why there is no environment."""
    return VENV / f"{name}-absent.txt"


def variable_of(name: str) -> str:
    """The variable that names the Python of another environment."""
    return f"LATENTSCALE_{name.upper()}_PYTHON"


def python_of(name: str) -> str:
    """The Python of an environment; skips a test where there is none, with the reason."""
    named = os.environ.get(variable_of(name))
    if named:
        return named
    if stamp_of(name).exists():
        return str(folder_of(name) / "bin" / "python")
    why = absence_of(name)
    reason = why.read_text() if why.exists() else f"`{TARGETS[name]}` was not called"
    pytest.skip(f"no environment with {name}, and {variable_of(name)} names none: {reason}")
