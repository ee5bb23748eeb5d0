"""The static embedding model that ships with the package, and the tool that makes it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

STATIC_MODEL = "minilm-static-en"
"""Directory name and public id of the shipped model."""


def static_model_path() -> Path:
    """Return the directory of the shipped static model (``model.safetensors``, ``tokenizer.json``, ``config.json``)."""
    return Path(str(files(__name__) / STATIC_MODEL))
