"""The static embedding model that ships with the package, and the tool that makes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

STATIC_MODEL = "minilm-static-en"
"""Directory name and public id of the shipped model."""


def static_model_path() -> Path:
    """Return the directory of the shipped static model (``model.safetensors``, ``tokenizer.json``, ``config.json``)."""
    return Path(str(files(__name__) / STATIC_MODEL))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedModel:
    """A model that comes with the package.

    Attributes
    ----------
    name : str
        Value of ``embed.model``.
    dim : int
    bytes : int
        Of all its files.
    description : str
    path : Path
    """

    name: str
    dim: int
    bytes: int
    description: str
    path: Path


def shipped_models() -> list[ShippedModel]:
    """List the models that come with the package."""
    path = static_model_path()
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return [
        ShippedModel(
            name="static",
            dim=int(config["hidden_dim"]),
            bytes=sum(file.stat().st_size for file in path.iterdir()),
            description="English word pieces, distilled from all-MiniLM-L6-v2",
            path=path,
        )
    ]
