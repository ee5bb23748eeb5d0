"""Run a model's check on a sample of the documents before it embeds all of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from latentscale.embedders import EmbedderSpec
from latentscale.pipeline.context import RunContext
from latentscale.stages.context import StageContext
from latentscale.stages.embed import EmbeddingRequest
from latentscale.stages.embed_check import check_on_documents, shards_to_sample
from latentscale.storage.snapshot import ShardTable


def check_model(
    context: RunContext, spec: EmbedderSpec, request: EmbeddingRequest, pending: ShardTable
) -> Mapping[str, Any]:
    """Run a model's check, once, where its workers run, and report the result.

    Parameters
    ----------
    pending : ShardTable
        Shards to be embedded.

    Returns
    -------
    mapping
        Result for the record of the embedding; empty for models without a check.

    Raises
    ------
    ConfigError
        If the model cannot be used for these documents.
    """
    if not spec.check_rows:
        return {}
    shards = [pending[at] for at in shards_to_sample(len(pending))]
    checked = context.engine.call(
        partial(check_on_documents, spec=spec, text_column=request.text, shards=shards),
        StageContext(store=context.store, run=context.run.id),
        stage="embed",
    )
    context.observer.note(str(checked["summary"]), check=checked)
    return checked
