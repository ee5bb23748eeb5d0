"""The corpus that ships with the package: descriptions of 8,000 Debian packages."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def corpus_path() -> Path:
    """Return the path of the demo corpus, a parquet file whose documents are in the column ``text``."""
    return Path(str(files(__name__) / "debian-packages.parquet"))
