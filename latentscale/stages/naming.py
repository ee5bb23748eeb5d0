"""Name clusters with a labeler: receipts, spending, and tests of the labels on held-out documents."""

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
from latentscale.labelers.naming import Naming, NamingResult
from latentscale.services.terms import ServiceTerms
from latentscale.stages.cluster import Clusters
from latentscale.stages.label_evidence import EvidenceSet, held_out_vectors
from latentscale.stages.label_request import LabelsRequest
from latentscale.stages.stage import StageContext
from latentscale.storage.artifacts import Record, find_record
from latentscale.storage.spending import SpendingLog, delete_spending, read_spending


@dataclass(slots=True)
class NamingReport:
    """Notes and spending of a labeler, for the record."""

    notes: list[str] = field(default_factory=list[str])
    spending: dict[str, Any] = field(default_factory=dict[str, Any])


def name_clusters(
    context: StageContext, request: LabelsRequest, record: Record, clusters: Clusters, evidence: EvidenceSet
) -> tuple[NamingResult, NamingReport]:
    """Name all clusters; clusters with a stored answer are not asked again.

    Raises
    ------
    LatentScaleError
        If the labeler cannot continue; its answers so far are kept.
    """
    kind = labeler_class(request.method)
    config = LabelConfig(
        method=request.method, exemplars=request.exemplars, options={**request.options, **request.transport}
    )
    report = NamingReport()
    terms = kind.terms(config) if asks_a_model(kind) else None
    with _count_spending(context, terms, report) as spending:

        def open_labeler() -> Labeler:
            if context.replicas is not None and runs_in_the_job(kind):
                labeler: Labeler = kind.open_on_cluster(config, context.replicas)
            else:
                labeler = kind.open(config, context.device)
            if spending is not None:
                getattr(labeler, "count_with")(spending)  # noqa: B009 - only a service has it
            return labeler

        naming = Naming(
            context.store,
            open_labeler,
            identity={"name": request.method, **request.labeler},
            keeps_receipts=kind.keeps_receipts,
            evidence=evidence.evidence,
            settled=_column_names(clusters, evidence),
            again=int(request.options.get("again", 0)) if asks_a_model(kind) else 0,
            progress=context.progress,
        )
        try:
            naming.ask()
            if asks_a_model(kind):
                naming.distinguish(evidence.groups)
                if kind.tests_held_out(config):
                    _test_on_held_out(context, record, clusters, evidence, naming, request, report)
        finally:
            if naming.opened is not None:
                report.notes += getattr(naming.opened, "notes", [])
                close = getattr(naming.opened, "close", None)
                if close is not None:
                    close()
    return naming.named, report


def _column_names(clusters: Clusters, evidence: EvidenceSet) -> dict[int, Label]:
    """Label clusters that come from a column by its values."""
    if "name" not in clusters.tree.column_names:
        return {}
    names = clusters.tree["name"].to_pylist()
    return {
        index: Label(label=str(names[cluster.cluster]), source="column")
        for index, cluster in enumerate(evidence.evidence)
        if cluster.layer == 0
    }


def _test_on_held_out(
    context: StageContext,
    record: Record,
    clusters: Clusters,
    evidence: EvidenceSet,
    naming: Naming,
    request: LabelsRequest,
    report: NamingReport,
) -> None:
    """Test the labels on held-out documents, if the map's embedder can embed labels here at no cost."""
    embed = _embedder(context, record, report)
    if embed is not None:
        documents = held_out_vectors(evidence, clusters.row_ids, seed=request.seed)
        naming.test(HeldOutTest(documents, evidence.nearest, embed), evidence.groups)


def _embedder(context: StageContext, record: Record, report: NamingReport) -> Embed | None:
    embedding = find_record(context.store, "embedding", str(record.request["embedding"]))
    reason = None
    if embedding is None or "spec" not in embedding.choices:
        reason = "the record of the embedding names no model"
    else:
        spec = read_spec(embedding.choices["spec"])
        if spec.reads == "vectors":
            reason = "the vectors came with the corpus"
        elif spec.terms is not None:
            reason = "the map's embedder is a service"
        else:
            try:
                return _embed_with(opened_embedder(spec, context.device))
            except MissingPackageError as error:
                reason = error.message
    report.notes.append(f"Labels were not tried on held-out documents: {reason}.")
    return None


def _embed_with(embedder: Any) -> Embed:
    # Labels are short texts, like search queries.
    embed_texts = getattr(embedder, "embed_queries", embedder.embed)

    def embed(texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        embedded = embed_texts(list(texts))
        return np.asarray(embedded.vectors, np.float32), np.asarray(embedded.embeddable, np.bool_)

    return embed


@contextmanager
def _count_spending(
    context: StageContext, terms: ServiceTerms | None, report: NamingReport
) -> Generator[SpendingLog | None]:
    """Record the spending of a labeler, also after a failure: in a notice, and for the record."""
    if terms is None or context.run is None:
        yield None
        return
    log = SpendingLog(context.store, context.run, terms)
    try:
        yield log
    finally:
        # An unreadable log must not hide the error of the labeler.
        with suppress(LatentScaleError):
            log.write()
            spent = read_spending(context.store, context.run)
            if spent.requests:
                figures = {"requests": spent.requests, "tokens": spent.tokens, "output_tokens": spent.output_tokens}
                cost = spent.cost(terms)
                report.spending |= figures if cost is None else {**figures, "cost": round(cost, 6)}
                context.notice(spent.describe(terms))
            delete_spending(context.store, context.run)
