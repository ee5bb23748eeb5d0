"""What all tests share: small real corpora, and workspaces made from them once a session."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from latentscale.demo import corpus_path

# Tests must not depend on what a developer has set.
for name in ("LATENTSCALE_DEBUG", "NO_COLOR", "FORCE_COLOR"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def demo() -> pl.DataFrame:
    """The demo corpus."""
    return pl.read_parquet(corpus_path())


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory, demo: pl.DataFrame) -> Path:
    """600 documents of six sections, as parquet."""
    sections = ["games", "perl", "science", "mail", "fonts", "electronics"]
    chosen = demo.filter(pl.col("section").is_in(sections)).sort("package").gather_every(2).head(600)
    path = tmp_path_factory.mktemp("corpus") / "packages.parquet"
    chosen.write_parquet(path)
    return path
