"""Plan a job: shards, gigabytes and minutes of each stage, and a refusal of what cannot fit."""

from __future__ import annotations

from dataclasses import dataclass, field

from latentscale.config import JobConfig, protocol_of
from latentscale.embedders import embedder_spec
from latentscale.errors import ResourceError
from latentscale.machine import Place, available_memory, available_processors
from latentscale.pipeline.estimate import estimate_documents, text_bytes
from latentscale.pipeline.label_quote import LabelQuote, quote_labels
from latentscale.pipeline.preflight import COMMON_WIDTH, GB, PROCESS_BYTES, check_disk, check_place, stage_costs
from latentscale.readers.check import check_corpus
from latentscale.readers.inputs import list_inputs
from latentscale.registry import stage_entry
from latentscale.services.terms import ServiceTerms
from latentscale.stages.ingest import plan_ingest
from latentscale.stages.stage import JobSize
from latentscale.storage.objects import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """Estimated cost of one stage.

    Attributes
    ----------
    shards : int
        0 for a stage that works on the whole set at once.
    disk_gb, memory_gb, minutes : float
        Estimates.
    """

    stage: str
    shards: int
    disk_gb: float
    memory_gb: float
    minutes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """Estimated cost of a job.

    Attributes
    ----------
    documents : int
    basis : str
        How the number of documents is known.
    files, input_gb
        Of the corpus.
    stages : list of StagePlan
    notes : list of str
    labels : LabelQuote or None
        What a service will bill for labels, where one gives them.
    """

    documents: int
    basis: str
    files: int
    input_gb: float
    stages: list[StagePlan]
    notes: list[str] = field(default_factory=list[str])
    labels: LabelQuote | None = None


def _service_note(terms: ServiceTerms, size: JobSize, limit: int) -> str:
    """What an embedding service will bill, at most: all columns are counted as text, at four bytes a token."""
    tokens = int(min(size.text_bytes / 4, float(size.documents * limit)))
    price = terms.price_per_million_tokens
    cost = "" if price is None else f", {tokens * price / 1e6:.2g} at {price:g} a million"
    return f"The embedding service will bill about {tokens:,} tokens at most{cost}."


def plan_job(config: JobConfig) -> JobPlan:
    """Inspect the corpus and estimate each stage. Nothing is written.

    Raises
    ------
    LatentScaleError
        If the corpus or the settings are wrong, as a run would say.
    """
    listed: list[str] = []
    inputs = list_inputs(config.corpus, listed)
    check = check_corpus(inputs, config.corpus, config.ingest)
    # Only the number of units counts: no file need be read for what it is recognised by.
    units = plan_ingest(inputs, config.corpus, config.ingest.model_copy(update={"fingerprint": "stat"}))
    documents, basis = estimate_documents(inputs, config, check)
    spec = embedder_spec(config.embed, vectors_column=config.corpus.vectors_column())
    size = JobSize(documents=documents, dim=spec.dimensions or COMMON_WIDTH, text_bytes=text_bytes(inputs))
    shards = max(len(units), -(-documents // config.ingest.shard_rows))
    processors = config.engine.threads or available_processors()
    costs = stage_costs(config, size)
    planned = [
        StagePlan(
            stage=name,
            shards=shards if stage_entry(name).unit == "shard" else 0,
            disk_gb=round(cost.disk_bytes / GB, 4),
            memory_gb=round((PROCESS_BYTES + cost.memory_bytes) / GB, 2),
            minutes=round(cost.cpu_seconds / (processors if cost.parallel else 1) / 60, 3),
        )
        for name, cost in costs.items()
    ]
    notes = [
        f"On {processors} processors. Rates were measured on another machine: read the times as orders of magnitude."
    ]
    notes += [*listed, *check.notes]
    if spec.terms is not None:
        notes.append(_service_note(spec.terms, size, spec.token_limit or 0))
    store = Store(config.out) if not protocol_of(config.out) else None
    quoted = quote_labels(config, documents, store)
    if quoted is not None:
        notes.append(quoted[1])
    try:
        check_disk(store, sum(c.disk_bytes for c in costs.values()))
        for name, cost in costs.items():
            check_place(name, cost, Place(memory_bytes=available_memory()), size)
    except ResourceError as error:
        notes.append(f"This machine cannot do it: {error.message}")
    return JobPlan(
        documents=documents,
        basis=basis,
        files=len(inputs),
        input_gb=round(int(inputs.sizes.sum()) / GB, 4),
        stages=planned,
        notes=notes,
        labels=None if quoted is None else quoted[0],
    )
