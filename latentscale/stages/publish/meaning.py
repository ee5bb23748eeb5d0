"""Data for semantic search on the page: vectors, the model's tokens, and sample queries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.embedders import EmbedderSpec, opened_embedder, read_spec
from latentscale.errors import ConfigError
from latentscale.storage.artifacts import Record
from latentscale.viewer.meaning import Meaning

# Number of keyphrases used as sample queries.
_MOST_PHRASES = 128
_SEED = 0


def check_semantic(spec: EmbedderSpec) -> None:
    """Check before any work that the page can embed queries.

    Raises
    ------
    ConfigError
        If the model is not a static one with BERT's tokenizer.
    """
    table = getattr(opened_embedder(spec), "token_table", None) if spec.kind == "static" else None
    if table is None or table() is None:
        reason = "its tokenizer is not BERT's" if table else "only static models are small enough for a browser"
        raise ConfigError(
            f"the page cannot embed a query with {spec.name}: {reason}",
            where="publish.semantic",
            hint="Leave publish.semantic out, and search from the command line: latentscale search WORKSPACE 'words'.",
        )


def meaning_of(embedding: Record, vectors: NDArray[np.float32], labels: pa.Table, *, first: bool = True) -> Meaning:
    """Build the semantic search data of a generation of tiles.

    Parameters
    ----------
    vectors : float32 ndarray, shape (n, d)
    labels : pyarrow.Table
        Its keyphrases of several words are the sample queries.
    first : bool
        Whether to include the model's tokens; generations of updates use those of the fit.
    """
    embedder = opened_embedder(read_spec(embedding.choices["spec"]))
    phrases = sorted(
        {phrase for keyphrases in labels["keyphrases"].to_pylist() for phrase in keyphrases or () if " " in phrase}
    )
    if len(phrases) > _MOST_PHRASES:
        chosen = np.random.default_rng(_SEED).choice(len(phrases), _MOST_PHRASES, replace=False)
        phrases = [phrases[i] for i in np.sort(chosen)]
    embedded = embedder.embed(phrases)
    return Meaning(
        vectors=vectors,
        queries=embedded.vectors[embedded.embeddable],
        tokens=embedder.token_table() if first else None,
    )
