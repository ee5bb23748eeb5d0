"""What the fault tests share: the harness, and workspaces that no fault has touched."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness


@pytest.fixture(scope="session")
def grown_corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> harness.Corpus:
    """A small corpus in several formats, and what becomes of it overnight."""
    return harness.Corpus(tmp_path_factory.mktemp("faults"), demo)


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory, grown_corpus: harness.Corpus) -> dict[str, harness.Reference]:
    """What `run`, and after it `update`, leave when nothing comes between."""
    return harness.references(tmp_path_factory.mktemp("whole"), grown_corpus)
