"""The static embedding model shipped with the package, tools that make models, and access to the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from latentscale.errors import ConfigError

STATIC_MODELS = {"1": "minilm-static-en", "2": "minilm-static-en-2"}
"""Directory of each revision of the shipped model. All are kept: updates and searches use the revision of the map."""

FIRST_REVISION = "1"
"""Revision of maps without a recorded one, made before the second revision."""

STATIC_REVISION = "2"
"""Revision for new maps."""


def static_model_path(revision: str = STATIC_REVISION) -> Path:
    """Return the directory of the shipped static model (``model.safetensors``, ``tokenizer.json``, ``config.json``).

    Raises
    ------
    ConfigError
        If this version ships no such revision.
    """
    if revision not in STATIC_MODELS:
        raise ConfigError(
            f"the shipped model has no revision {revision!r}",
            where="embed.options.revision",
            hint=f"Use one of {', '.join(STATIC_MODELS)}, or leave it out for {STATIC_REVISION}.",
        )
    return Path(str(files(__name__) / STATIC_MODELS[revision]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedModel:
    """A model shipped with the package.

    Attributes
    ----------
    name : str
        Value of ``embed.model``.
    dim : int
    bytes : int
        Total size of its files.
    description : str
    path : Path
    """

    name: str
    dim: int
    bytes: int
    description: str
    path: Path


def shipped_models() -> list[ShippedModel]:
    """List the models shipped with the package."""
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
