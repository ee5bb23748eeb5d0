"""Ingesting small corpora."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corpora import Ingested


@pytest.fixture
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ingested]:
    """Ingests files into a workspace of its own."""
    return lambda *sources, **settings: Ingested(tmp_path_factory.mktemp("workspace"), sources, settings)
