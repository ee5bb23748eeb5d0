"""Check a model on a sample of the documents before it embeds all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latentscale.embedders import EmbedderSpec
from latentscale.stages.context import StageContext
from latentscale.storage.parquet import read_parquet
from latentscale.storage.snapshot import Shard

# One file may not be representative of a corpus; each further shard is another read.
SHARDS = 4
_SEED = 0


def shards_to_sample(count: int) -> list[int]:
    """Choose up to four of ``count`` shards, evenly spaced."""
    return sorted({int(at) for at in np.linspace(0, count - 1, min(count, SHARDS))})


def check_on_documents(
    context: StageContext, *, spec: EmbedderSpec, text_column: str, shards: Sequence[Shard]
) -> Mapping[str, Any]:
    """Run a model's check on documents of ``shards``.

    Parameters
    ----------
    context : StageContext
        Provides the store and the device.
    text_column : str
        Stored name of the text column.
    shards : sequence of Shard

    Returns
    -------
    mapping
        Result of ``spec.check``.

    Raises
    ------
    ConfigError
        If the model cannot be used for these documents.
    """
    texts = sample_texts(context, text_column, shards, spec.check_rows)
    return spec.check(texts, context.device)


def sample_texts(context: StageContext, text_column: str, shards: Sequence[Shard], rows: int) -> list[str]:
    """Draw at most ``rows`` distinct texts, about equally many from each shard, with a fixed seed."""
    found: dict[str, None] = {}
    for number, shard in enumerate(shards):
        column = read_parquet(context.store, shard.name, [text_column]).column(0).unique()
        order = np.random.default_rng(_SEED).permutation(len(column))
        # Later shards make up for short ones.
        share = -(-(rows - len(found)) // (len(shards) - number))
        for at in order[:share]:
            found[column[int(at)].as_py()] = None
    found.pop("", None)
    return list(found)[:rows]
