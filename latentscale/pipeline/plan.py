"""Plan a job: shards, gigabytes and minutes of each stage, and a refusal of what cannot fit."""

from __future__ import annotations

from dataclasses import dataclass, field

from latentscale import machine
from latentscale.config import JobConfig, protocol_of
from latentscale.embedders import embedder_spec
from latentscale.embedders.catalog import recommended_models
from latentscale.errors import ConfigError, ResourceError
from latentscale.machine import available_processors
from latentscale.models.hub_fetch import NotFetchedError, nothing_fetched
from latentscale.pipeline.calibrate import core_speed
from latentscale.pipeline.estimate import estimate_size
from latentscale.pipeline.label_quote import LabelQuote, quote_labels
from latentscale.pipeline.preflight import (
    COMMON_WIDTH,
    GB,
    PROCESS_BYTES,
    check_disk,
    check_place,
    here_within,
    stage_costs,
)
from latentscale.readers.check import check_corpus
from latentscale.readers.inputs import list_inputs
from latentscale.registry import stage_entry
from latentscale.services.terms import ServiceTerms
from latentscale.stages.ingest import plan_ingest
from latentscale.stages.previewed import preview_cost
from latentscale.stages.publish.preview import NAME as PREVIEW
from latentscale.stages.stage import USUAL_BYTES, Cost, JobSize
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
    cpu_seconds : float
        Of all processors together.
    """

    stage: str
    shards: int
    disk_gb: float
    memory_gb: float
    minutes: float
    cpu_seconds: float = 0.0


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
    cpu_seconds, memory_gb : float
        Of the whole job: processor time of all stages, and the most memory that one of them takes.
    possible : bool
        Whether memory and disk suffice here, as far as the estimate tells; `run` refuses what is not.
    """

    documents: int
    basis: str
    files: int
    input_gb: float
    stages: list[StagePlan]
    notes: list[str] = field(default_factory=list[str])
    labels: LabelQuote | None = None
    cpu_seconds: float = 0.0
    memory_gb: float = 0.0
    possible: bool = True


def _service_note(terms: ServiceTerms, size: JobSize, limit: int) -> str:
    """What an embedding service will bill, at most: all columns are counted as text, at four bytes a token."""
    tokens = int(min(size.text_bytes / 4, float(size.documents * limit)))
    price = terms.price_per_million_tokens
    cost = "" if price is None else f", {tokens * price / 1e6:.2g} at {price:g} a million"
    return f"The embedding service will bill about {tokens:,} tokens at most{cost}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What is known of the embedder without fetching anything."""

    kind: str
    dimensions: int
    token_limit: int
    terms: ServiceTerms | None
    notes: tuple[str, ...] = ()


def _model_of(config: JobConfig) -> _Model:
    try:
        with nothing_fetched():
            spec = embedder_spec(config.embed, vectors_column=config.corpus.vectors_column())
            return _Model(
                kind=spec.kind,
                dimensions=spec.dimensions or COMMON_WIDTH,
                token_limit=spec.token_limit or 0,
                terms=spec.terms,
            )
    except NotFetchedError:
        name = config.embed.model
        known = next((one for one in recommended_models() if one.name == name), None)
        dimensions = (known and known.dimensions) or COMMON_WIDTH
        kind = config.embed.kind if config.embed.kind != "auto" else (known.kind if known else "transformers")
        note = (
            f"{name} is not on this machine, and a plan fetches nothing: it is taken for a model of {dimensions} "
            f"dimensions. `latentscale models pull {name}` brings it; so does the run."
        )
        return _Model(kind=kind, dimensions=dimensions, token_limit=config.embed.max_tokens, terms=None, notes=(note,))


def plan_job(
    config: JobConfig, *, documents: int | None = None, characters: int | None = None, gpus: int | None = None
) -> JobPlan:
    """Inspect the corpus, or assume one, and estimate each stage. Nothing is written, and nothing is fetched.

    About a second of work measures how fast this machine's cores are.

    Parameters
    ----------
    documents : int, optional
        Instead of those of the corpus, which is then not looked at.
    characters : int, optional
        Of a text on average, with ``documents``.
    gpus : int, optional
        By default those of this machine.

    Raises
    ------
    LatentScaleError
        If the corpus or the settings are wrong, as a run would say.
    """
    listed: list[str] = []
    files = input_bytes = units = 0
    if characters is not None and documents is None:
        raise ConfigError("characters go with a number of documents", hint="Add --documents, or leave them out.")
    if documents is not None:
        length = USUAL_BYTES if characters is None else characters
        if documents < 1 or length < 1:
            raise ConfigError(
                f"a plan for {documents:,} documents of {length:,} characters", hint="One or more of each."
            )
        basis, corpus_bytes = f"assumed, of {length:,} characters each", float(documents) * length
    else:
        inputs = list_inputs(config.corpus, listed)
        check = check_corpus(inputs, config.corpus, config.ingest)
        listed += check.notes
        # Only the number of units counts: no file need be read for what it is recognised by.
        units = len(plan_ingest(inputs, config.corpus, config.ingest.model_copy(update={"fingerprint": "stat"})))
        estimated = estimate_size(inputs, config, check)
        documents, basis, corpus_bytes = estimated.documents, estimated.basis, estimated.bytes
        files, input_bytes = len(inputs), int(inputs.sizes.sum())
    model = _model_of(config)
    asked = config.engine.resources.of("embed").gpus
    found = 0 if asked == 0 else len(machine.gpus()) if gpus is None else gpus
    size = JobSize(documents=documents, dim=model.dimensions, text_bytes=corpus_bytes, embedder=model.kind, gpus=found)
    shards = max(units, -(-documents // config.ingest.shard_rows))
    processors = config.engine.threads or available_processors()
    speed = core_speed()
    costs = stage_costs(config, size)
    planned = [
        StagePlan(
            stage=name,
            shards=shards if stage_entry(name).unit == "shard" else 0,
            disk_gb=round(cost.disk_bytes / GB, 4),
            memory_gb=round((PROCESS_BYTES + cost.memory_bytes) / GB, 2),
            minutes=round(_minutes(cost, name, processors, found, speed), 3),
            cpu_seconds=round(cost.cpu_seconds / speed, 1),
        )
        for name, cost in costs.items()
    ]
    gpu_words = f" and {found} GPU{'' if found == 1 else 's'}" if found else ""
    notes = [
        f"On {processors} processors{gpu_words}; a core of this machine is {speed:.2g} times as fast as the one on "
        "which the rates were measured. Take times of other machines as orders of magnitude."
    ]
    notes += [*listed, *model.notes]
    shown = preview_cost(size, config)
    if shown is not None:
        memory, file = (f"{one / 1e6:,.0f} MB" for one in (shown.memory_bytes, shown.file_bytes))
        notes.append(
            f"Stage project has the preview of the map in it ({PREVIEW}): about {shown.cpu_seconds / speed:,.1f} "
            f"CPU-s, {memory} of memory while a page is written, and {file} on disk until the map is done. "
            "project.preview=false leaves it out."
        )
    if model.terms is not None:
        notes.append(_service_note(model.terms, size, model.token_limit))
    store = Store(config.out) if not protocol_of(config.out) else None
    quoted = quote_labels(config, documents, store)
    if quoted is not None:
        notes.append(quoted[1])
    possible = True
    try:
        check_disk(store, sum(c.disk_bytes for c in costs.values()))
        for name, cost in costs.items():
            check_place(name, cost, here_within(config.engine), size)
    except ResourceError as error:
        possible = False
        notes.append(f"This machine cannot do it: {error.message}")
    return JobPlan(
        documents=documents,
        basis=basis,
        files=files,
        input_gb=round(input_bytes / GB, 4),
        stages=planned,
        notes=notes,
        labels=None if quoted is None else quoted[0],
        cpu_seconds=round(sum(one.cpu_seconds for one in planned), 1),
        memory_gb=max(one.memory_gb for one in planned),
        possible=possible,
    )


def _minutes(cost: Cost, stage: str, processors: int, found: int, speed: float) -> float:
    """Processors and GPUs work side by side; a stage over the whole set has one GPU."""
    shared = processors if cost.parallel else 1
    workers = found if stage_entry(stage).unit == "shard" else 1
    return max(cost.cpu_seconds / speed / shared, cost.gpu_seconds / max(workers, 1)) / 60
