"""The synthetic map, as fixtures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import load


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """``tests/viewer/synthetic.py``."""
    return load("viewer_synthetic", Path(__file__).with_name("synthetic.py"))
