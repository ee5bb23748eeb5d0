"""Show a model some of the documents before it embeds all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latentscale.embedders import EmbedderSpec
from latentscale.stages.context import StageContext
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshot import Shard

# Of documents from one file alone a corpus may be badly judged; each further shard is one more read.
SHARDS = 4
_SEED = 0


def shards_to_sample(count: int) -> list[int]:
    """Which of ``count`` shards the documents come from: up to four, evenly spaced."""
    return sorted({int(at) for at in np.linspace(0, count - 1, min(count, SHARDS))})


def check_on_documents(
    context: StageContext, *, spec: EmbedderSpec, text_column: str, shards: Sequence[Shard]
) -> Mapping[str, Any]:
    """Run the check of a model on documents of ``shards``.

    Parameters
    ----------
    context : StageContext
        The store and the device where this runs.
    text_column : str
        Of the shards.
    shards : sequence of Shard

    Returns
    -------
    mapping
        What ``spec.check`` returns.

    Raises
    ------
    ConfigError
        If the model cannot be used for these documents.
    """
    texts = sample_texts(context, text_column, shards, spec.check_rows)
    return spec.check(texts, context.device)


def sample_texts(context: StageContext, text_column: str, shards: Sequence[Shard], rows: int) -> list[str]:
    """Different texts, at most ``rows``, about as many from each shard, drawn with a fixed seed."""
    found: dict[str, None] = {}
    for number, shard in enumerate(shards):
        column = read_parquet(context.store, shard.name, [text_column]).column(0).unique()
        order = np.random.default_rng(_SEED).permutation(len(column))
        # What short shards lack, the later ones give.
        share = -(-(rows - len(found)) // (len(shards) - number))
        for at in order[:share]:
            found[column[int(at)].as_py()] = None
    found.pop("", None)
    return list(found)[:rows]
