"""Embedders by name, each imported when it is first asked for."""

from __future__ import annotations

import difflib
from pathlib import Path

from latentscale.embedders.protocol import Embedded, Embedder
from latentscale.errors import ConfigError

__all__ = ["NAMES", "Embedded", "Embedder", "check_model", "open_embedder"]

NAMES = ("static", "column")
"""Values of ``embed.model`` besides the folder of a model2vec model."""


def open_embedder(model: str = "static", *, max_tokens: int = 512) -> Embedder:
    """Open the embedder that ``model`` names.

    Parameters
    ----------
    model : str
        ``"static"`` for the shipped model, or the folder of a model2vec model in safetensors.
    max_tokens : int
        Tokens of a text that count.

    Raises
    ------
    ConfigError
        If there is no such embedder, the folder does not hold a model, or ``model`` is ``"column"``, which has no
        texts to embed (see :mod:`latentscale.embedders.column`).
    """
    from latentscale.embedders.static import StaticEmbedder

    check_model(model)
    if model == "column":
        raise ConfigError(
            "the column embedder reads vectors that the corpus has, and cannot embed a text",
            hint="To embed or search texts, use embed.model=static or the folder of a model.",
        )
    if model == "static":
        return StaticEmbedder(max_tokens=max_tokens)
    return StaticEmbedder(model, max_tokens=max_tokens)


def check_model(model: str) -> None:
    """Refuse a model that is neither a name nor a folder, without loading anything.

    Raises
    ------
    ConfigError
        With the nearest name.
    """
    if model in NAMES or Path(model).is_dir():
        return
    near = difflib.get_close_matches(model, NAMES, n=1)
    raise ConfigError(
        f"there is no embedder {model!r}, and no folder of that name",
        where="embed.model",
        hint=(f"Did you mean {near[0]!r}? " if near else "")
        + f"Use one of {', '.join(NAMES)}, or the folder of a model2vec model.",
    )
