"""Embedders: a spec, which describes a model without loading it, and the loaded model."""

from __future__ import annotations

from latentscale.config import EmbedConfig
from latentscale.embedders.protocol import Embedded, Embedder
from latentscale.embedders.spec import EmbedderSpec, embedder_spec, opened_embedder, read_spec
from latentscale.errors import ConfigError

__all__ = ["Embedded", "Embedder", "EmbedderSpec", "embedder_spec", "open_embedder", "opened_embedder", "read_spec"]


def open_embedder(model: str = "static", *, max_tokens: int = 512) -> Embedder:
    """Open a text embedder.

    Parameters
    ----------
    model : str
        Value of ``embed.model``: ``"static"`` for the shipped model, the folder of a model2vec model in safetensors, or
        the name of an embedder of another package.
    max_tokens : int
        Maximum number of tokens of a text; the rest is truncated.

    Raises
    ------
    ConfigError
        If there is no such embedder, the folder does not contain a model, or ``model`` is ``"column"``, which does not
        embed texts.
    """
    if model == "column":
        raise ConfigError(
            "the column embedder reads vectors that the corpus has, and cannot embed a text",
            hint="To embed or search texts, use embed.model=static or the folder of a model.",
        )
    return embedder_spec(EmbedConfig(model=model, max_tokens=max_tokens)).open()
