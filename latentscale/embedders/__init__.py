"""Embedders: a spec that says what a model is without loading it, and the model that embeds."""

from __future__ import annotations

from latentscale.config import EmbedConfig
from latentscale.embedders.protocol import Embedded, Embedder
from latentscale.embedders.spec import EmbedderSpec, embedder_spec, opened_embedder, read_spec
from latentscale.errors import ConfigError

__all__ = ["Embedded", "Embedder", "EmbedderSpec", "embedder_spec", "open_embedder", "opened_embedder", "read_spec"]


def open_embedder(model: str = "static", *, max_tokens: int = 512) -> Embedder:
    """Open the embedder of texts that ``model`` names.

    Parameters
    ----------
    model : str
        As ``embed.model``: ``"static"`` for the shipped model, the folder of a model2vec model in safetensors, or the
        name of an embedder that another package adds.
    max_tokens : int
        Tokens of a text that count.

    Raises
    ------
    ConfigError
        If there is no such embedder, the folder does not hold a model, or ``model`` is ``"column"``, which has no
        texts to embed.
    """
    if model == "column":
        raise ConfigError(
            "the column embedder reads vectors that the corpus has, and cannot embed a text",
            hint="To embed or search texts, use embed.model=static or the folder of a model.",
        )
    return embedder_spec(EmbedConfig(model=model, max_tokens=max_tokens)).open()
