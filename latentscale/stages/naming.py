"""Have a labeler name clusters: its receipts, what it costs, and the tests of its labels."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentscale.config import LabelConfig
from latentscale.embedders import opened_embedder, read_spec
from latentscale.errors import LatentScaleError, MissingPackageError
from latentscale.labelers import Label, Labeler, labeler_class
from latentscale.labelers.held_out import Embed, HeldOutTest
from latentscale.labelers.model import asks_a_model, runs_in_the_job
from latentscale.labelers.naming import Named, Naming
from latentscale.services.terms import ServiceTerms
from latentscale.stages.cluster import Clusters
from latentscale.stages.label_evidence import Gathered, held_out_vectors
from latentscale.stages.label_request import LabelsRequest
from latentscale.stages.stage import StageContext
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.spending import SpendingLog, forget_spending, read_spending


@dataclass(slots=True)
class Said:
    """What the record says of how labels were asked for."""

    notes: list[str] = field(default_factory=list[str])
    spending: dict[str, Any] = field(default_factory=dict[str, Any])


def name_clusters(
    context: StageContext, request: LabelsRequest, clusters: Record, found: Clusters, gathered: Gathered
) -> tuple[Named, Said]:
    """Name all clusters; those whose answers are there are not asked for again.

    Raises
    ------
    LatentScaleError
        If the labeler cannot continue; the answers that it gave are kept.
    """
    kind = labeler_class(request.method)
    config = LabelConfig(
        method=request.method, exemplars=request.exemplars, options={**request.options, **request.transport}
    )
    said = Said()
    terms = kind.terms(config) if asks_a_model(kind) else None
    with _counted(context, terms, said) as spending:

        def opened() -> Labeler:
            if context.replicas is not None and runs_in_the_job(kind):
                labeler: Labeler = kind.open_on_cluster(config, context.replicas)
            else:
                labeler = kind.open(config, context.device)
            if spending is not None:
                getattr(labeler, "count_with")(spending)  # noqa: B009 - only a service has it
            return labeler

        naming = Naming(
            context.store,
            opened,
            identity={"name": request.method, **request.labeler},
            keeps_receipts=kind.keeps_receipts,
            evidence=gathered.evidence,
            settled=_column_names(found, gathered),
            again=int(request.options.get("again", 0)) if asks_a_model(kind) else 0,
            progress=context.progress,
        )
        try:
            naming.ask()
            if asks_a_model(kind):
                naming.distinguish(gathered.groups)
                if kind.tests_held_out(config):
                    _test(context, clusters, found, gathered, naming, request, said)
        finally:
            if naming.opened is not None:
                said.notes += getattr(naming.opened, "notes", [])
                close = getattr(naming.opened, "close", None)
                if close is not None:
                    close()
    return naming.named, said


def _column_names(found: Clusters, gathered: Gathered) -> dict[int, Label]:
    """Clusters that are a column's values are called by those values."""
    if "name" not in found.tree.column_names:
        return {}
    names = found.tree["name"].to_pylist()
    return {
        at: Label(label=str(names[one.cluster]), source="column")
        for at, one in enumerate(gathered.evidence)
        if one.layer == 0
    }


def _test(
    context: StageContext,
    clusters: Record,
    found: Clusters,
    gathered: Gathered,
    naming: Naming,
    request: LabelsRequest,
    said: Said,
) -> None:
    """Try the labels on held-out documents, where the map's embedder can embed them here and for nothing."""
    embed = _embedder(context, clusters, said)
    if embed is not None:
        documents = held_out_vectors(gathered, found.row_ids, seed=request.seed)
        naming.test(HeldOutTest(documents, gathered.near, embed), gathered.groups)


def _embedder(context: StageContext, clusters: Record, said: Said) -> Embed | None:
    record = find_record(context.store, "embedding", str(clusters.request["embedding"]))
    reason = None
    if record is None or "spec" not in record.choices:
        reason = "the record of the embedding names no model"
    else:
        spec = read_spec(record.choices["spec"])
        if spec.reads == "vectors":
            reason = "the vectors came with the corpus"
        elif spec.terms is not None:
            reason = "the map's embedder is a service"
        else:
            try:
                return _embed_with(opened_embedder(spec, context.device))
            except MissingPackageError as error:
                reason = error.message
    said.notes.append(f"Labels were not tried on held-out documents: {reason}.")
    return None


def _embed_with(embedder: Any) -> Embed:
    # A label is short, as the query of a search is.
    ask = getattr(embedder, "embed_queries", embedder.embed)

    def embed(texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        found = ask(list(texts))
        return np.asarray(found.vectors, np.float32), np.asarray(found.embeddable, np.bool_)

    return embed


@contextmanager
def _counted(context: StageContext, terms: ServiceTerms | None, said: Said) -> Generator[SpendingLog | None]:
    """Count what labels cost, however they end: in a note, and for the record."""
    if terms is None or context.run is None:
        yield None
        return
    log = SpendingLog(context.store, context.run, terms)
    try:
        yield log
    finally:
        # What the labels failed by matters more than a count that cannot be read.
        with suppress(LatentScaleError):
            log.write()
            spent = read_spending(context.store, context.run)
            if spent.requests:
                figures = {"requests": spent.requests, "tokens": spent.tokens, "output_tokens": spent.output_tokens}
                cost = spent.cost(terms)
                said.spending |= figures if cost is None else {**figures, "cost": round(cost, 6)}
                context.notice(spent.describe(terms))
            forget_spending(context.store, context.run)
