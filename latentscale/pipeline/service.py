"""A service that embeds, as a run sees it: asked once before the first shard, and what it cost in the end."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from latentscale.errors import EnvironmentFailure, LatentScaleError, WorkspaceError
from latentscale.pipeline.context import RunContext
from latentscale.storage.answers import forget_written, model_key
from latentscale.storage.artifacts import find_record
from latentscale.storage.spending import delete_spending, read_spending


def probe_service(context: RunContext, embedding_id: str) -> list[float] | None:
    """Ask the service for one vector, where the embedder is one, so that a wrong key or name is found at once.

    Returns
    -------
    list of float or None
        The beginning of that vector, for the record.

    Raises
    ------
    ConfigError
        If the address, the model, the key or an option is wrong.
    EnvironmentFailure
        If it does not answer this machine, which is also where it will be asked.
    WorkspaceError
        If its model is another one than that of the vectors that are there.
    """
    try:
        probed = context.spec.probe()
    except EnvironmentFailure as error:
        if context.config.engine.name == "local":
            raise
        # The driver of a cluster may be a laptop that does not reach what the nodes do.
        context.observer.note(
            f"the embedding service is left to the workers, it cannot be asked from here: {error.message}"
        )
        return None
    if probed is None:
        return None
    context.observer.note(probed.note)
    record = find_record(context.store, "embedding", embedding_id)
    before = record.choices.get("probe") if record else None
    if before is not None and not probed.resembles(before):
        raise WorkspaceError(
            f"{context.spec.name} of the embedding service is another model than the one that made the vectors of "
            f"{embedding_id}: the same text has another vector",
            where=context.store.url,
            hint="Have the service use the old model again, or make new vectors: --set embed.options.revision=2",
        )
    return list(probed.sample)


@contextmanager
def counted_spending(context: RunContext, embedding_id: str) -> Generator[dict[str, Any]]:
    """Count what the workers spend meanwhile, in the run's record and in a note, however it ends.

    Answers that a killed run left of finished shards are deleted first, also where nothing is left to do.

    Yields
    ------
    dict
        Filled at the end: ``requests``, ``tokens``, and ``cost`` where the price is known.
    """
    terms = context.spec.terms
    figures: dict[str, Any] = {}
    if terms is None:
        yield figures
        return
    forget_written(context.store, model_key(context.spec.identity()), embedding_id)
    try:
        yield figures
    finally:
        # What the stage failed by matters more than a count that cannot be read.
        with suppress(LatentScaleError):
            spent = read_spending(context.store, context.run.id)
            if spent.requests:
                figures |= {"requests": spent.requests, "tokens": spent.tokens}
                if terms.price_per_million_tokens is not None:
                    figures["cost"] = round(spent.tokens * terms.price_per_million_tokens / 1e6, 6)
                context.run.facts["spending"] = figures
                context.observer.note(spent.describe(terms))
            delete_spending(context.store, context.run.id)
