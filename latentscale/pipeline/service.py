"""Embedding services in a run: a test request before the first shard, and the spending afterwards."""

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
    """If the embedder is a service, request one vector, so that a wrong key or model name fails immediately.

    Returns
    -------
    list of float or None
        The first components of that vector, for the record; None without a service.

    Raises
    ------
    ConfigError
        If the address, the model, the key or an option is wrong.
    EnvironmentFailure
        If it does not respond, and this machine is also where the vectors will be requested.
    WorkspaceError
        If its model differs from the one that made the existing vectors.
    """
    try:
        probed = context.spec.probe()
    except EnvironmentFailure as error:
        if context.config.engine.name == "local":
            raise
        # The driver of a cluster may be a laptop without access to services that the nodes can reach.
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
    """Record the workers' spending on the service in the run record and a note, also after a failure.

    Cached answers for finished shards that a killed run left are deleted first.

    Yields
    ------
    dict
        Filled at exit: ``requests``, ``tokens``, and ``cost`` if the price is known.
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
        # An unreadable count must not hide the failure of the stage.
        with suppress(LatentScaleError):
            spent = read_spending(context.store, context.run.id)
            if spent.requests:
                figures |= {"requests": spent.requests, "tokens": spent.tokens}
                if terms.price_per_million_tokens is not None:
                    figures["cost"] = round(spent.tokens * terms.price_per_million_tokens / 1e6, 6)
                context.run.facts["spending"] = figures
                context.observer.note(spent.describe(terms))
            delete_spending(context.store, context.run.id)
